//! Writing JSON.

use core::fmt::{self, Write};

/// Writes JSON without white space.
pub(crate) struct Json<'a> {
    out: &'a mut dyn Write,
    /// Whether something stands before the next member on its level.
    comma: bool,
}

impl<'a> Json<'a> {
    /// Writes to `out`.
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, comma: false }
    }

    fn key(&mut self, key: &str) -> fmt::Result {
        if core::mem::replace(&mut self.comma, true) {
            self.out.write_char(',')?;
        }
        write!(self.out, "\"{key}\":")
    }

    /// A member whose value is written as it is.
    pub(crate) fn raw(&mut self, key: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        self.key(key)?;
        self.out.write_fmt(value)
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) -> fmt::Result {
        self.raw(key, format_args!("{value}"))
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) -> fmt::Result {
        self.raw(key, format_args!("{value}"))
    }

    pub(crate) fn optional(&mut self, key: &str, value: Option<u64>) -> fmt::Result {
        match value {
            Some(value) => self.number(key, value),
            None => self.raw(key, format_args!("null")),
        }
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) -> fmt::Result {
        self.key(key)?;
        self.out.write_char('"')?;
        for c in value.chars() {
            match c {
                '"' | '\\' => write!(self.out, "\\{c}")?,
                ' '..='~' => self.out.write_char(c)?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        self.out.write_char('"')
    }

    pub(crate) fn object(
        &mut self,
        key: Option<&str>,
        members: impl FnOnce(&mut Self) -> fmt::Result,
    ) -> fmt::Result {
        if let Some(key) = key {
            self.key(key)?;
        }
        self.out.write_char('{')?;
        self.comma = false;
        members(self)?;
        self.comma = true;
        self.out.write_char('}')
    }

    pub(crate) fn array<T>(
        &mut self,
        key: &str,
        items: &[T],
        mut members: impl FnMut(&mut Self, &T) -> fmt::Result,
    ) -> fmt::Result {
        self.key(key)?;
        self.out.write_char('[')?;
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.out.write_char(',')?;
            }
            self.object(None, |json| members(json, item))?;
        }
        self.out.write_char(']')
    }
}
