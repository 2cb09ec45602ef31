//! The memory that a reset leaves as it is: what a crash writes there, the next start reads.
//!
//! The linker script puts it behind the image and `boot` cuts it out of the free memory, if it is there. A crashing kernel
//! touches no disk: whatever went wrong must not reach data. So what a crash left is gone when the machine is switched off;
//! the console has said the same.

use core::fmt;
use core::ops::Range;
use core::panic::Location;
use core::sync::atomic::{AtomicU64, Ordering};

use admin::crash::{self, Crash, Facts, LOG_LINES, REGION_BYTES, Recorder};
use admin::log::Entry;
use spin::Once;

use crate::time::{self, rtc};
use crate::version;

/// Where it lies; zero: nowhere.
static START: AtomicU64 = AtomicU64::new(0);

/// Shows the last entries of the log, as many as it is told, oldest first.
type Log = fn(usize, &mut dyn FnMut(&Entry));

static LOG: Once<Log> = Once::new();

/// Has `log` asked for what was said last before a crash.
pub fn set_log(log: Log) {
    LOG.call_once(|| log);
}

/// Takes the region into use, and notes in what is there that the node has started.
pub fn init(region: Option<&Range<u64>>) {
    if let Some(region) = region.filter(|region| region.end - region.start == REGION_BYTES as u64) {
        START.store(region.start, Ordering::Relaxed);
        with(|bytes| bytes.map(crash::note_start));
    }
}

/// Its addresses, if there is one.
pub fn range() -> Option<Range<u64>> {
    let start = START.load(Ordering::Relaxed);
    (start != 0).then(|| start..start + REGION_BYTES as u64)
}

/// Calls `f`, which must not come back here, with the region.
fn with<R>(f: impl FnOnce(Option<&mut [u8]>) -> R) -> R {
    f(range().map(|range| {
        // SAFETY: the pages are RAM, mapped by the trampoline and by `mem::init`, and in no free region, so nothing else uses
        // them. One processor runs, tasks are cooperative, and `f` ends before the next call; a panic within it comes
        // here again, but nothing goes on behind that. Any byte is a `u8`.
        unsafe { core::slice::from_raw_parts_mut(range.start as *mut u8, REGION_BYTES) }
    }))
}

/// What the last crash has left; nothing if nobody has crashed since the machine was switched on, or it was forgotten.
pub fn last<R>(f: impl FnOnce(Option<&Crash<'_>>) -> R) -> R {
    with(|bytes| f(bytes.and_then(|bytes| Crash::read(bytes)).as_ref()))
}

/// Forgets it.
pub fn clear() {
    with(|bytes| bytes.map(crash::clear));
}

/// Leaves word of a crash. Answers how many there were in a row, each soon after its start; 0 if it cannot be told.
///
/// To be called with interrupts off by somebody who does not go on afterwards.
pub fn record(
    message: fmt::Arguments<'_>,
    location: Option<&Location<'_>>,
    details: fmt::Arguments<'_>,
    backtrace: &[u64],
) -> u32 {
    let facts = Facts {
        uptime: time::now_micros(),
        clock: rtc::read(),
        version: version::VERSION,
        revision: version::revision(),
        message,
        location,
        details,
        backtrace,
    };
    with(|bytes| {
        let Some(mut recorder) = bytes.and_then(|bytes| Recorder::begin(bytes, &facts)) else {
            return 0;
        };
        // Whole before the log is looked at: that may be what is broken.
        let in_a_row = recorder.seal();
        if let Some(log) = LOG.get() {
            log(LOG_LINES, &mut |entry| recorder.line(entry));
        }
        recorder.seal();
        // SAFETY: writes what the caches hold to memory. A reset may drop them.
        unsafe { core::arch::asm!("wbinvd", options(nostack)) };
        in_a_row
    })
}
