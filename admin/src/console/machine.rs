//! Machine mode: `SOH id SP command CR`, which a script sends on the same serial line that a
//! person may be typing on.
//!
//! ```text
//!          SOH            id char       SP             CR, LF
//!  Idle ---------> Start ---------> Id -----> Command ---------> a command
//!    ^              |                |           |
//!    +--------------+----------------+-----------+  anything that cannot be: given up
//! ```
//!
//! Ctrl-A is SOH, too, and a person's Home key: after SOH, a byte that no identifier begins with
//! means that a person pressed it.

use super::Line;
use crate::text::is_printable;

/// The byte that opens a command: SOH.
pub const OPEN: u8 = 0x01;

/// Opens the answer: STX.
pub(super) const ANSWER: u8 = 0x02;

/// Closes the answer: ETX.
pub(super) const CLOSE: u8 = 0x03;

/// Longest identifier in characters.
pub const ID_BYTES_MAX: usize = 8;

/// A command's identifier, chosen by the script: 1 to 8 ASCII letters and digits.
pub type MachineId = heapless::String<ID_BYTES_MAX>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Start,
    Id,
    Command,
}

/// What became of a byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// Not the machine's: the person's.
    No,
    /// SOH: it may be either's.
    Perhaps,
    /// The first byte of an identifier: SOH was the machine's.
    Begun,
    /// One more byte of a command.
    Yes,
    /// What came is no command; it is dropped. Nothing was run.
    GivenUp,
    /// A command is complete: [`Machine::take`] it.
    Complete,
}

/// The recogniser; see the module.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    id: MachineId,
    line: Line,
    /// The line is longer than `line` can hold.
    too_long: bool,
    /// The last command ended in CR: a line feed belongs to it.
    after_return: bool,
}

impl Machine {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Idle,
            id: MachineId::new(),
            line: Line::new(),
            too_long: false,
            after_return: false,
        }
    }

    pub(super) fn feed(&mut self, byte: u8) -> Took {
        let after_return = core::mem::replace(&mut self.after_return, false);
        if byte == OPEN {
            let given_up = matches!(self.state, State::Id | State::Command);
            self.state = State::Start;
            self.id.clear();
            self.line.clear();
            self.too_long = false;
            return if given_up {
                Took::GivenUp
            } else {
                Took::Perhaps
            };
        }
        match self.state {
            State::Idle if after_return && byte == b'\n' => Took::Yes,
            State::Idle => Took::No,
            State::Start if byte.is_ascii_alphanumeric() => {
                self.state = State::Id;
                self.push_id(byte)
            }
            State::Start => {
                self.state = State::Idle;
                Took::No
            }
            State::Id if byte.is_ascii_alphanumeric() => self.push_id(byte),
            State::Id if byte == b' ' => {
                self.state = State::Command;
                Took::Yes
            }
            State::Command if byte == b'\r' || byte == b'\n' => {
                self.state = State::Idle;
                self.after_return = byte == b'\r';
                Took::Complete
            }
            State::Command if is_printable(byte) || byte == b'\t' => {
                self.too_long |= self.line.push(char::from(byte)).is_err();
                Took::Yes
            }
            State::Id | State::Command => {
                self.state = State::Idle;
                self.after_return = byte == b'\r';
                Took::GivenUp
            }
        }
    }

    /// The command that was completed; its line is `None` if it is longer than a line may be.
    pub(super) fn take(&mut self) -> (MachineId, Option<Line>) {
        let line = core::mem::take(&mut self.line);
        (self.id.clone(), (!self.too_long).then_some(line))
    }

    fn push_id(&mut self, byte: u8) -> Took {
        let first = self.id.is_empty();
        if self.id.push(char::from(byte)).is_err() {
            self.state = State::Idle;
            return Took::GivenUp;
        }
        if first { Took::Begun } else { Took::Yes }
    }
}
