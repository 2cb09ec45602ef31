//! Why a page is not a superblock that can be used.

use super::layout::LayoutFault;
use super::{VERSION, VERSION_MIN};
use core::fmt;

/// A release as a superblock names it: printable ASCII, at most 16 bytes.
pub type Release = heapless::String<16>;

/// A field that cannot have the value it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The sequence is 0.
    Sequence,
    /// The device id is 0.
    DeviceId,
    /// The resource's name is not a name.
    Resource,
    /// The node's name is not a name.
    Node,
    /// Neither internal nor external.
    Place,
    /// The block size is not 512 or 4096, or does not divide the volume's size.
    BlockSize,
    /// Extents are not of 4 MiB.
    ExtentSize,
    /// The layout.
    Layout(LayoutFault),
    /// The disk's state is none that is stored.
    Disk,
    /// The peer's disk state is none.
    PeerDisk,
    /// A flag that nobody defined.
    Flags,
    /// The verify cursor lies beyond the volume.
    VerifyCursor,
    /// The places that the metadata came from are none that it can have come from.
    MovedFrom,
    /// The record of a snapshot is none that is written.
    Snapshot,
    /// An incompatible feature that this release does not know (only when encoding).
    Incompat,
}

/// Why a page is not a superblock that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuperblockError {
    /// All zero: nothing was ever written here.
    Blank,
    /// Something else.
    NotSuperblock,
    /// A superblock by its magic, but damaged.
    Checksum,
    /// Intact, but of a format that came after this release.
    TooNew {
        /// Its format version.
        version: u16,
        /// The release that can use it.
        release: Release,
    },
    /// Intact, but of a format that this release does not read any more.
    TooOld {
        /// Its format version.
        version: u16,
    },
    /// Intact, but it uses features that this release does not know.
    Features {
        /// Those features.
        bits: u64,
        /// The release that can use it.
        release: Release,
    },
    /// Intact, but a field cannot be so: whoever wrote it was wrong.
    Impossible(Field),
    /// The disk could not read it. Set by the caller.
    Unreadable,
}

impl SuperblockError {
    /// Whether the page passed its checksum, so that somebody meant what it says: it must not be
    /// passed over for an older copy.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        matches!(
            self,
            Self::TooNew { .. } | Self::TooOld { .. } | Self::Features { .. } | Self::Impossible(_)
        )
    }
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("all zero"),
            Self::NotSuperblock => f.write_str("not a superblock"),
            Self::Checksum => f.write_str("damaged (wrong checksum)"),
            Self::TooNew { version, release } => write!(
                f,
                "format version {version}, this release reads up to {VERSION}: use release {release} or later"
            ),
            Self::TooOld { version } => write!(
                f,
                "format version {version}, this release reads only from {VERSION_MIN} on"
            ),
            Self::Features { bits, release } => write!(
                f,
                "uses features ({bits:#x}) that this release does not know: use release {release} or later"
            ),
            Self::Impossible(field) => write!(f, "intact, but impossible: {field:?}"),
            Self::Unreadable => f.write_str("cannot be read"),
        }
    }
}
