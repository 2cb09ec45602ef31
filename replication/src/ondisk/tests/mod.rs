//! Tests of the on-disk format.

mod create;
mod foreign;
mod inspect;
mod layout;
mod pages;
mod superblock;
mod survey;

use super::*;
use crate::api::{DiskState, Name};
use proptest::prelude::*;
use std::vec::Vec;

const DEVICE: u64 = 0x1234_5678_9abc_def0;
const SECTOR: usize = 512;

/// A superblock with something in every field.
fn sample() -> Superblock {
    Superblock {
        compat: 0,
        incompat: 0,
        sequence: 7,
        device_id: DEVICE,
        resource: Name::try_from("r0").unwrap(),
        node: Name::try_from("a").unwrap(),
        volume: 3,
        block_size: 512,
        layout: Layout::internal(1 << 30, None).unwrap(),
        current: 1,
        bitmap: 2,
        history: [3, 4],
        disk: DiskState::UpToDate,
        peer_disk: DiskState::Outdated,
        primary: true,
        all_dirty: false,
        was_primary: false,
        verify_cursor: 4096,
        reserve: [0x5a; RESERVE],
        moved_from: None,
        snapshot: None,
    }
}

fn page_of(superblock: &Superblock) -> Page {
    let mut page = [0xee; PAGE];
    superblock.encode(&mut page).unwrap();
    page
}

/// What is on the disk when only the sectors in `mask` of a write of `new` over `old` arrived.
fn torn(old: &Page, new: &Page, mask: u8) -> Page {
    let mut page = *old;
    for sector in (0..8).filter(|sector| mask & (1 << sector) != 0) {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        page[range.clone()].copy_from_slice(&new[range]);
    }
    page
}

fn words() -> impl Strategy<Value = Vec<u64>> {
    // Mostly empty, as logs and bitmaps are, so that sectors of two pages are often equal.
    let word = prop_oneof![6 => Just(0u64), 1 => Just(u64::MAX), 1 => any::<u64>()];
    proptest::collection::vec(word, PAGE_WORDS)
}
