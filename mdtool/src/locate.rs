//! Finds a disk's metadata and reads all of it.

use crate::disk::Disk;
use replication::ondisk::{Depth, Inspection, PAGE, Survey};

/// Pages of one read.
const CHUNK: u32 = 256;

/// Finds the two copies of the superblock.
pub fn locate(disk: &Disk, depth: Depth) -> Survey {
    let mut survey = Survey::new(disk.bytes(), depth);
    while survey.in_superblocks() && step(disk, &mut survey) {}
    survey
}

/// Reads the activity log and the bitmap, if there is a superblock that says where they are.
pub fn inspect<'a>(disk: &Disk, survey: &'a mut Survey) -> &'a Inspection {
    while step(disk, survey) {}
    match survey.inspection() {
        Some(inspection) => inspection,
        None => unreachable!("a survey that wants nothing any more has an inspection"),
    }
}

fn step(disk: &Disk, survey: &mut Survey) -> bool {
    let Some((offset, pages)) = survey.wants(CHUNK) else {
        return false;
    };
    let bytes = disk.read(offset, pages as usize * PAGE).ok();
    survey.got(bytes.as_deref());
    true
}
