//! The serial console: one line shared by a person, a script and the log.
//!
//! The pump's loop, all without I/O in here:
//!
//! 1. [`Console::start`] once draws the prompt.
//! 2. Every received byte goes to [`Console::feed`]. When that returns a [`Submitted`] command, the
//!    pump runs it, writes its output through [`Console::reply`] and ends it with
//!    [`Console::finish`]. It feeds no bytes in between: they wait in its receive ring.
//! 3. A log line goes to [`Console::log`], at any time. `false` means "not now": it would fall inside
//!    an answer. The pump remembers the sequence number of the [`crate::log::Ring`] up to which it
//!    has printed, and goes on from there after [`Console::finish`].
//!
//! Machine mode is what `run-qemu.sh exec` uses: `\x01<id> <command>\r` is answered by
//! `\x02<id>\r\n`, the output's lines each ended by `\r\n`, and `\x03<id> <exit status>\r\n`. A person's
//! half-typed line is kept and drawn again afterwards.

mod editor;
mod history;
mod keys;
mod machine;

#[cfg(test)]
mod tests;

pub use machine::{ID_BYTES_MAX, MachineId, OPEN};

use core::fmt;
use editor::Editor;
use keys::{Decoder, Key};
use machine::{ANSWER, CLOSE, Machine, Took};

/// Longest command in bytes; what goes beyond is refused with a bell.
pub const LINE_BYTES_MAX: usize = 256;

/// Longest prompt in bytes; a longer one is cut.
pub const PROMPT_BYTES_MAX: usize = 40;

/// A command line.
pub type Line = heapless::String<LINE_BYTES_MAX>;

/// Exit status of a command that did what it was told.
pub const EXIT_OK: u8 = 0;

/// Exit status of a command that was refused, failed, or was not understood.
pub const EXIT_FAILED: u8 = 1;

/// Where the bytes for the terminal go. An implementation is bounded: what it cannot take it waits
/// for or drops, but it never grows without limit.
pub trait Output {
    /// Sends bytes to the terminal.
    fn write(&mut self, bytes: &[u8]);
}

impl Output for alloc::vec::Vec<u8> {
    fn write(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Knows the words that Tab completes.
pub trait Completer {
    /// Offers every word that may stand where the last word of `before` stands (or would begin).
    /// The editor picks those that begin with what is typed already. Called twice if it has to
    /// list them: both times it must offer the same.
    fn candidates(&self, before: &str, offer: &mut dyn FnMut(&str));
}

/// Who gave a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Someone at the terminal.
    Person,
    /// A script, which called it so.
    Machine(MachineId),
    /// Somebody who is not on this line, and whom nothing of the answer is shown here.
    Web,
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Who gave it; [`Console::finish`] answers accordingly.
    pub origin: Origin,
    /// The command; of a person never blank.
    pub line: Line,
}

/// The console; see the module.
#[derive(Debug)]
pub struct Console {
    editor: Editor,
    decoder: Decoder,
    machine: Machine,
    /// The command that runs.
    running: Option<Origin>,
    /// Whether the answer's last line is complete.
    at_line_start: bool,
    /// Where the cursor was when a byte came that may be Ctrl-A or the start of machine mode.
    before_open: usize,
}

impl Console {
    /// A console with a prompt (`a> `) on a terminal of `columns` columns (80 where unknown).
    /// Allocates here and never again.
    pub fn new(prompt: &str, columns: usize) -> Self {
        Self {
            editor: Editor::new(prompt, columns),
            decoder: Decoder::new(),
            machine: Machine::new(),
            running: None,
            at_line_start: true,
            before_open: 0,
        }
    }

    /// Draws the first prompt.
    pub fn start(&mut self, out: &mut dyn Output) {
        self.editor.show(out);
    }

    /// Takes a byte from the terminal; returns a command when it completes one. A byte fed while
    /// a command runs is lost.
    pub fn feed(
        &mut self,
        byte: u8,
        completer: &dyn Completer,
        out: &mut dyn Output,
    ) -> Option<Submitted> {
        if self.running.is_some() {
            return None;
        }
        match self.machine.feed(byte) {
            Took::No => self.feed_person(byte, completer, out),
            Took::Perhaps => {
                self.before_open = self.editor.cursor();
                self.feed_person(byte, completer, out)
            }
            Took::Begun => {
                self.editor.set_cursor(self.before_open, out);
                None
            }
            Took::Yes => None,
            Took::GivenUp => {
                self.before_open = self.editor.cursor();
                out.write(b"\x07");
                None
            }
            Took::Complete => self.begin_machine(out),
        }
    }

    fn feed_person(
        &mut self,
        byte: u8,
        completer: &dyn Completer,
        out: &mut dyn Output,
    ) -> Option<Submitted> {
        let key: Key = self.decoder.feed(byte)?;
        let line = self.editor.key(key, completer, out)?;
        let origin = Origin::Person;
        self.running = Some(origin.clone());
        Some(Submitted { origin, line })
    }

    fn begin_machine(&mut self, out: &mut dyn Output) -> Option<Submitted> {
        let (id, line) = self.machine.take();
        self.editor.hide(out);
        out.write(&[ANSWER]);
        out.write(id.as_bytes());
        out.write(b"\r\n");
        let origin = Origin::Machine(id);
        self.running = Some(origin.clone());
        if let Some(line) = line {
            return Some(Submitted { origin, line });
        }
        // Writing to a reply cannot fail.
        let _ok = fmt::Write::write_fmt(
            &mut self.reply(out),
            format_args!("the command is longer than {LINE_BYTES_MAX} characters\n"),
        );
        self.finish(EXIT_FAILED, out);
        None
    }

    /// Begins a command that came by another way. Until [`Console::finish`] what is given as `out` gets its output and nothing else, in lines ended by
    /// line feeds; the terminal's bytes must not be in it. `None`: another command runs.
    pub fn begin_web(&mut self, line: Line) -> Option<Submitted> {
        if self.running.is_some() {
            return None;
        }
        let origin = Origin::Web;
        self.running = Some(origin.clone());
        Some(Submitted { origin, line })
    }

    /// Whether the output of a command that runs is not the terminal's.
    pub fn is_elsewhere(&self) -> bool {
        self.running == Some(Origin::Web)
    }

    /// Where the running command's output goes: lines ended by `\n`. What is not printable ASCII
    /// arrives as `?`, so nothing can break the framing or move the cursor.
    pub fn reply<'a>(&'a mut self, out: &'a mut dyn Output) -> Reply<'a> {
        Reply { console: self, out }
    }

    /// Ends the running command and draws the prompt again. `status` goes to a script; a person has
    /// read the text.
    pub fn finish(&mut self, status: u8, out: &mut dyn Output) {
        let Some(origin) = self.running.take() else {
            return;
        };
        if !core::mem::replace(&mut self.at_line_start, true) {
            let end: &[u8] = match origin {
                Origin::Web => b"\n",
                _ => b"\r\n",
            };
            out.write(end);
        }
        if origin == Origin::Web {
            return;
        }
        if let Origin::Machine(id) = origin {
            let mut end: heapless::String<20> = heapless::String::new();
            // Cannot fail: an identifier has 8 characters at most, the rest 8.
            let _fits = fmt::Write::write_fmt(
                &mut end,
                format_args!("{}{id} {status}\r\n", char::from(CLOSE)),
            );
            out.write(end.as_bytes());
        }
        self.editor.show(out);
    }

    /// Prints a log line above the prompt. `false`: it would fall inside an answer, try again after
    /// [`Console::finish`].
    pub fn log(&mut self, line: &dyn fmt::Display, out: &mut dyn Output) -> bool {
        match &self.running {
            Some(Origin::Machine(_) | Origin::Web) => return false,
            Some(Origin::Person) if !self.at_line_start => return false,
            _ => {}
        }
        let shown = self.editor.is_shown();
        self.editor.hide(out);
        // Writing to a reply cannot fail.
        let _ok = fmt::Write::write_fmt(&mut self.reply(out), format_args!("{line}\n"));
        if shown {
            self.editor.show(out);
        }
        true
    }

    /// Draws `text` over the whole screen, in place of the picture before, while a person's command runs. What is longer than a
    /// screen, or wider, is cut: it would scroll, and the next picture with it.
    pub fn picture(&mut self, text: &str, out: &mut dyn Output) {
        if self.running != Some(Origin::Person) {
            return;
        }
        out.write(b"\x1b[H");
        let width = self.editor.columns() - 1;
        let lines = text.lines().count();
        for line in text.lines().take(PICTURE_ROWS - 1) {
            // Writing to a reply cannot fail.
            let cut = line.char_indices().nth(width);
            let line = &line[..cut.map_or(line.len(), |(at, _)| at)];
            let _ok = fmt::Write::write_str(&mut self.reply(out), line);
            out.write(b"\x1b[K\r\n");
        }
        if let Some(more @ 1..) = lines.checked_sub(PICTURE_ROWS - 1) {
            let _ok = fmt::Write::write_fmt(&mut self.reply(out), format_args!("({more} more)"));
            out.write(b"\x1b[K\r\n");
        }
        out.write(b"\x1b[J");
        self.at_line_start = true;
    }

    /// Clears the screen (the verb `clear`) while a person's command runs; a script's answer is
    /// left alone.
    pub fn clear_screen(&mut self, out: &mut dyn Output) {
        if self.running == Some(Origin::Person) {
            out.write(b"\x1b[H\x1b[2J");
        }
    }
}

/// Rows of a terminal whose height is not known, less one for the hint below a [`Console::picture`].
const PICTURE_ROWS: usize = 23;

/// Writes the output of a command; see [`Console::reply`].
pub struct Reply<'a> {
    console: &'a mut Console,
    out: &'a mut dyn Output,
}

impl fmt::Write for Reply<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive('\n') {
            let line = piece.strip_suffix('\n');
            let mut run: heapless::String<64> = heapless::String::new();
            for c in crate::text::printable(line.unwrap_or(piece)) {
                if run.push(c).is_err() {
                    self.out.write(run.as_bytes());
                    run.clear();
                    // Cannot fail: the run is empty.
                    let _fits = run.push(c);
                }
            }
            self.out.write(run.as_bytes());
            if line.is_some() {
                let end: &[u8] = match self.console.is_elsewhere() {
                    true => b"\n",
                    false => b"\r\n",
                };
                self.out.write(end);
            }
            self.console.at_line_start = line.is_some();
        }
        Ok(())
    }
}
