//! The snapshot of a resync's target before the resync, on the disk: a record in the superblock, and in the reserve the old
//! content of what was overwritten since, with tables that say which block lies where.
//!
//! The reserve consists of groups of two table pages and [`GROUP`] blocks of 4 KiB. The two pages of a group hold the same
//! table at different ages and are written in turn: only whole blocks that are durable are ever added to a table, and
//! while a page is written the other one says all that was durable before. A group is begun only when the one
//! in front of it is full and durable.
//!
//! ```text
//!   0  u32  CRC-32C over: tag `PLSD-snp`, device id (8 bytes), id of the snapshot (8 bytes), bytes 4 to 4095
//!   4  u32  number of the group
//!   8  u64  sequence
//!  16  u32  blocks in the table, 1 to 336
//!  20  44 bytes of zero
//!  64  336 entries of 12 bytes: number of the block in the volume (u64), CRC-32C of its old content (u32)
//! ```
//!
//! The id of the snapshot is drawn anew for each, so that nothing of an earlier one is ever taken for a part of it, and
//! taking one writes nothing but the superblock.

use super::{PAGE, Page, crc32c};
use crate::api::DiskState;
use crate::lineage::Generations;

/// Blocks that a group of the reserve holds.
pub const GROUP: u32 = 336;
/// Pages of a group.
const GROUP_PAGES: u64 = 2 + GROUP as u64;
const ENTRIES: usize = 64;
const ENTRY: usize = 12;
const TAG: &[u8; 8] = b"PLSD-snp";
const PAGE_BYTES: u64 = PAGE as u64;

/// What a volume's snapshot is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotState {
    /// A resync to this disk has begun and not ended; what it overwrote is in the reserve.
    Held,
    /// The old content is being written back. Until that is done the disk is worth nothing.
    RollingBack,
    /// The disk has the old content again, and is the target of a resync from any peer that has a whole copy.
    RolledBack,
}

/// The record of a snapshot in the superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Random, not 0: ties the tables in the reserve to this snapshot.
    pub id: u64,
    /// What it is at.
    pub state: SnapshotState,
    /// The generations of the old content.
    pub gens: Generations,
    /// The source may bear the very generation of the old content, though it has acknowledged more since: what goes on from the
    /// old content takes another name for it first.
    pub same_name: bool,
    /// The old content was whole: Consistent, or Outdated.
    pub disk: DiskState,
}

impl Snapshot {
    /// Bytes of the record.
    pub(super) const LEN: usize = 48;

    /// Whether the reserve holds what a rollback needs.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state != SnapshotState::RolledBack
    }

    pub(super) fn is_possible(&self) -> bool {
        let whole = matches!(self.disk, DiskState::Consistent | DiskState::Outdated);
        self.id != 0 && whole && self.gens.current != 0
    }

    pub(super) fn encode(record: Option<&Self>) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let Some(snapshot) = record else { return out };
        out[0] = match snapshot.state {
            SnapshotState::Held => 1,
            SnapshotState::RollingBack => 2,
            SnapshotState::RolledBack => 3,
        };
        out[1] = u8::from(snapshot.disk == DiskState::Outdated);
        out[2] = u8::from(snapshot.same_name);
        let gens = &snapshot.gens;
        let numbers = [
            snapshot.id,
            gens.current,
            gens.bitmap,
            gens.history[0],
            gens.history[1],
        ];
        for (at, number) in numbers.iter().enumerate() {
            out[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// `None`: no such record is ever written.
    pub(super) fn decode(bytes: &[u8; Self::LEN]) -> Option<Option<Self>> {
        let flag = |byte: u8| (byte < 2).then_some(byte == 1);
        if bytes[3..8] != [0; 5] {
            return None;
        }
        let state = match bytes[0] {
            0 => return super::is_blank(bytes).then_some(None),
            1 => SnapshotState::Held,
            2 => SnapshotState::RollingBack,
            3 => SnapshotState::RolledBack,
            _ => return None,
        };
        let number = |at: usize| u64_at(bytes, 8 + 8 * at);
        let snapshot = Self {
            id: number(0),
            state,
            gens: Generations {
                current: number(1),
                bitmap: number(2),
                history: [number(3), number(4)],
            },
            same_name: flag(bytes[2])?,
            disk: if flag(bytes[1])? {
                DiskState::Outdated
            } else {
                DiskState::Consistent
            },
        };
        snapshot.is_possible().then_some(Some(snapshot))
    }
}

/// Where in a reserve everything lies, in bytes of the metadata's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    start: u64,
    slots: u32,
}

impl Reserve {
    /// The reserve of `bytes` at `start`. Of more than 2^32 blocks (16 TiB) the rest is not used.
    #[must_use]
    pub fn new(start: u64, bytes: u64) -> Self {
        let pages = bytes / PAGE_BYTES;
        let rest = (pages % GROUP_PAGES).saturating_sub(2);
        let slots = pages / GROUP_PAGES * u64::from(GROUP) + rest;
        Self {
            start,
            slots: u32::try_from(slots).unwrap_or(u32::MAX / GROUP * GROUP),
        }
    }

    /// Blocks of 4 KiB that it has room for.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of memory that a node takes to use it.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        resync::snapshot::Map::bytes_for(self.slots)
    }

    /// Groups that it has.
    #[must_use]
    pub fn groups(&self) -> u32 {
        self.slots.div_ceil(GROUP)
    }

    /// Where table page `copy` (0 or 1) of a group lies. The other one of the two is its neighbour.
    #[must_use]
    pub fn table(&self, group: u32, copy: u8) -> u64 {
        self.start + (u64::from(group) * GROUP_PAGES + u64::from(copy & 1)) * PAGE_BYTES
    }

    /// Where the block with this number lies. Those of one group are neighbours.
    #[must_use]
    pub fn block(&self, slot: u32) -> u64 {
        let group = slot / GROUP;
        self.table(group, 0) + (2 + u64::from(slot % GROUP)) * PAGE_BYTES
    }
}

/// One block of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Number of the 4 KiB block in the volume.
    pub block: u64,
    /// CRC-32C of its old content.
    pub crc: u32,
}

/// What a table page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableName {
    /// [`super::Superblock::device_id`].
    pub device_id: u64,
    /// [`Snapshot::id`].
    pub snapshot: u64,
    /// Number of the group.
    pub group: u32,
}

/// Fills a table page with the entries of a group, at most [`GROUP`].
pub fn encode(
    name: TableName,
    sequence: u64,
    entries: impl ExactSizeIterator<Item = Entry>,
    page: &mut Page,
) {
    page.fill(0);
    page[4..8].copy_from_slice(&name.group.to_le_bytes());
    page[8..16].copy_from_slice(&sequence.to_le_bytes());
    let count = entries.len().min(GROUP as usize) as u32;
    page[16..20].copy_from_slice(&count.to_le_bytes());
    let places = page[ENTRIES..].chunks_exact_mut(ENTRY);
    for (out, entry) in places.zip(entries) {
        out[..8].copy_from_slice(&entry.block.to_le_bytes());
        out[8..].copy_from_slice(&entry.crc.to_le_bytes());
    }
    let crc = checksum(name, page);
    page[..4].copy_from_slice(&crc.to_le_bytes());
}

/// A table page that was read.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Of the group's two pages the one with the higher sequence is the newer.
    pub sequence: u64,
    count: u32,
    page: &'a Page,
}

impl Table<'_> {
    /// Its entries, from 1 to [`GROUP`], in the order of the blocks in the reserve.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> {
        let places = self.page[ENTRIES..].chunks_exact(ENTRY);
        places.take(self.count as usize).map(|place| Entry {
            block: u64_at(place, 0),
            crc: u32_at(place, 8),
        })
    }
}

/// Reads a table page; `None` if it is not that of this snapshot and group, intact.
#[must_use]
pub fn decode(name: TableName, page: &Page) -> Option<Table<'_>> {
    let (count, group) = (u32_at(page, 16), u32_at(page, 4));
    let intact = u32_at(page, 0) == checksum(name, page);
    let possible = group == name.group && (1..=GROUP).contains(&count);
    (intact && possible).then_some(Table {
        sequence: u64_at(page, 8),
        count,
        page,
    })
}

fn checksum(name: TableName, page: &Page) -> u32 {
    let ids = [name.device_id.to_le_bytes(), name.snapshot.to_le_bytes()];
    crc32c(&[TAG, &ids[0], &ids[1], &page[4..]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}
