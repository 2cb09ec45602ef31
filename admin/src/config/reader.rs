//! Reads tables of the parsed TOML and notes every mistake with its place, instead of giving up
//! at the first one as a derived deserialiser does.

use super::problem::Noted;
use super::value::Expected;
use crate::nearest::nearest;
use crate::text::shortened;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Characters of a wrong value that are repeated in the message.
const FOUND_COLUMNS: usize = 40;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    /// Byte range in the text.
    pub(super) span: Range<usize>,
}

/// The text being read and what was found so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) problems: Noted,
    /// Full names of the keys that were left out and got their default.
    pub(super) defaulted: Vec<String>,
}

/// A table being read: one `[section]`, or one element of an array of tables.
pub(super) struct Section<'a, 't> {
    /// For messages: `node`, `nic 0`.
    name: String,
    table: &'a DeTable<'t>,
    /// Its header.
    pub(super) span: Range<usize>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: Noted::default(),
            defaulted: Vec::new(),
        }
    }

    /// Notes a mistake at a place.
    pub(super) fn problem(&mut self, span: Range<usize>, message: String) {
        self.problems.note(span, message);
    }

    /// Notes that something is missing that belongs nowhere yet: at the end of the text.
    pub(super) fn missing_at_end(&mut self, message: String) {
        let end = self.text.trim_end().len();
        self.problem(end..end, message);
    }

    /// What stands at a place, for a message.
    pub(super) fn found(&self, span: &Range<usize>) -> String {
        shortened(self.text.get(span.clone()).unwrap_or(""), FOUND_COLUMNS)
    }

    /// Notes every key of `table` that is not in `known`, with the nearest that is.
    pub(super) fn refuse_unknown(
        &mut self,
        table: &DeTable<'t>,
        inside: &str,
        kind: &str,
        known: &[&str],
    ) {
        for (key, _) in table.iter() {
            let word: &str = key.get_ref();
            if known.contains(&word) {
                continue;
            }
            let hint = match nearest(word, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let word = shortened(word, FOUND_COLUMNS);
            let message = format!("{inside}unknown {kind} \"{word}\"; {hint}");
            self.problem(key.span(), message);
        }
    }

    /// Opens the `[name]` table of the document, if it is there and a table.
    pub(super) fn section<'a>(
        &mut self,
        root: &'a DeTable<'t>,
        name: &str,
        known: &[&str],
    ) -> Option<Section<'a, 't>> {
        let value = root.get(name)?;
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("{name}: expected a table, written [{name}] and given once");
            self.problem(value.span(), message);
            return None;
        };
        self.refuse_unknown(table, &format!("{name}: "), "key", known);
        Some(Section {
            name: name.to_owned(),
            table,
            span: value.span(),
        })
    }

    /// Opens the `[[name]]` tables of the document; none if they are not there.
    pub(super) fn sections<'a>(
        &mut self,
        root: &'a DeTable<'t>,
        name: &str,
        known: &[&str],
    ) -> Vec<Section<'a, 't>> {
        let Some(value) = root.get(name) else {
            return Vec::new();
        };
        let expected = format!("{name}: expected a table written [[{name}]], with double brackets");
        let Some(array) = value.get_ref().as_array() else {
            self.problem(value.span(), expected);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (number, element) in array.iter().enumerate() {
            let Some(table) = element.get_ref().as_table() else {
                self.problem(element.span(), expected.clone());
                continue;
            };
            let name = format!("{name} {number}");
            self.refuse_unknown(table, &format!("{name}: "), "key", known);
            sections.push(Section {
                name,
                table,
                span: element.span(),
            });
        }
        sections
    }

    /// Reads a key that may be left out. A value that does not fit is noted and is `None` too.
    pub(super) fn optional<T>(
        &mut self,
        section: &Section<'_, 't>,
        key: &str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Expected>,
    ) -> Option<At<T>> {
        let value = section.table.get(key)?;
        self.value(section, key, value, read)
    }

    fn value<T>(
        &mut self,
        section: &Section<'_, 't>,
        key: &str,
        value: &Spanned<DeValue<'t>>,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Expected>,
    ) -> Option<At<T>> {
        let span = value.span();
        match read(value.get_ref()) {
            Ok(value) => Some(At { value, span }),
            Err(expected) => {
                let found = self.found(&span);
                let name = &section.name;
                self.problem(
                    span,
                    format!("{name}: {key}: found {found}, expected {expected}"),
                );
                None
            }
        }
    }

    /// Reads a key that may be left out and whose value must not be repeated to anybody.
    pub(super) fn optional_secret<T>(
        &mut self,
        section: &Section<'_, 't>,
        key: &str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Expected>,
    ) -> Option<At<T>> {
        let value = section.table.get(key)?;
        let span = value.span();
        match read(value.get_ref()) {
            Ok(value) => Some(At { value, span }),
            Err(expected) => {
                let message = format!("{}: {key}: expected {expected}", section.name);
                self.problem(span, message);
                None
            }
        }
    }

    /// Reads a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        section: &Section<'_, 't>,
        key: &str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Expected>,
    ) -> Option<At<T>> {
        match section.table.get(key) {
            Some(value) => self.value(section, key, value, read),
            None => {
                let message = format!("{}: the key \"{key}\" is missing", section.name);
                self.problem(section.span.clone(), message);
                None
            }
        }
    }

    /// Reads a key of `[section_name]` that has a default; the section may be missing, too.
    pub(super) fn with_default<T>(
        &mut self,
        section: Option<&Section<'_, 't>>,
        (section_name, key): (&str, &str),
        default: T,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Expected>,
    ) -> At<T> {
        let value = section.and_then(|section| Some((section, section.table.get(key)?)));
        if let Some((section, value)) = value {
            let span = value.span();
            return self.value(section, key, value, read).unwrap_or(At {
                value: default,
                span,
            });
        }
        self.defaulted.push(format!("{section_name}.{key}"));
        let span = section.map_or(0..0, |section| section.span.clone());
        At {
            value: default,
            span,
        }
    }
}

impl Section<'_, '_> {
    /// Whether the key is given, well or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }
}
