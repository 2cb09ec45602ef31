//! Heating ahead of a sequential writer.
//!
//! A stream of writes enters a new extent every 4 MiB and would wait for a commit each time, at 300 MiB/s
//! 75 times a second. So a write that begins where one of the last few ended, and is the first in its
//! extent, heats the extents that follow before the stream gets there. Random writes hardly ever look like that.

use super::super::EXTENT;
use super::super::extents::State;
use super::ActivityLog;

/// Extents that are heated ahead at once, when half as many are left.
const AHEAD: u32 = 8;

/// Streams that are told apart.
const STREAMS: usize = 8;

/// Where the latest writes ended.
#[derive(Debug)]
pub(super) struct Streams {
    ends: [u64; STREAMS],
    /// The end that was not continued for longest, roughly: the next to be forgotten.
    cursor: usize,
}

impl Streams {
    /// No write begins where the last byte of all is.
    pub const NONE: Self = Self {
        ends: [u64::MAX; STREAMS],
        cursor: 0,
    };

    /// Notes a write; answers whether it continues another.
    fn note(&mut self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        if let Some(known) = self.ends.iter_mut().find(|known| **known == offset) {
            *known = end;
            return true;
        }
        self.ends[self.cursor] = end;
        self.cursor = (self.cursor + 1) % STREAMS;
        false
    }
}

impl ActivityLog {
    /// A request entered. If it is the first of a stream in its last extent, and the extents after that (from
    /// `next` on) are cold, they are wanted too. Never more than a quarter of the limit: they would
    /// only push out each other. A stream that stays inside an extent, such as a journal, heats nothing.
    pub(super) fn look_ahead(&mut self, offset: u64, len: u64, next: u32) {
        let continues = self.streams.note(offset, len);
        let arrives = offset <= u64::from(next.saturating_sub(1)) * EXTENT;
        let ahead = AHEAD.min(self.limit / 4);
        if !continues || !arrives || ahead == 0 || self.draining {
            return;
        }
        let end = next.saturating_add(ahead).min(self.extents.len());
        let probe = next + (ahead - 1) / 2;
        if probe < end && self.extents.state(probe) == State::Cold {
            for extent in next..end {
                if self.extents.state(extent) == State::Cold {
                    self.want(extent);
                }
            }
        }
    }
}
