//! Turns the bytes of a terminal into keys: control characters, and the escape sequences of
//! ECMA-48 (CSI, SS3) as xterm, VT220 and the Linux console send them.

/// What a person pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A printable ASCII character.
    Char(u8),
    Enter,
    Tab,
    Left,
    Right,
    WordLeft,
    WordRight,
    Up,
    Down,
    Home,
    End,
    Backspace,
    /// Ctrl-D: delete, or the end of input on an empty line.
    DeleteOrEnd,
    Delete,
    /// Ctrl-K, Ctrl-U, Ctrl-W.
    KillToEnd,
    KillToStart,
    KillWord,
    /// Ctrl-L.
    ClearScreen,
    /// Ctrl-C.
    Interrupt,
    /// A key that means nothing here.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    /// After a carriage return: a line feed belongs to it.
    Return,
    /// After ESC.
    Escape,
    /// After ESC O.
    Ss3,
    /// After ESC [: the first number, and whether it is complete.
    Csi {
        number: u8,
        complete: bool,
    },
}

/// The decoder; one byte in, at most one key out.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Ground,
        }
    }

    pub(super) fn feed(&mut self, byte: u8) -> Option<Key> {
        let state = core::mem::replace(&mut self.state, State::Ground);
        match (state, byte) {
            (State::Return, b'\n') => None,
            (State::Escape, b'[') => {
                let (number, complete) = (0, false);
                self.state = State::Csi { number, complete };
                None
            }
            (State::Escape, b'O') => {
                self.state = State::Ss3;
                None
            }
            // Alt with a letter moves by words; with anything else it means nothing.
            (State::Escape, 0x20..=0x7e) => Some(match byte {
                b'b' => Key::WordLeft,
                b'f' => Key::WordRight,
                _ => Key::Other,
            }),
            (State::Ss3, 0x20..=0x7e) => Some(named(byte, 1)),
            (State::Csi { number, complete }, 0x20..=0x3f) => {
                let digit = byte.is_ascii_digit() && !complete;
                let next = number.saturating_mul(10).saturating_add(byte & 0x0f);
                self.state = State::Csi {
                    number: if digit { next } else { number },
                    complete: !digit,
                };
                None
            }
            (State::Csi { number, .. }, 0x40..=0x7e) => Some(named(byte, number)),
            // A control character ends an unfinished sequence and counts itself.
            (_, _) => self.ground(byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            b'\r' => {
                self.state = State::Return;
                Key::Enter
            }
            b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x08 | 0x7f => Key::Backspace,
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Interrupt,
            0x04 => Key::DeleteOrEnd,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x0b => Key::KillToEnd,
            0x0c => Key::ClearScreen,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillToStart,
            0x17 => Key::KillWord,
            0x20..=0x7e => Key::Char(byte),
            // Other control characters, and bytes of UTF-8: names here are ASCII.
            _ => return None,
        })
    }
}

/// The key of a sequence's last byte and first number.
fn named(last: u8, number: u8) -> Key {
    match (last, number) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', 1 | 7) => Key::Home,
        (b'F', _) | (b'~', 4 | 8) => Key::End,
        (b'~', 3) => Key::Delete,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::new();
        bytes.iter().filter_map(|b| decoder.feed(*b)).collect()
    }

    #[test]
    fn escape_sequences_of_several_terminals() {
        use Key::*;
        assert_eq!(keys(b"\x1b[A\x1b[B\x1b[C\x1b[D"), [Up, Down, Right, Left]);
        assert_eq!(keys(b"\x1bOA\x1bOH\x1bOF"), [Up, Home, End]);
        assert_eq!(
            keys(b"\x1b[1~\x1b[4~\x1b[7~\x1b[8~\x1b[3~"),
            [Home, End, Home, End, Delete]
        );
        assert_eq!(
            keys(b"\x1b[1;5C\x1b[200~x\x1b[201~"),
            [Right, Other, Char(b'x'), Other]
        );
        assert_eq!(keys(b"\x1bb\x1bf\x1bz"), [WordLeft, WordRight, Other]);
        assert_eq!(keys(b"\x1b[999999999999~a"), [Other, Char(b'a')]);
    }

    #[test]
    fn ends_of_lines() {
        use Key::*;
        assert_eq!(keys(b"\r\n\n\r\r\n"), [Enter, Enter, Enter, Enter]);
        assert_eq!(keys(b"\r\x1b\n"), [Enter, Enter]);
    }

    #[test]
    fn a_control_character_ends_an_unfinished_sequence() {
        use Key::*;
        assert_eq!(keys(b"\x1b[\r"), [Enter]);
        assert_eq!(keys(b"\x1b[1\x03a"), [Interrupt, Char(b'a')]);
        assert_eq!(keys(b"\x1b\x1b[A"), [Up]);
        assert_eq!(
            keys("a\u{e9}\u{1f600}b\0".as_bytes()),
            [Char(b'a'), Char(b'b')]
        );
    }
}
