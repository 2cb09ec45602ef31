//! The kernel command line: words separated by blanks, `key` or `key=value`.

/// A view of the command line.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a>(&'a str);

impl<'a> CommandLine<'a> {
    /// Wraps `line`.
    pub const fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// The whole line.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The value of the last `key=value` word, so that appended words override earlier ones.
    pub fn value(self, key: &str) -> Option<&'a str> {
        self.0
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .next_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_value_wins_and_prefixes_do_not_match() {
        let line = CommandLine::new("  panic=halt panics=x test=boot panic=exit quiet");
        assert_eq!(line.value("panic"), Some("exit"));
        assert_eq!(line.value("test"), Some("boot"));
        assert_eq!(line.value("pan"), None);
        assert_eq!(line.value("quiet"), None);
    }
}
