//! Text made safe for a terminal.

use alloc::string::String;

/// Columns of a wrapped text, its indentation included.
const WRAP_COLUMNS: usize = 78;

/// Whether a byte may go to a terminal as it is: printable ASCII.
pub(crate) const fn is_printable(byte: u8) -> bool {
    byte >= 0x20 && byte < 0x7f
}

/// `text` with everything that is not printable ASCII replaced by `?` (tabs by a space), one
/// column per character, so that nothing from a file or a wire can move the cursor and a caret
/// under the line stays aligned.
pub(crate) fn printable(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| match c {
        ' '..='~' => c,
        '\t' => ' ',
        _ => '?',
    })
}

/// The first `columns` characters of [`printable`] text, with `...` in place of a longer rest.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return printable(text).collect();
    }
    let mut short: String = printable(text).take(columns.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

/// Appends as much of `piece` as fits, cut at a character's boundary; says whether all fitted.
pub(crate) fn push_fitting<const N: usize>(to: &mut heapless::String<N>, piece: &str) -> bool {
    let mut end = piece.len().min(N - to.len());
    while !piece.is_char_boundary(end) {
        end -= 1;
    }
    // Cannot fail: `end` was cut to the room that is left.
    let fitted = to.push_str(&piece[..end]).is_ok();
    fitted && end == piece.len()
}

/// Writes text behind an indentation and a mark, in lines of at most [`WRAP_COLUMNS`]; further
/// lines are indented by two columns more.
pub(crate) fn wrapped(
    indent: &str,
    mark: &str,
    text: &str,
    out: &mut dyn core::fmt::Write,
) -> core::fmt::Result {
    write!(out, "{indent}{mark}")?;
    let mut column = indent.len() + mark.len();
    for (place, word) in text.split_ascii_whitespace().enumerate() {
        if place > 0 && column + 1 + word.len() > WRAP_COLUMNS {
            write!(out, "\n{indent}  ")?;
            column = indent.len() + 2;
        } else if place > 0 {
            out.write_char(' ')?;
            column += 1;
        }
        out.write_str(word)?;
        column += word.len();
    }
    out.write_char('\n')
}

/// A [`core::fmt::Write`] that keeps what fits and drops the rest, for text of bounded size.
pub(crate) struct Truncating<'a, const N: usize>(pub(crate) &'a mut heapless::String<N>);

impl<const N: usize> core::fmt::Write for Truncating<'_, N> {
    fn write_str(&mut self, piece: &str) -> core::fmt::Result {
        push_fitting(self.0, piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_do_not_survive() {
        let safe: String = printable("a\u{1b}[2Jb\tc\u{e9}").collect();
        assert_eq!(safe, "a?[2Jb c?");
    }

    #[test]
    fn long_text_is_wrapped_and_a_long_word_is_not() {
        let words = "a word ".repeat(12);
        let mut out = String::new();
        wrapped("    ", "! ", &words, &mut out).unwrap();
        wrapped("", "", &"x".repeat(90), &mut out).unwrap();
        let lines: std::vec::Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("    ! a word a") && lines[0].len() <= WRAP_COLUMNS);
        assert!(lines[0].len() + " word".len() + 1 > WRAP_COLUMNS, "{out}");
        assert!(
            lines[1].starts_with("      ") && !lines[1].starts_with("       "),
            "{out}"
        );
        assert_eq!(lines[2].len(), 90);
    }

    #[test]
    fn truncates_at_character_boundaries() {
        let mut to: heapless::String<5> = heapless::String::new();
        assert!(!push_fitting(&mut to, "abcd\u{e9}f"));
        assert_eq!(to.as_str(), "abcd");
        assert!(push_fitting(&mut to, "e"));
        assert!(!push_fitting(&mut to, "f"));
        assert_eq!(shortened("abcdefgh", 6), "abc...");
        assert_eq!(shortened("abcdef", 6), "abcdef");
    }
}
