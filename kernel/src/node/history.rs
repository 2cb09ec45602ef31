//! The log's memory: what the console prints and the verb `log` shows.

use admin::log::{Entry, Ring};
use core::fmt;
use log::LevelFilter;
use replication::api::Level;
use spin::Mutex;

use super::signals;
use crate::{crash, logging, time};

static RING: Mutex<Option<Ring>> = Mutex::new(None);

/// Sends the log here from now on, into a ring of `bytes` bytes.
pub fn init(bytes: usize) {
    *RING.lock() = Some(Ring::new(bytes));
    logging::set_sink(record);
    crash::set_log(last_words);
}

/// Keeps and shows only what is at least as grave as `level`.
pub fn set_level(level: Level) {
    log::set_max_level(match level {
        Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Debug => LevelFilter::Debug,
    });
}

fn record(level: log::Level, _target: &str, message: fmt::Arguments<'_>) {
    if let Some(ring) = RING.lock().as_mut() {
        ring.push(time::now_micros(), super::level_of(level), message);
    }
    signals::CONSOLE.signal(());
}

/// The entry after the first `seen` ones, or the oldest there is.
pub fn next(seen: u64) -> Option<Entry> {
    RING.lock().as_ref().and_then(|ring| ring.from(seen).next())
}

/// Calls `show` with the last `count` entries that are at least as grave as `least`, oldest first.
pub fn last(count: usize, least: Level, mut show: impl FnMut(&Entry)) {
    if let Some(ring) = RING.lock().as_ref() {
        ring.last(count, least).for_each(|entry| show(&entry));
    }
}

/// The same of all levels, for a kernel that crashes: nothing if that happened in the midst of the log.
fn last_words(count: usize, show: &mut dyn FnMut(&Entry)) {
    if let Some(ring) = RING.try_lock().as_deref().and_then(Option::as_ref) {
        ring.last(count, Level::Debug)
            .for_each(|entry| show(&entry));
    }
}
