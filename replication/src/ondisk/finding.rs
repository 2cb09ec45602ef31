//! What may be noteworthy or wrong about metadata, in words.

use super::{EXTENT, PageError, Repair, Unusable, Which};
use core::fmt;

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
    /// The metadata has moved here because its disk grew, and the copies that it had before are not zeroed yet.
    MoveUnfinished {
        /// Where they were.
        from: [u64; 2],
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
            Self::Copy { .. }
            | Self::ActivityLost { .. }
            | Self::BitmapBad { .. }
            | Self::MoveUnfinished { .. } => Verdict::Problems,
            _ => Verdict::Good,
        }
    }
}

impl Finding {
    /// The word that a report puts in front of the finding.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.verdict() {
            Verdict::Good => "note",
            Verdict::Problems => "problem",
            Verdict::Unusable => "not usable",
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
            Self::MoveUnfinished { from: [a, b] } => write!(
                f,
                "the metadata has moved to the end of a larger disk, and its former place from byte {a} to the page at {b} \
                 is zeroed at the next attach"
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

/// A size as people read it: whole numbers of the largest unit that divides it, else one decimal.
pub(crate) struct Bytes(pub u64);

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
