//! Finds a disk's metadata and reads all of it.

use crate::disk::Disk;
use replication::ondisk::{Inspection, PAGE, Superblock, SuperblockError, find};

const PAGE_BYTES: u64 = PAGE as u64;
/// Bytes of one read while looking for metadata.
const CHUNK: u64 = 1 << 20;

/// Both superblock copies, and where the first of them was met.
pub struct Located {
    /// Byte at which a superblock was found; `None` without one.
    pub found_at: Option<u64>,
    /// The first copy.
    pub a: Result<Superblock, SuperblockError>,
    /// The second copy.
    pub b: Result<Superblock, SuperblockError>,
}

/// How far to look for metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Where it belongs: at the end of the disk, or at its beginning.
    Ends,
    /// Everywhere: the disk may have grown.
    All,
}

/// Looks at the end of the disk, where metadata belongs, and if there is none, backwards
/// through all of it or at its beginning only.
pub fn locate(disk: &Disk, depth: Depth) -> Located {
    let end = disk.bytes() - disk.bytes() % PAGE_BYTES;
    let Some(last) = end.checked_sub(PAGE_BYTES) else {
        return nowhere(disk, 0);
    };
    match search(disk, end, depth) {
        None => nowhere(disk, last),
        Some((found_at, Err(error))) => Located {
            found_at: Some(found_at),
            a: Err(error.clone()),
            b: Err(error),
        },
        Some((found_at, Ok(superblock))) => Located {
            found_at: Some(found_at),
            a: copy(disk, superblock.layout.superblock_a),
            b: copy(disk, superblock.layout.superblock_b),
        },
    }
}

/// What stands where the copies would be: A of external metadata, B of any.
fn nowhere(disk: &Disk, last: u64) -> Located {
    Located {
        found_at: None,
        a: copy(disk, 0),
        b: copy(disk, last),
    }
}

fn copy(disk: &Disk, at: u64) -> Result<Superblock, SuperblockError> {
    match disk.page(at) {
        Some(page) => Superblock::decode(&page),
        None => Err(SuperblockError::Unreadable),
    }
}

type Found = (u64, Result<Superblock, SuperblockError>);

fn search(disk: &Disk, end: u64, depth: Depth) -> Option<Found> {
    // The metadata's own place first, so that a good disk costs one read.
    let (mut lower, mut upper) = (end - PAGE_BYTES, end);
    loop {
        let found = match disk.read(lower, (upper - lower) as usize) {
            Ok(bytes) => find(&bytes, lower),
            Err(_) => by_pages(disk, lower, upper),
        };
        if found.is_some() || lower == 0 {
            return found;
        }
        (lower, upper) = match depth {
            Depth::Ends => (0, PAGE_BYTES),
            Depth::All => (lower.saturating_sub(CHUNK), lower),
        };
    }
}

/// A chunk that has unreadable parts.
fn by_pages(disk: &Disk, lower: u64, upper: u64) -> Option<Found> {
    let mut at = upper;
    while at > lower {
        at -= PAGE_BYTES;
        let found = disk.page(at).and_then(|page| find(&page, at));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Reads the activity log and the bitmap, if there is a superblock that says where they are.
pub fn inspect(disk: &Disk, located: &Located) -> Inspection {
    let mut inspection = Inspection::new(disk.bytes(), located.a.clone(), located.b.clone());
    let Some(layout) = inspection.layout().copied() else {
        return inspection;
    };
    for pair in 0..layout.activity_pairs_used() {
        let slot = |slot| disk.page(layout.activity_page(pair, slot)?);
        let slots = [slot(0), slot(1)];
        inspection.activity_pair(pair, [slots[0].as_ref(), slots[1].as_ref()]);
    }
    for number in 0..layout.bitmap_pages_used() {
        let page = layout.bitmap_page(number).and_then(|at| disk.page(at));
        inspection.bitmap_page(number, page.as_ref());
    }
    inspection
}
