//! What a crash leaves for the next start: a record in a region of memory that a reset leaves as it is (Linux has its
//! ramoops for that).
//!
//! The region is never trusted: what it holds counts if its checksum says so, and a machine that was switched off, or whose
//! firmware used the memory meanwhile, simply has no record. The crashing kernel writes it, so nothing here allocates.

use crate::json::Json;
use crate::log::Entry;
use crate::text::is_printable;
use crate::units::Span;
use core::fmt::{self, Write};
use core::panic::Location;
use replication::api::Micros;
use replication::crc32c::crc32c;

/// Bytes of the region.
pub const REGION_BYTES: usize = 16 << 10;
/// Return addresses in a record at most.
pub const BACKTRACE_MAX: usize = 33;
/// Lines of the log in a record at most.
pub const LOG_LINES: usize = 40;
/// A node that has run for so long before it crashes is started again whatever was before.
pub const LIFE: Micros = 60_000_000;
/// After so many crashes in a row, each within [`LIFE`] of its start, a node halts: it would only crash again.
pub const IN_A_ROW_MAX: u32 = 5;

const MAGIC: &[u8; 8] = b"PLSDcrsh";
/// The checksum covers what follows it.
const CRC: usize = 8;
const LENGTH: usize = 12;
const IN_A_ROW: usize = 16;
const STARTS: usize = 20;
const UPTIME: usize = 24;
const CLOCK: usize = 32;
const ADDRESSES: usize = 40;
const BACKTRACE: usize = 48;
/// Texts, each with its length before it, and the lines of the log behind them.
const TEXTS: usize = BACKTRACE + 8 * BACKTRACE_MAX;
/// Longest text of a record in bytes; a longer one is cut.
const TEXT_MAX: usize = 2048;

/// A date and time of day as the machine's clock shows it, which is commonly UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Year, from 1 on.
    pub year: u16,
    /// Month, day, hour, minute, second.
    pub rest: [u8; 5],
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [month, day, hour, minute, second] = self.rest;
        let year = self.year;
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

/// What is known of a crash when it happens.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Since the start.
    pub uptime: Micros,
    /// When, if the machine has a clock.
    pub clock: Option<Clock>,
    /// Which build.
    pub version: &'a str,
    /// The commit it was made from.
    pub revision: &'a str,
    /// What happened.
    pub message: fmt::Arguments<'a>,
    /// Where in the source, if that is known.
    pub location: Option<&'a Location<'a>>,
    /// Registers and the like, in lines.
    pub details: fmt::Arguments<'a>,
    /// Return addresses, innermost first.
    pub backtrace: &'a [u64],
}

/// Writes a record, bit by bit, into the region: it is whole, and counts, from the first [`Recorder::seal`] on.
#[derive(Debug)]
pub struct Recorder<'r> {
    bytes: &'r mut [u8],
    used: usize,
}

impl<'r> Recorder<'r> {
    /// Begins a record in place of the one that is there. `None`: the region is too small for one.
    pub fn begin(bytes: &'r mut [u8], facts: &Facts<'_>) -> Option<Self> {
        if bytes.len() < REGION_BYTES {
            return None;
        }
        let in_a_row = in_a_row(bytes, facts.uptime);
        let header = bytes.get_mut(..TEXTS)?;
        header.fill(0);
        header[IN_A_ROW..STARTS].copy_from_slice(&in_a_row.to_le_bytes());
        header[UPTIME..CLOCK].copy_from_slice(&facts.uptime.to_le_bytes());
        if let Some(clock) = facts.clock {
            header[CLOCK..CLOCK + 2].copy_from_slice(&clock.year.to_le_bytes());
            header[CLOCK + 2..CLOCK + 7].copy_from_slice(&clock.rest);
        }
        let addresses = facts.backtrace.len().min(BACKTRACE_MAX);
        header[ADDRESSES] = addresses as u8;
        let places = header[BACKTRACE..].chunks_exact_mut(8);
        for (place, address) in places.zip(facts.backtrace) {
            place.copy_from_slice(&address.to_le_bytes());
        }
        let mut recorder = Self { bytes, used: TEXTS };
        recorder.text(format_args!("{}", facts.version));
        recorder.text(format_args!("{}", facts.revision));
        recorder.text(facts.message);
        match facts.location {
            Some(location) => recorder.text(format_args!("{location}")),
            None => recorder.text(format_args!("")),
        }
        recorder.text(facts.details);
        Some(recorder)
    }

    /// Makes what was written so far the record; answers how many crashes in a row, each within [`LIFE`] of its start, this
    /// one ends.
    pub fn seal(&mut self) -> u32 {
        let length = self.used as u32;
        self.bytes[LENGTH..IN_A_ROW].copy_from_slice(&length.to_le_bytes());
        self.bytes[..CRC].copy_from_slice(MAGIC);
        sign(&mut self.bytes[..self.used]);
        word(self.bytes, IN_A_ROW)
    }

    /// Adds a line of the log, as far as there is room.
    pub fn line(&mut self, entry: &Entry) {
        let mut into = Into {
            bytes: self.bytes,
            used: &mut self.used,
            end: REGION_BYTES,
        };
        // What finds no room is left out.
        let _ = writeln!(into, "{entry}");
    }

    fn text(&mut self, text: fmt::Arguments<'_>) {
        let at = self.used;
        self.used += 2;
        let mut into = Into {
            bytes: self.bytes,
            end: (self.used + TEXT_MAX).min(REGION_BYTES),
            used: &mut self.used,
        };
        // What finds no room is left out.
        let _ = into.write_fmt(text);
        let length = (self.used - at - 2) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_le_bytes());
    }
}

/// Writes printable text and ends of lines behind what is there.
struct Into<'a> {
    bytes: &'a mut [u8],
    used: &'a mut usize,
    end: usize,
}

impl Write for Into<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().filter(|byte| *byte != b'\r') {
            if *self.used >= self.end {
                break;
            }
            let safe = byte == b'\n' || is_printable(byte);
            self.bytes[*self.used] = if safe { byte } else { b'?' };
            *self.used += 1;
        }
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

fn sign(record: &mut [u8]) {
    let crc = crc32c(&record[LENGTH..]);
    record[CRC..LENGTH].copy_from_slice(&crc.to_le_bytes());
}

/// How many crashes in a row, each within [`LIFE`] of its start, one makes that comes `uptime` after this start.
fn in_a_row(bytes: &[u8], uptime: Micros) -> u32 {
    let before = match Crash::read(bytes) {
        // With more starts since then there was one without a crash in between.
        Some(last) if last.starts <= 1 && uptime < LIFE => last.in_a_row,
        _ => 0,
    };
    before.saturating_add(1)
}

/// Notes in a record that the node starts once more.
pub fn note_start(bytes: &mut [u8]) {
    if let Some(crash) = Crash::read(bytes) {
        let (starts, length) = (crash.starts.saturating_add(1), crash.length);
        bytes[STARTS..UPTIME].copy_from_slice(&starts.to_le_bytes());
        sign(&mut bytes[..length]);
    }
}

/// Forgets the record.
pub fn clear(bytes: &mut [u8]) {
    bytes.fill(0);
}

/// A record as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash<'a> {
    /// Since the start of the node that crashed.
    pub uptime: Micros,
    /// When, if the machine has a clock.
    pub clock: Option<Clock>,
    /// How many times the node has started since then.
    pub starts: u32,
    /// Crashes in a row, this one included.
    pub in_a_row: u32,
    /// Which build it was.
    pub version: &'a str,
    /// The commit it was made from.
    pub revision: &'a str,
    /// What happened.
    pub message: &'a str,
    /// Where in the source; may be empty.
    pub location: &'a str,
    /// Registers and the like, in lines.
    pub details: &'a str,
    /// The last lines of the log.
    pub log: &'a str,
    /// Return addresses, eight bytes each.
    backtrace: &'a [u8],
    length: usize,
}

impl<'a> Crash<'a> {
    /// The record in a region, if there is a whole one.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < TEXTS || bytes[..CRC] != *MAGIC {
            return None;
        }
        let length = word(bytes, LENGTH) as usize;
        let record = bytes.get(..length).filter(|record| record.len() >= TEXTS)?;
        if crc32c(&record[LENGTH..]) != word(record, CRC) {
            return None;
        }
        let mut rest = &record[TEXTS..];
        let mut text = || {
            let (length, behind) = rest.split_first_chunk()?;
            let (text, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
            rest = behind;
            core::str::from_utf8(text).ok()
        };
        let [version, revision, message] = [text()?, text()?, text()?];
        let [location, details] = [text()?, text()?];
        let mut parts = [0; 5];
        parts.copy_from_slice(&record[CLOCK + 2..CLOCK + 7]);
        let year = word(record, CLOCK) as u16;
        let addresses = usize::from(record[ADDRESSES]).min(BACKTRACE_MAX);
        Some(Self {
            uptime: long(record, UPTIME),
            clock: (year > 0).then_some(Clock { year, rest: parts }),
            starts: word(record, STARTS),
            in_a_row: word(record, IN_A_ROW),
            version,
            revision,
            message,
            location,
            details,
            log: core::str::from_utf8(rest).ok()?,
            backtrace: &record[BACKTRACE..BACKTRACE + 8 * addresses],
            length,
        })
    }

    /// Return addresses, innermost first.
    pub fn backtrace(&self) -> impl Iterator<Item = u64> + 'a {
        self.backtrace.chunks_exact(8).map(|place| long(place, 0))
    }
}

/// In one line what happened, and when: for the log.
impl fmt::Display for Crash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if !self.location.is_empty() {
            write!(f, ", at {}", self.location)?;
        }
        write!(f, ", {} after its start", Span(self.uptime))?;
        if let Some(clock) = self.clock {
            write!(f, ", at {clock} by the machine's clock")?;
        }
        Ok(())
    }
}

/// Writes the answer to `crash show`.
///
/// # Errors
/// Those of `out`.
pub fn text(crash: Option<&Crash<'_>>, out: &mut dyn Write) -> fmt::Result {
    let Some(crash) = crash else {
        return writeln!(out, "no crash is on record");
    };
    writeln!(out, "{}", crash.message)?;
    if !crash.location.is_empty() {
        writeln!(out, "at        {}", crash.location)?;
    }
    write!(out, "when      {} after its start", Span(crash.uptime))?;
    if let Some(clock) = crash.clock {
        write!(out, ", {clock} by the machine's clock")?;
    }
    let (version, revision) = (crash.version, crash.revision);
    writeln!(out, "\nstarts    {} since then", crash.starts)?;
    if crash.in_a_row > 1 {
        writeln!(out, "in a row  {}", crash.in_a_row)?;
    }
    writeln!(out, "version   {version} ({revision})")?;
    out.write_str(crash.details)?;
    write!(out, "backtrace")?;
    for (place, address) in crash.backtrace().enumerate() {
        // Six of them, at most eleven columns each, are a line.
        let gap = if place > 0 && place % 6 == 0 {
            "\n         "
        } else {
            ""
        };
        write!(out, "{gap} {address:#x}")?;
    }
    writeln!(
        out,
        "\nNames for the addresses: addr2line -f -e palisade.debug.elf ADDRESS..."
    )?;
    write!(out, "the last lines of its log:\n{}", crash.log)
}

/// Writes the answer to `crash show --json`: one line.
///
/// # Errors
/// Those of `out`.
pub fn json(crash: Option<&Crash<'_>>, out: &mut dyn Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.object(None, |json| {
        json.number("schema", crate::status::SCHEMA.into())?;
        let Some(crash) = crash else {
            return json.raw("crash", format_args!("null"));
        };
        json.object(Some("crash"), |json| {
            json.string("message", crash.message)?;
            json.string("location", crash.location)?;
            json.number("uptime_us", crash.uptime)?;
            match crash.clock {
                Some(clock) => json.raw("clock", format_args!("\"{clock}\""))?,
                None => json.raw("clock", format_args!("null"))?,
            }
            json.number("starts", crash.starts.into())?;
            json.number("in_a_row", crash.in_a_row.into())?;
            json.string("version", crash.version)?;
            json.string("revision", crash.revision)?;
            json.string("details", crash.details)?;
            let addresses = Addresses(crash);
            json.raw("backtrace", format_args!("[{addresses}]"))?;
            json.string("log", crash.log)
        })
    })?;
    out.write_char('\n')
}

struct Addresses<'a>(&'a Crash<'a>);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, address) in self.0.backtrace().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}\"{address:#x}\"")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
