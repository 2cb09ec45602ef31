//! Which of the two superblock copies counts.

use super::{Superblock, SuperblockError};
use crate::mutation::{self, Mutation};
use core::fmt;

/// One of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The first page of the area, written first.
    A,
    /// The last page of the area, written when A is durable.
    B,
}

/// Why the other copy must be written again before anything else is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// It is an older save: a crash came between the two writes.
    Behind {
        /// By so many saves.
        by: u64,
    },
    /// It cannot be used.
    Bad(SuperblockError),
}

/// The copy that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its content.
    pub superblock: Superblock,
    /// Which copy it is.
    pub from: Which,
    /// Why the other one must be rewritten, with the chosen one's content; `None`: they are equal.
    pub repair: Option<Repair>,
}

/// Why neither copy may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// Neither is a superblock: there is no metadata here.
    NoMetadata,
    /// There was metadata, but both copies are damaged or gone.
    Damaged {
        /// What is wrong with the first copy.
        a: SuperblockError,
        /// What is wrong with the second copy.
        b: SuperblockError,
    },
    /// A copy is intact but not for this release (or not possible): using the other, which may be older,
    /// would undo what was saved last.
    Refused {
        /// That copy.
        which: Which,
        /// Why it is refused.
        error: SuperblockError,
    },
    /// Both are intact, but of different metadata, or different with the same sequence: nothing
    /// this program does leaves that.
    Conflict,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMetadata => f.write_str("there is no metadata on this disk: run create-md"),
            Self::Damaged { a, b } => write!(
                f,
                "both superblock copies are bad (first: {a}; second: {b}): restore the disk, or \
                 create-md --force and let the peer resync this node"
            ),
            Self::Refused { which, error } => {
                write!(
                    f,
                    "superblock copy {which:?} is not for this release: {error}"
                )
            }
            Self::Conflict => f.write_str(
                "the two superblock copies contradict each other: is this a mixture of two disks? \
                 create-md --force and let the peer resync this node",
            ),
        }
    }
}

/// Picks the copy that counts from what [`Superblock::decode`] said of each: the intact one
/// with the highest sequence.
///
/// # Errors
///
/// [`Unusable`].
pub fn choose(
    a: Result<Superblock, SuperblockError>,
    b: Result<Superblock, SuperblockError>,
) -> Result<Chosen, Unusable> {
    for (which, copy) in [(Which::A, &a), (Which::B, &b)] {
        if let Err(error) = copy
            && error.is_intact()
        {
            let error = error.clone();
            return Err(Unusable::Refused { which, error });
        }
    }
    let chosen = |superblock, from, repair| Chosen {
        superblock,
        from,
        repair,
    };
    match (a, b) {
        (Ok(a), Ok(b)) => {
            let behind = a.sequence.abs_diff(b.sequence);
            if a.device_id != b.device_id || (behind == 0 && a != b) {
                return Err(Unusable::Conflict);
            }
            let repair = (behind != 0).then_some(Repair::Behind { by: behind });
            let first = a.sequence >= b.sequence;
            Ok(if first != mutation::is(Mutation::StaleSuperblock) {
                chosen(a, Which::A, repair)
            } else {
                chosen(b, Which::B, repair)
            })
        }
        (Ok(a), Err(error)) => Ok(chosen(a, Which::A, Some(Repair::Bad(error)))),
        (Err(error), Ok(b)) => Ok(chosen(b, Which::B, Some(Repair::Bad(error)))),
        (Err(a), Err(b)) => Err(match (was_metadata(&a), was_metadata(&b)) {
            (false, false) => Unusable::NoMetadata,
            _ => Unusable::Damaged { a, b },
        }),
    }
}

fn was_metadata(error: &SuperblockError) -> bool {
    !matches!(
        error,
        SuperblockError::Blank | SuperblockError::NotSuperblock
    )
}
