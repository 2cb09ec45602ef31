//! A mistake in the configuration: where it is, what was found, what was expected.

use crate::nearest::nearest;
use crate::text::printable;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Mistakes reported at most; the rest is only counted.
pub const PROBLEMS_MAX: usize = 20;

/// Mistakes that are noted at most, before they are sorted: a text that is wrong all over must not
/// use up the memory of a small machine.
const NOTED_MAX: usize = 256;

/// Characters of the offending line that are shown at most, so that it fits 80 columns.
const EXCERPT_COLUMNS: usize = 64;

/// One mistake. Its `Display` form is two or three lines for an 80-column terminal:
///
/// ```text
/// line 3, column 9: node.panic: found "explode", expected "reboot", "halt" or "exit"
///   3 | panic = "explode"
///     |         ^^^^^^^^^
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What was found, what was expected, and where it helps what to do.
    pub message: String,
    /// A part of the line around the mistake, safe to print.
    excerpt: String,
    /// Characters before the caret in `excerpt`.
    caret: usize,
    /// Carets under the mistake; at least one.
    carets: usize,
}

impl Problem {
    /// A mistake at the byte range `span` of `text`. A range beyond the end means the end.
    fn new(text: &str, span: Range<usize>, message: String) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line_end = line_start + line.len();
        let before = text[line_start..start.min(line_end)].chars().count();
        let mut end = span.end.clamp(start, line_end.max(start));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let marked = text[start..end].chars().count().max(1);
        // A long line is shown from a little before the mistake on.
        let skip = if before + marked.min(8) > EXCERPT_COLUMNS {
            before - EXCERPT_COLUMNS / 4
        } else {
            0
        };
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            message,
            excerpt: printable(line).skip(skip).take(EXCERPT_COLUMNS).collect(),
            caret: before - skip,
            carets: marked.min(EXCERPT_COLUMNS.saturating_sub(before - skip).max(1)),
        }
    }

    /// A mistake of the file as a whole, which has no line to show.
    fn of_file(line: usize, column: usize, message: String) -> Self {
        Self {
            line,
            column,
            message,
            excerpt: String::new(),
            caret: 0,
            carets: 0,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )?;
        if self.carets == 0 {
            return Ok(());
        }
        let mut digits: heapless::String<24> = heapless::String::new();
        let gutter = match fmt::Write::write_fmt(&mut digits, format_args!("{}", self.line)) {
            Ok(()) => digits.len(),
            Err(fmt::Error) => 0,
        };
        write!(f, "\n  {} | {}", self.line, self.excerpt)?;
        write!(f, "\n  {:gutter$} | {:2$}", "", "", self.caret)?;
        (0..self.carets).try_for_each(|_| f.write_str("^"))
    }
}

/// Every mistake that was found, in the order of the lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
    /// Mistakes beyond [`PROBLEMS_MAX`].
    more: usize,
}

impl ConfigErrors {
    /// The one mistake of a file as a whole.
    pub(super) fn of_file(line: usize, column: usize, message: String) -> Self {
        let problems = alloc::vec![Problem::of_file(line, column, message)];
        Self { problems, more: 0 }
    }

    /// The mistakes, in the order of the lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many mistakes there are in all, those included that were only counted.
    pub fn count(&self) -> usize {
        self.problems.len() + self.more
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {count} {mistakes}:")?;
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigErrors {}

/// `text` with asterisks, of the same number, in place of what may be a secret: mistakes are shown
/// on a console and by programs that many people read. Looks for a word that is or was meant to be
/// one of [`SECRET_WORDS`], since the text may not even be TOML, and hides the rest of its line; of
/// a text in triple quotes all its lines.
fn without_secrets(text: &str) -> Cow<'_, str> {
    let mut hidden = String::new();
    // Bytes of `text` that are in `hidden`.
    let mut done = 0;
    for (start, line) in lines(text) {
        let Some(word_end) = (start >= done).then(|| secret_word_end(line)).flatten() else {
            continue;
        };
        let begin = start + word_end;
        let rest = &text[begin..];
        let long = |quotes: &str| {
            let open = rest.lines().next()?.find(quotes)? + quotes.len();
            let close = rest[open..].find(quotes);
            Some(close.map_or(rest.len(), |close| open + close))
        };
        let end = begin
            + [long("\"\"\""), long("'''")]
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(start + line.len() - begin);
        hidden.push_str(&text[done..begin]);
        // One for one, so that columns stay; a character that is not ASCII keeps its bytes.
        hidden.extend(text[begin..end].chars().map(|c| match c {
            '!'..='~' if c != '=' => '*',
            other => other,
        }));
        done = end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    hidden.push_str(&text[done..]);
    Cow::Owned(hidden)
}

/// Every line with its place.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |place, line| {
        let start = *place;
        *place += line.len();
        Some((start, line))
    })
}

/// What a person may call a secret.
const SECRET_WORDS: [&str; 5] = ["secret", "password", "passphrase", "psk", "token"];

/// Shortest word that may be one of them mistyped; `pass-on` is none.
const SECRET_WORD_MIN: usize = 5;

/// Where in a line a word for a secret, or one that was meant to be it, ends; also as a part of a key
/// such as DRBD's `shared-secret`.
fn secret_word_end(line: &str) -> Option<usize> {
    let part_of_word = |c: char| c.is_ascii_alphanumeric();
    let mut from = 0;
    while let Some(start) = line[from..].find(part_of_word) {
        let start = from + start;
        let length = line[start..].find(|c| !part_of_word(c));
        let end = length.map_or(line.len(), |length| start + length);
        let word = &line[start..end];
        let exact = SECRET_WORDS
            .iter()
            .any(|secret| word.eq_ignore_ascii_case(secret));
        if exact || (word.len() >= SECRET_WORD_MIN && nearest(word, SECRET_WORDS).is_some()) {
            return Some(end);
        }
        from = end;
    }
    None
}

/// Mistakes while they are being found: only their byte ranges and messages.
#[derive(Debug, Default)]
pub(super) struct Noted {
    notes: Vec<(Range<usize>, String)>,
    /// Mistakes beyond [`NOTED_MAX`].
    more: usize,
}

impl Noted {
    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    pub(super) fn note(&mut self, span: Range<usize>, message: String) {
        if self.notes.len() < NOTED_MAX {
            self.notes.push((span, message));
        } else {
            self.more += 1;
        }
    }

    /// Places and sorts what was noted about `text`.
    pub(super) fn into_errors(mut self, text: &str) -> ConfigErrors {
        self.notes.sort_by_key(|(span, _)| span.start);
        self.notes.dedup();
        let text = &*without_secrets(text);
        let beyond = self.notes.len().saturating_sub(PROBLEMS_MAX);
        let shown = self.notes.into_iter().take(PROBLEMS_MAX);
        ConfigErrors {
            problems: shown
                .map(|(span, message)| Problem::new(text, span, message))
                .collect(),
            more: self.more + beyond,
        }
    }
}
