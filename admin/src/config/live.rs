//! What can be changed while the node runs, and how: the verbs `set` and `adjust`.
//!
//! A change is laid over the boot module's text, and the whole is read again, by the same code: so it is held against the
//! same limits and the other keys as at a start, and says the same when it does not fit. It lasts until the next start.

use super::{Config, ConfigErrors, parse_toml, schema};
use crate::nearest::nearest;
use crate::text::wrapped;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The keys that can be changed while the node runs, by their full names. docs/CONFIG.md marks them.
pub const KEYS: &[&str] = &[
    "node.panic",
    "node.log-level",
    "resource.fence-timeout",
    "resource.auto-promote",
    "resource.after-sb-0pri",
    "resource.after-sb-1pri",
    "resource.after-sb-2pri",
    "resource.always-asbp",
    "resource.rr-conflict",
    "resource.on-no-data",
    "net.timeout",
    "net.ping-interval",
    "net.connect-interval",
    "replication.on-congestion",
    "replication.congestion-extents",
    "replication.congestion-fill",
    "resync.c-min-rate",
    "resync.c-max-rate",
    "resync.csums",
    "resync.rs-discard",
    "resync.max-parallel-resyncs",
    "disk.disk-timeout",
    "disk.on-io-error",
];

/// The table in which changes stand behind the boot module's text, for the time of reading.
const TABLE: &str = "set";

/// The key that is meant, if it can be changed while the node runs.
pub fn key(name: &str) -> Option<&'static str> {
    KEYS.iter().copied().find(|key| *key == name)
}

/// The key that may have been meant, also by its last part alone.
pub fn near(name: &str) -> Option<&'static str> {
    let of_part = |key: &&str| key.split_once('.').is_some_and(|(_, part)| part == name);
    let mut keys = KEYS.iter().copied();
    keys.find(of_part)
        .or_else(|| nearest(name, KEYS.iter().copied()))
}

/// What was changed since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(Vec<(&'static str, Option<String>)>);

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and one of [`KEYS`] with another value, as a person types it: without quotes, and empty for a key that is left out.
    #[must_use]
    pub fn with(&self, key: &'static str, value: &str) -> Self {
        let mut changes = self.clone();
        changes.0.retain(|(other, _)| *other != key);
        changes.0.push((key, as_toml(value)));
        changes
    }

    /// The configuration of this boot module with the changes.
    ///
    /// # Errors
    /// What does not fit, as [`Config::parse`] says it.
    pub fn apply(&self, text: &[u8]) -> Result<Config, ConfigErrors> {
        if self.is_empty() {
            return Config::parse(text);
        }
        let mut whole = String::from_utf8_lossy(text).into_owned();
        whole.push_str("\n[");
        whole.push_str(TABLE);
        whole.push_str("]\n");
        for (key, value) in &self.0 {
            if let Some(value) = value {
                whole.push_str(&format!("{key} = {value}\n"));
            }
        }
        let mut document = parse_toml(&whole)?;
        let root = document.get_mut();
        if let Some(DeValue::Table(sections)) = root.remove(TABLE).map(Spanned::into_inner) {
            for (name, section) in sections {
                lay_over(root, name, section);
            }
        }
        for (key, _) in self.0.iter().filter(|(_, value)| value.is_none()) {
            if let Some((section, key)) = key.split_once('.')
                && let Some(DeValue::Table(keys)) = root.get_mut(section).map(Spanned::get_mut)
            {
                keys.remove(key);
            }
        }
        schema::read(&whole, root)
    }
}

/// Puts the keys of a section over those that are there.
fn lay_over<'t>(
    root: &mut DeTable<'t>,
    name: Spanned<Cow<'t, str>>,
    section: Spanned<DeValue<'t>>,
) {
    let span = section.span();
    let DeValue::Table(keys) = section.into_inner() else {
        return;
    };
    match root.get_mut(name.get_ref().as_ref()).map(Spanned::get_mut) {
        Some(DeValue::Table(there)) => {
            for (key, value) in keys {
                there.insert(key, value);
            }
        }
        _ => {
            root.insert(name, Spanned::new(span, DeValue::Table(keys)));
        }
    }
}

/// What a person types as a value of TOML. `None`: nothing.
fn as_toml(value: &str) -> Option<String> {
    let plain = value.trim_matches('"');
    let digits = plain == value && value.bytes().all(|byte| byte.is_ascii_digit());
    match plain {
        "" => None,
        "true" | "false" => Some(plain.into()),
        _ if digits => Some(plain.into()),
        // Of printable ASCII it escapes what TOML wants escaped.
        _ => Some(format!("{plain:?}")),
    }
}

/// The values of a configuration as `config show` writes them.
pub struct Written(String);

impl Written {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = config.render(&mut text);
        Self(text)
    }

    /// The value of a key such as `net.timeout`; `None` if it is left out and nothing stands for it.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (section, key) = key.split_once('.')?;
        let lines = self.0.lines();
        let mut lines = lines.skip_while(|line| line.trim_matches(['[', ']']) != section);
        lines.next();
        let mut lines = lines.take_while(|line| !line.starts_with('['));
        let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
        Some(line.split("  ").next().unwrap_or(line))
    }

    /// The same, with a word for none.
    fn or_none(&self, key: &str) -> &str {
        self.get(key).unwrap_or("none")
    }
}

/// Writes what can be changed while the node runs, and which of it is not as the boot module has it.
///
/// # Errors
/// Those of `out`.
pub fn list(now: &Config, booted: &Config, out: &mut dyn Write) -> fmt::Result {
    let (now, booted) = (Written::of(now), Written::of(booted));
    writeln!(out, "{:<31} {:<22} in the TOML, if other", "key", "value")?;
    for key in KEYS {
        let (is, was) = (now.or_none(key), booted.or_none(key));
        let was = if is == was { "" } else { was };
        writeln!(out, "{}", format!("{key:<31} {is:<22} {was}").trim_end())?;
    }
    Ok(())
}

/// Writes which of these values become different, a line each; answers whether any do.
///
/// # Errors
/// Those of `out`.
pub fn differences(
    before: &Config,
    after: &Config,
    out: &mut dyn Write,
) -> Result<bool, fmt::Error> {
    let (before, after) = (Written::of(before), Written::of(after));
    let mut any = false;
    for key in KEYS {
        let (was, is) = (before.or_none(key), after.or_none(key));
        if was != is {
            any = true;
            writeln!(out, "{key}: {was} becomes {is}")?;
        }
    }
    Ok(any)
}

/// Writes what is to be known of a change.
///
/// # Errors
/// Those of `out`.
pub fn not_durable(out: &mut dyn Write) -> fmt::Result {
    let text = "until the next start of this node, and on this node alone: put it into the node's TOML to keep it";
    wrapped("", "note: ", text, out)
}

/// Writes what does not fit of a change, without the places in the text, which nobody has typed.
///
/// # Errors
/// Those of `out`.
pub fn refused(errors: &ConfigErrors, out: &mut dyn Write) -> fmt::Result {
    let mut problems = errors.problems().iter();
    problems.try_for_each(|problem| wrapped("", "", &problem.message, out))
}
