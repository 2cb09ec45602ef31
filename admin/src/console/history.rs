//! The lines that were entered before: a ring of fixed size.

use super::Line;
use alloc::vec::Vec;

/// Lines that are remembered.
pub(super) const HISTORY_LINES: usize = 32;

/// Remembered lines, oldest first, and where the person is browsing.
#[derive(Debug)]
pub(super) struct History {
    /// Never longer than [`HISTORY_LINES`]; allocated at construction.
    lines: Vec<Line>,
    /// Steps back from the line being typed: 0 is that line itself.
    back: usize,
    /// The line being typed, kept while an older one is shown.
    typed: Line,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            lines: Vec::with_capacity(HISTORY_LINES),
            back: 0,
            typed: Line::new(),
        }
    }

    /// Remembers a line that was entered, unless it is the last one again; ends browsing.
    pub(super) fn remember(&mut self, line: &Line) {
        self.back = 0;
        self.typed.clear();
        if line.trim().is_empty() || self.lines.last() == Some(line) {
            return;
        }
        if self.lines.len() == HISTORY_LINES {
            self.lines.remove(0);
        }
        self.lines.push(line.clone());
    }

    /// Ends browsing without a line having been entered.
    pub(super) fn reset(&mut self) {
        self.back = 0;
        self.typed.clear();
    }

    /// The line before the one that is `shown`; `None` at the oldest.
    pub(super) fn older(&mut self, shown: &Line) -> Option<Line> {
        if self.back == self.lines.len() {
            return None;
        }
        if self.back == 0 {
            self.typed.clone_from(shown);
        }
        self.back += 1;
        self.lines.get(self.lines.len() - self.back).cloned()
    }

    /// The line after the one that is shown, at last the one being typed; `None` at that.
    pub(super) fn newer(&mut self) -> Option<Line> {
        self.back = self.back.checked_sub(1)?;
        match self.back {
            0 => Some(core::mem::take(&mut self.typed)),
            back => self.lines.get(self.lines.len() - back).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn line(text: &str) -> Line {
        Line::try_from(text).unwrap()
    }

    #[test]
    fn walks_back_and_forth_and_keeps_what_was_being_typed() {
        let mut history = History::new();
        for text in ["one", "two", "two", "  ", "three"] {
            history.remember(&line(text));
        }
        assert_eq!(history.older(&line("ty")), Some(line("three")));
        assert_eq!(history.older(&line("three")), Some(line("two")));
        assert_eq!(history.older(&line("two")), Some(line("one")));
        assert_eq!(history.older(&line("one")), None);
        assert_eq!(history.newer(), Some(line("two")));
        assert_eq!(history.newer(), Some(line("three")));
        assert_eq!(history.newer(), Some(line("ty")));
        assert_eq!(history.newer(), None);
    }

    #[test]
    fn forgets_the_oldest() {
        let mut history = History::new();
        for number in 0..HISTORY_LINES + 5 {
            history.remember(&line(&format!("{number}")));
        }
        let mut oldest = None;
        while let Some(older) = history.older(&line("")) {
            oldest = Some(older);
        }
        assert_eq!(oldest, Some(line("5")));
        assert_eq!(history.lines.capacity(), HISTORY_LINES);
    }
}
