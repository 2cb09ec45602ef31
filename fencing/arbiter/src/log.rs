//! The log, on standard output.

use std::fmt;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines about datagrams that are nobody's, in [`PERIOD`] at most: whoever sends rubbish must not fill the disk with it.
const RUBBISH_MAX: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

/// Writes a line. Whoever does not read the log, or has gone away, stops nothing.
pub fn line(text: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A line of the log.
#[macro_export]
macro_rules! log {
    ($($text:tt)*) => { $crate::log::line(format_args!($($text)*)) };
}

struct Count {
    since: Instant,
    lines: u32,
}

/// Lines that anybody can bring about.
pub struct Rubbish(Mutex<Count>);

impl Rubbish {
    pub fn new() -> Self {
        Self(Mutex::new(Count {
            since: Instant::now(),
            lines: 0,
        }))
    }

    /// Writes the line, unless there were too many of its kind.
    pub fn line(&self, text: fmt::Arguments<'_>) {
        let mut count = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if count.since.elapsed() >= PERIOD {
            if let Some(more @ 1..) = count.lines.checked_sub(RUBBISH_MAX) {
                line(format_args!("{more} more datagrams like that were dropped"));
            }
            count.since = Instant::now();
            count.lines = 0;
        }
        count.lines = count.lines.saturating_add(1);
        if count.lines <= RUBBISH_MAX {
            line(text);
        }
    }
}
