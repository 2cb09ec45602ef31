//! The reserve at attach: the tables of a snapshot that is held are read again.

use super::super::volume::Volume;
use super::super::{Engine, text};
use super::{Copies, Rolling};
use crate::api::{DiskError, Level, SnapshotPolicy, Text};
use crate::buf::{Buf, Mem, PAGE};
use crate::ondisk::snapshot::{GROUP, TableName};
use crate::ondisk::{PAGE as PAGE_LEN, Page, Reserve, SnapshotState, Superblock, snapshot};
use ::resync::BLOCK;
use ::resync::snapshot::Map;
use alloc::boxed::Box;

/// Tables that are being read.
#[derive(Debug)]
pub(in crate::engine) struct Loading {
    reserve: Reserve,
    /// `None`: there is not the memory.
    map: Option<Map>,
    next_table: (u8, u64),
    group: u32,
    /// A group that is not full, or has no table, was the last one.
    ended: bool,
    /// Something is wrong with them: the snapshot cannot be used.
    bad: Option<Text>,
}

impl Volume {
    /// The reserve as it is before anything of it was read, if there is one that is used.
    pub(in crate::engine) fn load_reserve(&self, superblock: &Superblock) -> Option<Box<Loading>> {
        let layout = &superblock.layout;
        let held = superblock.snapshot.is_some_and(|s| s.is_held());
        if layout.reserve_bytes == 0 || !(held || self.config.snapshot != SnapshotPolicy::Off) {
            return None;
        }
        let reserve = Reserve::new(layout.reserve, layout.reserve_bytes);
        let map = Map::new(reserve.slots());
        let bad = map.is_err().then(|| {
            let needs = Map::bytes_for(reserve.slots());
            text!("not enough memory for its reserve: {needs} bytes are needed")
        });
        Some(Box::new(Loading {
            reserve,
            map: map.ok(),
            next_table: (0, 1),
            group: 0,
            ended: false,
            bad,
        }))
    }
}

impl Loading {
    /// Where the next two pages are to be read, of a snapshot that is held.
    pub fn next(&self) -> Option<u64> {
        (self.bad.is_none() && self.group < self.reserve.groups())
            .then(|| self.reserve.table(self.group, 0))
    }

    /// Takes in what was read there.
    pub fn take(&mut self, superblock: &Superblock, bytes: &[u8], result: Result<(), DiskError>) {
        let group = self.group;
        self.group += 1;
        if result.is_err() {
            self.bad = Some(text!("table {group} of its reserve cannot be read"));
            return;
        }
        let (Some(snapshot), Some(map)) = (superblock.snapshot, &mut self.map) else {
            return;
        };
        let name = TableName {
            device_id: superblock.device_id,
            snapshot: snapshot.id,
            group,
        };
        let (pages, _) = bytes.as_chunks::<PAGE_LEN>();
        let read = |copy: usize| {
            let page: &Page = pages.get(copy)?;
            snapshot::decode(name, page).map(|table| (copy as u8, table))
        };
        let found = [read(0), read(1)].into_iter().flatten();
        let Some((copy, table)) = found.max_by_key(|(_, table)| table.sequence) else {
            self.ended = true;
            return;
        };
        if self.ended {
            self.bad = Some(text!("a table in the middle of its reserve is damaged"));
            return;
        }
        let blocks = superblock.layout.volume_bytes.div_ceil(BLOCK);
        for entry in table.entries() {
            let fits = entry.block < blocks && map.find(entry.block).is_none();
            let place = if fits {
                map.plan(entry.block).ok()
            } else {
                None
            };
            let Some(place) = place else {
                self.bad = Some(text!("table {group} of its reserve names what cannot be"));
                return;
            };
            map.set_crc(place, entry.crc);
        }
        map.commit();
        let full = map.len().is_multiple_of(GROUP);
        self.ended = !full;
        self.next_table = if full {
            (0, 1)
        } else {
            (1 - copy, table.sequence.saturating_add(1))
        };
    }
}

impl Engine {
    /// The disk is attached: from now on the reserve is used.
    pub(in crate::engine) fn use_reserve(
        &mut self,
        at: usize,
        loading: Option<Box<Loading>>,
        buf: Buf,
        mem: &mut Mem<'_>,
    ) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        if let Some(old) = volume.copies.take() {
            mem.free(old.buf);
        }
        let held = volume.snapshot.filter(|snapshot| snapshot.is_held());
        let needed = loading.is_some() || held.is_some();
        // A page for tables, and one for content.
        let bad = (needed && buf.capacity() < 2 * PAGE)
            .then(|| text!("not enough memory for its reserve"))
            .or_else(|| match &loading {
                Some(loading) => loading.bad.clone(),
                None => held.map(|_| text!("its disk has no reserve")),
            });
        let found = loading.and_then(|loading| {
            let Loading {
                reserve,
                map,
                next_table,
                ..
            } = *loading;
            Some((reserve, map?, next_table))
        });
        match found {
            Some((reserve, map, next_table)) if buf.capacity() >= 2 * PAGE => {
                let mut buf = buf;
                buf.set_len(buf.capacity());
                let mut copies = Copies::new(reserve, map, buf);
                copies.next_table = next_table;
                if held.is_none() || bad.is_some() {
                    copies.clear();
                }
                volume.copies = Some(Box::new(copies));
            }
            _ => mem.free(buf),
        }
        if let Some(why) = bad {
            if let Some(snapshot) = held {
                volume.forget_snapshot();
                if snapshot.state == SnapshotState::RollingBack {
                    // Nobody knows what was written back.
                    volume.mark_all_dirty();
                }
            }
            let what = if held.is_some() {
                "the snapshot is lost"
            } else {
                "no snapshots"
            };
            self.log(Level::Error, text!("vol{index}: {what}: {why}"));
        } else if held.is_some_and(|s| s.state == SnapshotState::RollingBack) {
            volume.rolling = Some(Rolling::again());
            volume.mark_old();
            self.log(
                Level::Warn,
                text!("vol{index}: a rollback that was cut off is done again"),
            );
        } else if held.is_some() {
            let bytes = volume.snapshot_report().map_or(0, |report| report.used);
            self.log(
                Level::Info,
                text!(
                    "vol{index}: holds the snapshot of before its unfinished resync, {bytes} bytes"
                ),
            );
        }
    }
}
