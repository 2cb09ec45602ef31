//! The `log` facade's sink.
//!
//! Until the console takes over with [`set_sink`], lines go straight to COM1. What was said before then is not kept:
//! it is on the serial line.

use core::fmt;

use log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

use crate::arch::serial;

/// Receives finished records: level, target (the module that speaks) and message.
pub type Sink = fn(log::Level, &str, fmt::Arguments<'_>);

struct KernelLog(Mutex<Sink>);

static LOG: KernelLog = KernelLog(Mutex::new(to_serial));

fn to_serial(level: log::Level, _target: &str, message: fmt::Arguments<'_>) {
    match level {
        log::Level::Error => serial::print(format_args!("palisade: error: {message}\r\n")),
        log::Level::Warn => serial::print(format_args!("palisade: warning: {message}\r\n")),
        _ => serial::print(format_args!("palisade: {message}\r\n")),
    }
}

impl Log for KernelLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Copied out, so that a sink may log without waiting for itself.
        let sink = *self.0.lock();
        sink(record.level(), record.target(), *record.args());
    }

    fn flush(&self) {
        serial::drain();
    }
}

/// Makes the `log` macros work. The level is `Info` until somebody raises it with `log::set_max_level`.
pub fn init() {
    // Fails only when a logger was set before, and this is called once.
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Sends records to `sink` from now on: the console's log.
pub fn set_sink(sink: Sink) {
    *LOG.0.lock() = sink;
}
