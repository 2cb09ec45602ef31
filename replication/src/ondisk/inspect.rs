//! Metadata summed up for a person: what `inspect` shows on the console and in the host tool.
//!
//! Reading is the caller's: [`Inspection::new`] takes what was read of the superblocks,
//! [`Inspection::layout`] says what to read next, and each page goes into
//! [`Inspection::activity_pair`] or [`Inspection::bitmap_page`] (reading less is fine, the summary
//! says so). Then [`Inspection::findings`] lists what is noteworthy or wrong, and `Display` prints all.

use super::Bytes;
use super::activity::Evidence;
use super::{
    Chosen, Finding, Layout, PAGE_WORDS, Page, PageError, Place, RELEASE_NEEDED, Reserve,
    SnapshotState, Superblock, SuperblockError, Unusable, VERSION, Verdict, Which, activity,
    bitmap, choose,
};
use crate::api::DiskState;
use core::fmt;
use fencing::Record;
use resync::BLOCK;

/// What the activity log pages said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ActivitySummary {
    /// Pairs that were looked at.
    pub pairs: u32,
    /// Of these, pairs with one bad page.
    pub torn: u32,
    /// Of these, pairs of which nothing is known.
    pub lost: u32,
    /// Hot extents in them (all of a lost pair).
    pub hot: u64,
}

/// What the bitmap pages said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BitmapSummary {
    /// Pages that were looked at.
    pub pages: u32,
    /// Of these, pages that cannot be used.
    pub bad: u32,
    /// The first of those, and why.
    pub first_bad: Option<(u32, PageError)>,
    /// Dirty blocks of 4 KiB in them (all of a bad page).
    pub dirty: u64,
}

/// Metadata as it was found on a disk.
#[derive(Debug, Clone)]
pub struct Inspection {
    disk_bytes: u64,
    chosen: Result<Chosen, Unusable>,
    activity: ActivitySummary,
    bitmap: BitmapSummary,
}

impl Inspection {
    /// Begins with what was read of the two superblock copies. `disk_bytes` is the size of the
    /// disk that holds the metadata.
    #[must_use]
    pub fn new(
        disk_bytes: u64,
        a: Result<Superblock, SuperblockError>,
        b: Result<Superblock, SuperblockError>,
    ) -> Self {
        Self {
            disk_bytes,
            chosen: choose(a, b),
            activity: ActivitySummary::default(),
            bitmap: BitmapSummary::default(),
        }
    }

    /// The superblock that counts, if one does.
    #[must_use]
    pub fn superblock(&self) -> Option<&Superblock> {
        self.chosen.as_ref().ok().map(|chosen| &chosen.superblock)
    }

    /// Where to read on: `None` if there is no usable superblock, or the disk is smaller than it says.
    #[must_use]
    pub fn layout(&self) -> Option<&Layout> {
        let layout = &self.superblock()?.layout;
        (layout.end() <= self.disk_bytes).then_some(layout)
    }

    /// Takes in activity log pair `number`; a page that could not be read is `None`.
    pub fn activity_pair(&mut self, number: u32, slots: [Option<&Page>; 2]) {
        let Some(superblock) = self.superblock() else {
            return;
        };
        let mut words = [0; PAGE_WORDS];
        let found = activity::recover(superblock.device_id, number, slots, &mut words);
        let before = u64::from(number) * super::ACTIVITY_PAGE_EXTENTS;
        let hot = count(&words, superblock.layout.extents().saturating_sub(before));
        self.activity.pairs += 1;
        self.activity.torn += u32::from(found.evidence == Evidence::Torn);
        self.activity.lost += u32::from(found.evidence == Evidence::Lost);
        self.activity.hot += hot;
    }

    /// Takes in bitmap page `number`; `None` if it could not be read.
    pub fn bitmap_page(&mut self, number: u32, page: Option<&Page>) {
        let Some(superblock) = self.superblock() else {
            return;
        };
        let mut words = [u64::MAX; PAGE_WORDS];
        let result = match page {
            Some(page) => bitmap::decode(superblock.device_id, number, page, &mut words),
            None => Err(PageError::Unreadable),
        };
        let blocks = superblock.layout.volume_bytes.div_ceil(BLOCK);
        let before = u64::from(number) * PAGE_WORDS as u64 * 64;
        if superblock.all_dirty {
            // Whatever the pages say.
            words = [u64::MAX; PAGE_WORDS];
        }
        let dirty = count(&words, blocks.saturating_sub(before));
        self.bitmap.pages += 1;
        self.bitmap.dirty += dirty;
        if let Err(error) = result {
            self.bitmap.bad += 1;
            self.bitmap.first_bad.get_or_insert((number, error));
        }
    }

    /// What the superblock copies came to.
    ///
    /// # Errors
    ///
    /// Why there is no usable one.
    pub fn chosen(&self) -> Result<&Chosen, &Unusable> {
        self.chosen.as_ref()
    }

    /// What the activity log pages taken in so far said.
    #[must_use]
    pub fn activity(&self) -> ActivitySummary {
        self.activity
    }

    /// What the bitmap pages taken in so far said.
    #[must_use]
    pub fn bitmap(&self) -> BitmapSummary {
        self.bitmap
    }

    /// Everything noteworthy, the gravest kinds first.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        let unusable = self.chosen.as_ref().err().cloned().map(Finding::Unusable);
        let rest = self.chosen.as_ref().ok().map(|chosen| self.about(chosen));
        unusable
            .into_iter()
            .chain(rest.into_iter().flatten().flatten())
    }

    fn about(&self, chosen: &Chosen) -> [Option<Finding>; 12] {
        let (superblock, activity, bitmap) = (&chosen.superblock, self.activity, self.bitmap);
        let (end, disk) = (superblock.layout.end(), self.disk_bytes);
        let other = match chosen.from {
            Which::A => Which::B,
            Which::B => Which::A,
        };
        let repair = chosen.repair.clone();
        let hot = activity.hot;
        let untrusted = superblock.all_dirty;
        let compat = superblock.compat & !super::COMPAT_KNOWN;
        let new = superblock.current == 0 && superblock.disk == DiskState::Inconsistent;
        [
            (end > disk).then_some(Finding::DiskShrank { needed: end, disk }),
            repair.map(|repair| Finding::Copy {
                which: other,
                repair,
            }),
            (activity.lost > 0).then_some(Finding::ActivityLost {
                pairs: activity.lost,
            }),
            bitmap
                .first_bad
                .filter(|_| !untrusted)
                .map(|(first, error)| Finding::BitmapBad {
                    pages: bitmap.bad,
                    first,
                    error,
                }),
            superblock
                .moved_from
                .map(|from| Finding::MoveUnfinished { from }),
            (disk >= end + super::PAGE as u64).then_some(Finding::DiskGrew { end, disk }),
            superblock
                .primary
                .then_some(Finding::CrashedPrimary { hot }),
            (activity.torn > 0).then_some(Finding::ActivityTorn {
                pairs: activity.torn,
            }),
            (!superblock.primary && hot > 0).then_some(Finding::HotWithoutPrimary { hot }),
            (untrusted && !new).then_some(Finding::AllDirty),
            new.then_some(Finding::New),
            (compat != 0).then_some(Finding::UnknownCompat { bits: compat }),
        ]
    }

    /// The gravest finding's weight.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let weights = self.findings().map(|finding| finding.verdict());
        weights.max().unwrap_or(Verdict::Good)
    }
}

/// Bits set among the first `valid`.
fn count(words: &[u64], valid: u64) -> u64 {
    let bits = words.iter().enumerate().map(|(index, word)| {
        let valid = valid.saturating_sub(index as u64 * 64);
        let mask = if valid >= 64 {
            u64::MAX
        } else {
            (1 << valid) - 1
        };
        u64::from((word & mask).count_ones())
    });
    bits.sum()
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(chosen) = &self.chosen {
            superblock_text(f, chosen)?;
            self.pages_text(f, &chosen.superblock)?;
        }
        for finding in self.findings() {
            writeln!(f, "{}: {finding}", finding.kind())?;
        }
        Ok(())
    }
}

fn superblock_text(f: &mut fmt::Formatter<'_>, chosen: &Chosen) -> fmt::Result {
    let superblock = &chosen.superblock;
    let layout = &superblock.layout;
    writeln!(
        f,
        "superblock    copy {:?}, save {}, device {:016X}, format {VERSION} (from release {RELEASE_NEEDED} on)",
        chosen.from, superblock.sequence, superblock.device_id,
    )?;
    writeln!(
        f,
        "volume        vol{} of resource {} on node {}: {} ({} bytes), blocks of {} bytes",
        superblock.volume,
        superblock.resource,
        superblock.node,
        Bytes(layout.volume_bytes),
        layout.volume_bytes,
        superblock.block_size,
    )?;
    writeln!(
        f,
        "disk          {:?}, peer {:?}, {}{}",
        superblock.disk,
        superblock.peer_disk,
        if superblock.primary {
            "Primary"
        } else {
            "not Primary"
        },
        if superblock.all_dirty {
            ", all dirty"
        } else {
            ""
        },
    )?;
    writeln!(
        f,
        "generation    {:016X}, peer left at {:016X}, before {:016X} {:016X}",
        superblock.current, superblock.bitmap, superblock.history[0], superblock.history[1],
    )?;
    if superblock.verify_cursor > 0 {
        writeln!(
            f,
            "verify        stopped at byte {}",
            superblock.verify_cursor
        )?;
    }
    match Record::decode(&superblock.reserve) {
        Ok((_, 0)) => {}
        Ok((record, revision)) => {
            write!(f, "fencing       {}", record.own)?;
            if let Some(mark) = record.mark {
                write!(f, ", fenced by the peer's episode {mark}")?;
            }
            writeln!(f, ", save {revision}")?;
        }
        Err(error) => writeln!(f, "fencing       {error}")?,
    }
    snapshot_text(f, superblock)?;
    let place = match layout.place {
        Place::Internal => "at the end of the data disk",
        Place::External => "on a disk of its own",
    };
    writeln!(
        f,
        "layout        {place}: A {}, activity log {} (room for {} pairs), bitmap {} (room for {} pages), B {}",
        layout.superblock_a,
        layout.activity,
        layout.activity_pairs,
        layout.bitmap,
        layout.bitmap_pages,
        layout.superblock_b,
    )
}

fn snapshot_text(f: &mut fmt::Formatter<'_>, superblock: &Superblock) -> fmt::Result {
    let layout = &superblock.layout;
    if layout.reserve_bytes > 0 {
        let reserve = Reserve::new(layout.reserve, layout.reserve_bytes);
        writeln!(
            f,
            "reserve       {} at {}, room for {} blocks",
            Bytes(layout.reserve_bytes),
            layout.reserve,
            reserve.slots(),
        )?;
    }
    let Some(snapshot) = &superblock.snapshot else {
        return Ok(());
    };
    let state = match snapshot.state {
        SnapshotState::Held => "held, of a resync that has not ended",
        SnapshotState::RollingBack => "being rolled back",
        SnapshotState::RolledBack => "rolled back",
    };
    writeln!(
        f,
        "snapshot      {state}: {:?} in generation {:016X}, peer left at {:016X}",
        snapshot.disk, snapshot.gens.current, snapshot.gens.bitmap,
    )
}

impl Inspection {
    fn pages_text(&self, f: &mut fmt::Formatter<'_>, superblock: &Superblock) -> fmt::Result {
        let layout = &superblock.layout;
        let (activity, bitmap) = (self.activity, self.bitmap);
        writeln!(
            f,
            "activity log  {} of {} extents hot; read {} of {} pairs: {} torn, {} lost",
            activity.hot,
            layout.extents(),
            activity.pairs,
            layout.activity_pairs_used(),
            activity.torn,
            activity.lost,
        )?;
        writeln!(
            f,
            "bitmap        {} dirty ({} blocks); read {} of {} pages: {} bad",
            Bytes(bitmap.dirty.saturating_mul(BLOCK)),
            bitmap.dirty,
            bitmap.pages,
            layout.bitmap_pages_used(),
            bitmap.bad,
        )
    }
}
