//! Matches what the configuration names with the disks and cards that were found.
//!
//! Pure: the kernel tells what its drivers found and reports each mistake; a volume without a
//! usable disk is served through the peer or not at all, a card that is missing leaves its role
//! idle. Nothing here stops the node.

mod disks;
mod nics;

pub use disks::{DiskMatch, DiskProblem, DiskProblemKind, FoundDisk, match_disks};
pub use nics::{FoundNic, NicMatch, NicProblem, NicWarning, match_nics};
