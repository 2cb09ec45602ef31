//! New metadata: what to write in which order, so that a crash leaves none or a whole one.

use super::{Field, RESERVE, Superblock};
use super::{Layout, Page, activity, bitmap};
use crate::api::{DiskState, Name};

/// What is to be done next on the metadata's disk. A step begins when the one before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the page that was filled at this byte.
    Write(u64),
    /// Flush.
    Flush,
}

/// The steps of creating metadata, one [`Creation::next_step`] at a time:
///
/// 1. the places of both superblock copies (and those of the metadata that is replaced) become
///    zero: from here on there is no metadata;
/// 2. activity log and bitmap pages;
/// 3. superblock copy A, then B, each flushed.
#[derive(Debug, Clone)]
pub struct Creation {
    superblock: Superblock,
    replaced: Option<Layout>,
    step: u64,
}

impl Superblock {
    /// The superblock of new metadata: no generation, Inconsistent, all dirty, sequence 1.
    /// `device_id` must be random and not 0.
    #[must_use]
    pub fn new(
        device_id: u64,
        resource: Name,
        node: Name,
        volume: u16,
        block_size: u32,
        layout: Layout,
    ) -> Self {
        Self {
            compat: 0,
            incompat: 0,
            sequence: 1,
            device_id,
            resource,
            node,
            volume,
            block_size,
            layout,
            current: 0,
            bitmap: 0,
            history: [0; 2],
            disk: DiskState::Inconsistent,
            peer_disk: DiskState::DUnknown,
            primary: false,
            all_dirty: true,
            was_primary: false,
            verify_cursor: 0,
            reserve: [0; RESERVE],
            moved_from: None,
            snapshot: None,
        }
    }
}

impl Creation {
    /// The creation of metadata with this superblock on a disk where `replaced` was laid out, if anything
    /// was found there.
    ///
    /// # Errors
    ///
    /// The field of the superblock that would not be read again.
    pub fn new(superblock: Superblock, replaced: Option<Layout>) -> Result<Self, Field> {
        superblock.encode(&mut [0; super::PAGE])?;
        Ok(Self {
            superblock,
            replaced,
            step: 0,
        })
    }

    /// Fills `page` and says what to do, or that all is done.
    pub fn next_step(&mut self, page: &mut Page) -> Option<Step> {
        let step = self.step;
        self.step += 1;
        let layout = self.superblock.layout;
        let zeroed = self.zeroed();
        let logs = 2 * u64::from(layout.activity_pairs_used());
        let maps = u64::from(layout.bitmap_pages_used());
        if let Some(offset) = zeroed.get(usize::try_from(step).ok()?) {
            page.fill(0);
            return Some(match offset {
                Some(offset) => Step::Write(*offset),
                None => Step::Flush,
            });
        }
        let mut left = step - zeroed.len() as u64;
        if left < logs {
            return self.log_page(left, page);
        }
        left -= logs;
        if left < maps {
            // A 1 PiB volume has 8.4 million pages.
            let number = left as u32;
            // No bit is set: what counts is that the superblock says that all is dirty. Whoever takes that back, because
            // both disks are blank, then has no page to write.
            bitmap::encode(self.superblock.device_id, number, 1, &[], page);
            return layout.bitmap_page(number).map(Step::Write);
        }
        self.superblock.encode(page).ok()?;
        match left - maps {
            1 => Some(Step::Write(layout.superblock_a)),
            3 => Some(Step::Write(layout.superblock_b)),
            0 | 2 | 4 => Some(Step::Flush),
            _ => None,
        }
    }

    /// What is zeroed first; `None` is the flush behind it.
    fn zeroed(&self) -> [Option<u64>; 5] {
        let layout = self.superblock.layout;
        let old = self.replaced.unwrap_or(layout);
        [
            Some(old.superblock_a),
            Some(old.superblock_b),
            Some(layout.superblock_a),
            Some(layout.superblock_b),
            None,
        ]
    }

    fn log_page(&self, index: u64, page: &mut Page) -> Option<Step> {
        let (pair, slot) = ((index / 2) as u32, (index % 2) as u8);
        let sequence = u64::from(slot) + 1;
        activity::encode(self.superblock.device_id, pair, sequence, &[], page);
        let layout = &self.superblock.layout;
        layout.activity_page(pair, slot).map(Step::Write)
    }
}
