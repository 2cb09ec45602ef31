//! The line a person is typing, and how it is drawn.
//!
//! The line occupies one row of the terminal: a longer one scrolls sideways. While it is hidden
//! (a command runs, or something else is being printed) it can still be edited and draws nothing.

use super::history::History;
use super::keys::Key;
use super::{Completer, Line, Output, PROMPT_BYTES_MAX};
use core::fmt::Write as _;

const BELL: &[u8] = b"\x07";

#[derive(Debug)]
pub(super) struct Editor {
    prompt: heapless::String<PROMPT_BYTES_MAX>,
    line: Line,
    /// Where the next character goes, in bytes (all is ASCII).
    cursor: usize,
    /// First character that is visible.
    scroll: usize,
    columns: usize,
    shown: bool,
    history: History,
}

impl Editor {
    pub(super) fn new(prompt: &str, columns: usize) -> Self {
        let mut editor = Self {
            prompt: heapless::String::new(),
            line: Line::new(),
            cursor: 0,
            scroll: 0,
            columns: columns.max(PROMPT_BYTES_MAX + 10),
            shown: false,
            history: History::new(),
        };
        editor.set_prompt(prompt);
        editor
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn set_prompt(&mut self, prompt: &str) {
        self.prompt.clear();
        for c in crate::text::printable(prompt) {
            crate::text::push_fitting(&mut self.prompt, c.encode_utf8(&mut [0; 4]));
        }
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(super) fn set_cursor(&mut self, cursor: usize, out: &mut dyn Output) {
        self.cursor = cursor.min(self.line.len());
        self.redraw(out);
    }

    /// Draws prompt and line on the row where the cursor is.
    pub(super) fn show(&mut self, out: &mut dyn Output) {
        self.shown = true;
        self.redraw(out);
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    /// Takes prompt and line off the screen; the row is then empty.
    pub(super) fn hide(&mut self, out: &mut dyn Output) {
        if core::mem::replace(&mut self.shown, false) {
            out.write(b"\r\x1b[K");
        }
    }

    /// Characters of the line that fit beside the prompt. The last column stays free, since a
    /// character there makes some terminals wrap; so do the two before it, for the `^C` of an
    /// interrupted line.
    fn room(&self) -> usize {
        self.columns - 3 - self.prompt.len()
    }

    fn redraw(&mut self, out: &mut dyn Output) {
        if !self.shown {
            return;
        }
        let room = self.room();
        if self.cursor < self.scroll || self.cursor > self.scroll + room {
            // Leave some of what is before and behind the cursor in view.
            self.scroll = self.cursor.saturating_sub(room - room / 4);
        }
        if self.cursor < room {
            self.scroll = 0;
        }
        let visible = &self.line[self.scroll..self.line.len().min(self.scroll + room)];
        out.write(b"\r");
        out.write(self.prompt.as_bytes());
        out.write(visible.as_bytes());
        out.write(b"\x1b[K");
        let back = self.scroll + visible.len() - self.cursor;
        if back > 0 {
            let mut step: heapless::String<12> = heapless::String::new();
            // Cannot fail: the number is below 1000.
            let _fits = write!(step, "\x1b[{back}D");
            out.write(step.as_bytes());
        }
    }

    fn bell(&self, out: &mut dyn Output) {
        if self.shown {
            out.write(BELL);
        }
    }

    /// Takes a key; returns the line when that enters it.
    pub(super) fn key(
        &mut self,
        key: Key,
        completer: &dyn Completer,
        out: &mut dyn Output,
    ) -> Option<Line> {
        match key {
            Key::Char(byte) => self.insert(byte, out),
            Key::Enter => return self.enter(out),
            Key::Tab => self.complete(completer, out),
            Key::Left => self.move_to(self.cursor.saturating_sub(1), out),
            Key::Right => self.move_to(self.cursor + 1, out),
            Key::WordLeft => self.move_to(self.word_start(), out),
            Key::WordRight => self.move_to(self.word_end(), out),
            Key::Home => self.move_to(0, out),
            Key::End => self.move_to(self.line.len(), out),
            Key::Up => {
                let older = self.history.older(&self.line);
                self.replace(older, out);
            }
            Key::Down => {
                let newer = self.history.newer();
                self.replace(newer, out);
            }
            Key::Backspace if self.cursor > 0 => self.cut(self.cursor - 1, self.cursor, out),
            Key::Delete | Key::DeleteOrEnd if self.cursor < self.line.len() => {
                self.cut(self.cursor, self.cursor + 1, out);
            }
            // There is no session to leave, so the end of input on an empty line is nothing.
            Key::Backspace | Key::Delete | Key::DeleteOrEnd => self.bell(out),
            Key::KillToEnd => self.cut(self.cursor, self.line.len(), out),
            Key::KillToStart => self.cut(0, self.cursor, out),
            Key::KillWord => self.cut(self.word_start(), self.cursor, out),
            Key::ClearScreen => {
                if self.shown {
                    out.write(b"\x1b[H\x1b[2J");
                }
                self.redraw(out);
            }
            Key::Interrupt => {
                self.end_row(b"^C\r\n", out);
                self.clear();
                self.redraw(out);
            }
            Key::Other => self.bell(out),
        }
        None
    }

    fn clear(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.scroll = 0;
        self.history.reset();
    }

    /// Leaves the row as it stands, cursor behind the line, and ends it with `mark`.
    fn end_row(&mut self, mark: &[u8], out: &mut dyn Output) {
        if self.shown {
            self.cursor = self.line.len();
            self.redraw(out);
            out.write(mark);
        }
    }

    fn enter(&mut self, out: &mut dyn Output) -> Option<Line> {
        self.end_row(b"\r\n", out);
        let line = core::mem::take(&mut self.line);
        self.clear();
        if line.trim().is_empty() {
            self.redraw(out);
            return None;
        }
        self.history.remember(&line);
        // The row is the command's now; `hide` must not erase it.
        self.shown = false;
        Some(line)
    }

    fn insert(&mut self, byte: u8, out: &mut dyn Output) {
        if !self.insert_text(core::slice::from_ref(&byte)) {
            return self.bell(out);
        }
        let at_end = self.cursor == self.line.len();
        if at_end && self.shown && self.cursor <= self.scroll + self.room() {
            // The usual case needs no redrawing.
            return out.write(core::slice::from_ref(&byte));
        }
        self.redraw(out);
    }

    /// Inserts printable ASCII at the cursor; all of it or, if it does not fit, nothing.
    fn insert_text(&mut self, text: &[u8]) -> bool {
        if self.line.len() + text.len() > self.line.capacity() {
            return false;
        }
        for byte in text {
            // Cannot fail: there is room, and the cursor is within the ASCII line.
            let _fits = self.line.insert(self.cursor, char::from(*byte));
            self.cursor += 1;
        }
        true
    }

    fn move_to(&mut self, cursor: usize, out: &mut dyn Output) {
        if cursor > self.line.len() {
            return self.bell(out);
        }
        self.set_cursor(cursor, out);
    }

    fn cut(&mut self, from: usize, to: usize, out: &mut dyn Output) {
        let mut left = Line::new();
        // Cannot fail: a part of a line fits a line.
        let _fits = left.push_str(&self.line[..from]);
        let _fits = left.push_str(&self.line[to..]);
        self.line = left;
        self.set_cursor(from, out);
    }

    fn replace(&mut self, line: Option<Line>, out: &mut dyn Output) {
        let Some(line) = line else {
            return self.bell(out);
        };
        self.line = line;
        self.scroll = 0;
        self.set_cursor(self.line.len(), out);
    }

    /// Start of the word at or before the cursor.
    fn word_start(&self) -> usize {
        let before = self.line[..self.cursor].trim_end();
        before.rfind(' ').map_or(0, |blank| blank + 1)
    }

    /// End of the word at or behind the cursor.
    fn word_end(&self) -> usize {
        let behind = &self.line[self.cursor..];
        let blanks = behind.len() - behind.trim_start().len();
        let word = behind
            .trim_start()
            .find(' ')
            .unwrap_or(behind.len() - blanks);
        self.cursor + blanks + word
    }

    fn complete(&mut self, completer: &dyn Completer, out: &mut dyn Output) {
        let before = &self.line[..self.cursor];
        let start = before.rfind(' ').map_or(0, |blank| blank + 1);
        let typed = &before[start..];
        let mut common = Line::new();
        let mut count = 0usize;
        completer.candidates(before, &mut |word| {
            if !word.starts_with(typed) {
                return;
            }
            count += 1;
            if count == 1 {
                crate::text::push_fitting(&mut common, word);
            } else {
                let same = common.bytes().zip(word.bytes());
                let same = same.take_while(|(a, b)| a == b).count();
                common.truncate(same);
            }
        });
        let mut addition = Line::new();
        crate::text::push_fitting(&mut addition, common.get(typed.len()..).unwrap_or(""));
        if count == 1 {
            crate::text::push_fitting(&mut addition, " ");
        }
        if count == 0 {
            self.bell(out);
        } else if addition.is_empty() {
            self.list(completer, out);
        } else if self.insert_text(addition.as_bytes()) {
            self.redraw(out);
        } else {
            self.bell(out);
        }
    }

    /// Lists the candidates below the line and draws the line again below them.
    fn list(&mut self, completer: &dyn Completer, out: &mut dyn Output) {
        if !self.shown {
            return;
        }
        out.write(b"\r\n");
        let before = &self.line[..self.cursor];
        let typed = before.rsplit(' ').next().unwrap_or("");
        let mut column = 0;
        completer.candidates(before, &mut |word| {
            if !word.starts_with(typed) {
                return;
            }
            if column > 0 && column + 2 + word.len() >= self.columns {
                out.write(b"\r\n");
                column = 0;
            }
            if column > 0 {
                out.write(b"  ");
                column += 2;
            }
            out.write(word.as_bytes());
            column += word.len();
        });
        out.write(b"\r\n");
        self.redraw(out);
    }
}
