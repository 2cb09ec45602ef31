//! The log that the `log` verb shows: a ring of bounded size, filled without allocation.

use crate::text::{Truncating, push_fitting};
use alloc::boxed::Box;
use alloc::vec;
use core::fmt;
use replication::api::{Level, Micros};

/// Longest text of an entry in bytes; a longer one is cut.
pub const TEXT_BYTES_MAX: usize = 240;

/// Bytes an entry takes beside its text: time, level, length.
const HEADER_BYTES: usize = 8 + 1 + 1;

/// The levels and their names, from the gravest.
pub const LEVELS: [(&str, Level); 4] = [
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

/// The name of a level.
pub const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

/// The level of a name.
pub fn level_of(name: &str) -> Option<Level> {
    LEVELS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, level)| *level)
}

/// One line of the log. Its `Display` form is the line as the console shows it:
/// `[   12.345678] warn  the peer is lost`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number since boot, from 0.
    pub sequence: u64,
    /// When, in microseconds since boot.
    pub at: Micros,
    /// How grave.
    pub level: Level,
    /// What; printable, without line ends.
    pub text: heapless::String<TEXT_BYTES_MAX>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        let level = level_name(self.level);
        write!(f, "[{seconds:>5}.{micros:06}] {level:5} {}", self.text)
    }
}

/// The newest entries that fit a fixed number of bytes.
#[derive(Debug)]
pub struct Ring {
    /// Entries back to back, wrapping around: time (8 bytes), level, length, text.
    bytes: Box<[u8]>,
    /// Where the oldest entry begins.
    start: usize,
    /// Bytes in use.
    used: usize,
    /// Sequence of the oldest entry.
    first: u64,
}

impl Ring {
    /// A ring of `bytes` bytes (at least room for one entry), allocated here and never again.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.max(HEADER_BYTES + TEXT_BYTES_MAX);
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            start: 0,
            used: 0,
            first: 0,
        }
    }

    /// Adds an entry, dropping as many of the oldest as it needs room. Characters that are not
    /// printable ASCII become `?`, so that text from a peer cannot move the cursor.
    pub fn push(&mut self, at: Micros, level: Level, text: fmt::Arguments<'_>) {
        let mut whole: heapless::String<TEXT_BYTES_MAX> = heapless::String::new();
        // An error could only come from a Display of the arguments: then what it wrote counts.
        let _incomplete = fmt::Write::write_fmt(&mut Truncating(&mut whole), text);
        let mut safe: heapless::String<TEXT_BYTES_MAX> = heapless::String::new();
        for c in crate::text::printable(&whole) {
            push_fitting(&mut safe, c.encode_utf8(&mut [0; 4]));
        }
        while self.bytes.len() - self.used < HEADER_BYTES + safe.len() {
            self.drop_oldest();
        }
        for byte in at.to_le_bytes() {
            self.put(byte);
        }
        self.put(level as u8);
        // Cannot truncate: TEXT_BYTES_MAX is below 256.
        self.put(safe.len() as u8);
        for byte in safe.bytes() {
            self.put(byte);
        }
    }

    fn put(&mut self, byte: u8) {
        let at = (self.start + self.used) % self.bytes.len();
        self.bytes[at] = byte;
        self.used += 1;
    }

    /// The byte `offset` behind the oldest entry's first.
    fn byte(&self, offset: usize) -> u8 {
        self.bytes[(self.start + offset) % self.bytes.len()]
    }

    fn entry_bytes(&self, offset: usize) -> usize {
        HEADER_BYTES + usize::from(self.byte(offset + 9))
    }

    fn drop_oldest(&mut self) {
        let bytes = self.entry_bytes(0);
        self.start = (self.start + bytes) % self.bytes.len();
        self.used -= bytes;
        self.first += 1;
    }

    /// The entries from `sequence` on (or from the oldest there is), oldest first.
    pub fn from(&self, sequence: u64) -> Entries<'_> {
        let mut entries = Entries {
            ring: self,
            offset: 0,
            sequence: self.first,
        };
        while entries.sequence < sequence && entries.offset < self.used {
            entries.skip_one();
        }
        entries
    }

    /// The last `count` entries that are at least as grave as `least`, oldest first.
    pub fn last(&self, count: usize, least: Level) -> impl Iterator<Item = Entry> + '_ {
        let grave = move |entry: &Entry| entry.level <= least;
        let all = self.from(0).filter(grave).count();
        self.from(0).filter(grave).skip(all.saturating_sub(count))
    }
}

/// Iterates over a [`Ring`]; see [`Ring::from`].
#[derive(Debug)]
pub struct Entries<'a> {
    ring: &'a Ring,
    offset: usize,
    sequence: u64,
}

impl Entries<'_> {
    fn skip_one(&mut self) {
        self.offset += self.ring.entry_bytes(self.offset);
        self.sequence += 1;
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.offset >= self.ring.used {
            return None;
        }
        let byte = |offset| self.ring.byte(self.offset + offset);
        let mut at = [0u8; 8];
        for (place, slot) in at.iter_mut().enumerate() {
            *slot = byte(place);
        }
        let level = match byte(8) {
            0 => Level::Error,
            1 => Level::Warn,
            2 => Level::Info,
            _ => Level::Debug,
        };
        let mut text = heapless::String::new();
        for place in 0..usize::from(byte(9)) {
            // Printable ASCII, as `push` stored it, and never longer than the string.
            push_fitting(
                &mut text,
                char::from(byte(HEADER_BYTES + place)).encode_utf8(&mut [0; 4]),
            );
        }
        let entry = Entry {
            sequence: self.sequence,
            at: u64::from_le_bytes(at),
            level,
            text,
        };
        self.skip_one();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn an_entry_reads_as_a_line() {
        let mut ring = Ring::new(1024);
        ring.push(
            12_345_678,
            Level::Warn,
            format_args!("the peer is {}", "lost\u{1b}[2J\n"),
        );
        let lines: Vec<String> = ring.from(0).map(|e| e.to_string()).collect();
        assert_eq!(lines, ["[   12.345678] warn  the peer is lost?[2J?"]);
    }

    #[test]
    fn the_last_entries_by_level() {
        let mut ring = Ring::new(4096);
        for i in 0..10u64 {
            let level = if i % 3 == 0 {
                Level::Error
            } else {
                Level::Info
            };
            ring.push(i, level, format_args!("{i}"));
        }
        let texts = |count, least| -> Vec<String> {
            ring.last(count, least)
                .map(|e| e.text.to_string())
                .collect()
        };
        assert_eq!(texts(2, Level::Debug), ["8", "9"]);
        assert_eq!(texts(3, Level::Error), ["3", "6", "9"]);
        assert_eq!(texts(99, Level::Error), ["0", "3", "6", "9"]);
        assert_eq!(texts(0, Level::Debug), Vec::<String>::new());
    }

    #[test]
    fn an_over_long_text_is_cut() {
        let mut ring = Ring::new(0);
        ring.push(0, Level::Info, format_args!("{}", "x".repeat(1000)));
        ring.push(0, Level::Info, format_args!("{}", "y".repeat(1000)));
        let left: Vec<Entry> = ring.from(0).collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].text.as_str(), "y".repeat(TEXT_BYTES_MAX));
        assert_eq!(left[0].sequence, 1);
    }

    proptest! {
        /// The ring holds exactly the newest entries that fit, whatever their sizes.
        #[test]
        fn keeps_the_newest(sizes in prop::collection::vec(0usize..260, 0..60), room in 250usize..900) {
            let mut ring = Ring::new(room);
            let mut model: Vec<(u64, String)> = Vec::new();
            for (i, size) in sizes.iter().enumerate() {
                let text = format!("{i}{}", "t".repeat(*size));
                ring.push(i as u64, Level::Info, format_args!("{text}"));
                model.push((i as u64, text[..text.len().min(TEXT_BYTES_MAX)].into()));
                let bytes = |m: &[(u64, String)]| m.iter().map(|(_, t)| t.len() + HEADER_BYTES).sum::<usize>();
                while bytes(&model) > room { model.remove(0); }
                let got: Vec<(u64, String)> = ring.from(0).map(|e| (e.sequence, e.text.to_string())).collect();
                prop_assert_eq!(&got, &model);
                let later: Vec<u64> = ring.from(i as u64).map(|e| e.sequence).collect();
                prop_assert_eq!(later, [i as u64]);
            }
        }
    }
}
