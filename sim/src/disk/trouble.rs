//! What is wrong with a disk: errors it answers with, and lies it tells.

use replication::api::{DiskError, DiskOp};
use std::collections::BTreeSet;
use std::ops::Range;

/// A lie of a disk about one operation: drawn as a fault, or made to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdeed {
    /// A write is acknowledged and forgotten.
    LoseWrite,
    /// A write lands before an overlapping one that completed before it.
    Reorder,
    /// A flush is acknowledged and nothing becomes durable.
    LoseFlush,
    /// A write lands one sector further.
    Misdirect,
    /// A write lands somewhere among the data, where it is rubbish.
    WriteElsewhere(u64),
    /// A read returns what the sectors held at the last flush.
    StaleRead,
    /// A read returns something else.
    ReadElsewhere(u64),
}

impl Misdeed {
    /// Whether it is about such an operation.
    #[must_use]
    pub fn concerns(self, op: &DiskOp) -> bool {
        match self {
            Self::StaleRead | Self::ReadElsewhere(_) => matches!(op, DiskOp::Read { .. }),
            Self::LoseFlush => matches!(op, DiskOp::Flush),
            _ => matches!(op, DiskOp::Write { .. }),
        }
    }
}

/// The errors a disk answers with, until they end.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Flushes that will fail.
    pub flushes_fail: u32,
    /// Every operation fails until the next boot.
    pub gone: bool,
    /// Sectors that cannot be read until they are written.
    pub latent: BTreeSet<usize>,
    /// Sectors of metadata of which the next read shows something else, made from a number.
    pub misread: Option<(Range<usize>, u64)>,
    /// The lie it tells next.
    pub lie: Option<Misdeed>,
    /// It answers nothing until then.
    pub hangs_until: u64,
}

impl Trouble {
    /// How an operation that completes now fails.
    pub(super) fn error(&mut self, op: &DiskOp, r: &Range<usize>) -> Option<DiskError> {
        if self.gone {
            return Some(DiskError::Gone);
        }
        match op {
            DiskOp::Flush if self.flushes_fail > 0 => {
                self.flushes_fail -= 1;
                Some(DiskError::Io)
            }
            DiskOp::Read { .. } if self.latent.range(r.clone()).next().is_some() => {
                Some(DiskError::Io)
            }
            _ => None,
        }
    }

    /// Takes the misreading if it is about what is read here.
    pub(super) fn misreads(&mut self, r: &Range<usize>) -> Option<u64> {
        let within = |(all, _): &mut (Range<usize>, u64)| all.start <= r.start && r.end <= all.end;
        self.misread.take_if(within).map(|m| m.1)
    }

    /// Sectors were written: a latent error there is gone.
    pub(super) fn written(&mut self, r: &Range<usize>) {
        if !self.latent.is_empty() {
            self.latent.retain(|s| !r.contains(s));
        }
    }

    /// The node restarts: what is wrong with the medium stays.
    pub(super) fn restarted(&mut self) {
        self.flushes_fail = 0;
        self.gone = false;
        self.lie = None;
        self.hangs_until = 0;
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_none(&self) -> bool {
        !self.gone && self.flushes_fail == 0 && self.latent.is_empty() && self.lie.is_none()
    }
}
