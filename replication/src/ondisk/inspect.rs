//! Metadata summed up for a person: what `inspect` shows on the console and in the host tool.
//!
//! Reading is the caller's: [`Inspection::new`] takes what was read of the superblocks,
//! [`Inspection::layout`] says what to read next, and each page goes into
//! [`Inspection::activity_pair`] or [`Inspection::bitmap_page`] (reading less is fine, the summary
//! says so). Then [`Inspection::findings`] lists what is noteworthy or wrong, and `Display` prints all.

use super::activity::Evidence;
use super::{
    Chosen, EXTENT, Layout, PAGE_WORDS, Page, PageError, Place, RELEASE_NEEDED, Repair, Superblock,
    SuperblockError, Unusable, VERSION, Which, activity, bitmap, choose, is_blank,
};
use crate::api::DiskState;
use core::fmt;
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

/// Something noteworthy, or wrong, about metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There is no usable superblock.
    Unusable(Unusable),
    /// The metadata reaches beyond the disk's end.
    DiskShrank {
        /// Bytes that the disk must have.
        needed: u64,
        /// Bytes that it has.
        disk: u64,
    },
    /// A superblock copy must be rewritten.
    Copy {
        /// The copy in question.
        which: Which,
        /// What is wrong.
        repair: Repair,
    },
    /// Pairs of activity log pages are unusable.
    ActivityLost {
        /// How many.
        pairs: u32,
    },
    /// Bitmap pages are unusable.
    BitmapBad {
        /// How many.
        pages: u32,
        /// The first of them.
        first: u32,
        /// What is wrong with it.
        error: PageError,
    },
    /// The disk is larger than when the metadata was laid out.
    DiskGrew {
        /// Where the metadata ends.
        end: u64,
        /// Bytes of the disk.
        disk: u64,
    },
    /// The node was Primary when it stopped.
    CrashedPrimary {
        /// Hot extents.
        hot: u64,
    },
    /// Pairs with one bad page, as a crash leaves them.
    ActivityTorn {
        /// How many.
        pairs: u32,
    },
    /// Extents are hot although the node was not Primary.
    HotWithoutPrimary {
        /// How many.
        hot: u64,
    },
    /// The bitmap is marked as not to be trusted.
    AllDirty,
    /// Created, but never in sync with anything.
    New,
    /// Written by a release that uses compatible features unknown here.
    UnknownCompat {
        /// Those features.
        bits: u64,
    },
}

/// How good metadata is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is wrong.
    Good,
    /// It can be used, and a node repairs it when it attaches the disk.
    Problems,
    /// A node refuses to attach the disk.
    Unusable,
}

impl Finding {
    /// How much the finding weighs; notes weigh nothing.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Unusable(_) | Self::DiskShrank { .. } => Verdict::Unusable,
            Self::Copy { .. } | Self::ActivityLost { .. } | Self::BitmapBad { .. } => {
                Verdict::Problems
            }
            _ => Verdict::Good,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => write!(f, "{why}"),
            Self::DiskShrank { needed, disk } => write!(
                f,
                "the metadata ends at byte {needed}, but the disk has only {disk}: give it its size back"
            ),
            Self::Copy { which, repair } => match repair {
                Repair::Behind { by } => write!(
                    f,
                    "superblock copy {which:?} is {by} save(s) older: a crash came in between; it is \
                     rewritten at the next attach"
                ),
                Repair::Bad(error) => write!(
                    f,
                    "superblock copy {which:?}: {error}; it is rewritten at the next attach"
                ),
            },
            Self::ActivityLost { pairs } => write!(
                f,
                "{pairs} pair(s) of activity log pages are lost: after a crash as Primary all \
                 their extents are resynced"
            ),
            Self::BitmapBad {
                pages,
                first,
                error,
            } => write!(
                f,
                "{pages} bitmap page(s) are bad, page {first} first ({error}): 127.5 MiB each are resynced"
            ),
            Self::DiskGrew { end, disk } => write!(
                f,
                "the disk has grown: {} lie behind the metadata",
                Bytes(disk.saturating_sub(*end))
            ),
            Self::CrashedPrimary { hot } => write!(
                f,
                "the node was Primary when it stopped: {hot} hot extent(s), {}, may differ from the peer's",
                Bytes(hot.saturating_mul(EXTENT))
            ),
            Self::ActivityTorn { pairs } => write!(
                f,
                "{pairs} pair(s) of activity log pages have one bad page, as a crash leaves them"
            ),
            Self::HotWithoutPrimary { hot } => write!(
                f,
                "{hot} extent(s) are hot although the node was not Primary: they are ignored"
            ),
            Self::AllDirty => {
                f.write_str("the whole volume is out of sync, whatever the bitmap says")
            }
            Self::New => f.write_str("new: never in sync with a peer"),
            Self::UnknownCompat { bits } => write!(
                f,
                "a newer release left compatible features ({bits:#x}) that are ignored here"
            ),
        }
    }
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

    fn about(&self, chosen: &Chosen) -> [Option<Finding>; 11] {
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

/// A size as people read it: whole numbers of the largest unit that divides it, else one decimal.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let Some((shift, name)) = UNITS.iter().find(|(shift, _)| self.0 >> shift > 0) else {
            return write!(f, "{} B", self.0);
        };
        // At most 1024 units, and tenths of a unit from its top ten bits.
        let tenths = ((self.0 >> (shift - 10) & 0x3ff) * 10) >> 10;
        match tenths {
            0 => write!(f, "{} {name}", self.0 >> shift),
            _ => write!(f, "{}.{tenths} {name}", self.0 >> shift),
        }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(chosen) = &self.chosen {
            superblock_text(f, chosen)?;
            self.pages_text(f, &chosen.superblock)?;
        }
        for finding in self.findings() {
            let kind = match finding.verdict() {
                Verdict::Good => "note",
                Verdict::Problems => "problem",
                Verdict::Unusable => "NOT USABLE",
            };
            writeln!(f, "{kind}: {finding}")?;
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
    if !is_blank(&superblock.reserve) {
        writeln!(f, "fencing       state is stored")?;
    }
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
