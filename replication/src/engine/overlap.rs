//! Serialises overlapping ranges: a request waits for every earlier one that it overlaps, unless both
//! only read.
//!
//! Reads take part so that what a read has shown is on both nodes: one that were served beside a write in
//! flight could show data that a failover takes back.
//!
//! Ranges are registered in arrival order and counted as blocked by the earlier ones they touch;
//! whoever leaves unblocks the later ones. Lookup goes by hash buckets of 128 KiB extents, of
//! which a write touches two at most. Ranges of more extents (discards, write-zeroes) are rare
//! and are compared with all others.

use crate::mutation::{self, Mutation};
use alloc::{vec, vec::Vec};

const EXTENT_SHIFT: u32 = 17;
const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Range {
    volume: usize,
    start: u64,
    end: u64,
    reads: bool,
    /// Order of arrival.
    order: u64,
    /// Earlier ranges that overlap and have not left.
    blockers: u32,
}

impl Range {
    fn first_extent(&self) -> u64 {
        self.start >> EXTENT_SHIFT
    }
    fn last_extent(&self) -> u64 {
        (self.end - 1) >> EXTENT_SHIFT
    }
    fn is_wide(&self) -> bool {
        self.last_extent() - self.first_extent() > 1
    }
    fn conflicts(&self, other: &Self) -> bool {
        self.volume == other.volume
            && self.start < other.end
            && other.start < self.end
            && !(self.reads && other.reads)
            && !(mutation::is(Mutation::NotSerialised) && !self.reads && !other.reads)
            && !(mutation::is(Mutation::ReadsDoNotWait) && (self.reads || other.reads))
    }
}

/// The registered ranges, by slot number.
#[derive(Debug)]
pub(super) struct Overlaps {
    ranges: Vec<Option<Range>>,
    /// Heads of the buckets' lists; the last one holds the wide ranges.
    heads: Vec<u32>,
    /// List links; node `2 * slot + n` stands for the slot's nth extent.
    next: Vec<u32>,
    prev: Vec<u32>,
    arrivals: u64,
    wide: usize,
}

impl Overlaps {
    pub fn new(slots: usize) -> Self {
        let buckets = (2 * slots).next_power_of_two();
        Self {
            ranges: vec![None; slots],
            heads: vec![NIL; buckets + 1],
            next: vec![NIL; 2 * slots],
            prev: vec![NIL; 2 * slots],
            arrivals: 0,
            wide: 0,
        }
    }

    /// Registers a range that is not empty; answers whether it may start at once.
    pub fn enter(&mut self, slot: u32, volume: usize, start: u64, len: u64, reads: bool) -> bool {
        self.arrivals += 1;
        let mut range = Range {
            volume,
            start,
            end: start + len,
            reads,
            order: self.arrivals,
            blockers: 0,
        };
        let mut blockers = 0;
        self.for_overlapping(&range, |_, _| blockers += 1);
        range.blockers = blockers;
        self.link(slot, &range);
        self.ranges[slot as usize] = Some(range);
        blockers == 0
    }

    /// Whether a slot has a range that must wait for an earlier one.
    pub fn is_blocked(&self, slot: u32) -> bool {
        self.ranges[slot as usize].is_some_and(|range| range.blockers > 0)
    }

    /// Removes a range and reports the later ones that nothing blocks any more.
    pub fn leave(&mut self, slot: u32, mut unblocked: impl FnMut(u32)) {
        let Some(range) = self.ranges[slot as usize].take() else {
            unreachable!("slot {slot} holds no range");
        };
        self.unlink(slot, &range);
        self.for_overlapping(&range, |other, later| {
            if later.order > range.order {
                later.blockers -= 1;
                if later.blockers == 0 {
                    unblocked(other);
                }
            }
        });
    }

    /// From now on a range keeps out only who changes it. Reports the later readers that nothing blocks any more.
    pub fn let_readers_in(&mut self, slot: u32, mut unblocked: impl FnMut(u32)) {
        let Some(range) = self.ranges[slot as usize] else {
            unreachable!("slot {slot} holds no range");
        };
        self.for_overlapping(&range, |other, later| {
            if later.order > range.order && later.reads {
                later.blockers -= 1;
                if later.blockers == 0 {
                    unblocked(other);
                }
            }
        });
        if let Some(range) = &mut self.ranges[slot as usize] {
            range.reads = true;
        }
    }

    fn bucket(&self, volume: usize, extent: u64) -> usize {
        let buckets = self.heads.len() - 1;
        let mixed = (extent ^ (volume as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (buckets - 1)
    }

    /// Calls `found` once for every registered range that overlaps `range`.
    fn for_overlapping(&mut self, range: &Range, mut found: impl FnMut(u32, &mut Range)) {
        if range.is_wide() {
            for (slot, other) in self.ranges.iter_mut().enumerate() {
                if let Some(other) = other.as_mut().filter(|other| other.conflicts(range)) {
                    found(slot as u32, other);
                }
            }
            return;
        }
        for extent in range.first_extent()..=range.last_extent() {
            let mut node = self.heads[self.bucket(range.volume, extent)];
            while node != NIL {
                let slot = node / 2;
                let position = u64::from(node % 2);
                if let Some(other) = &mut self.ranges[slot as usize]
                    // Two extents may share a bucket, and two ranges two extents: count each
                    // pair at the first extent that they have in common.
                    && other.first_extent() + position == extent
                    && extent == other.first_extent().max(range.first_extent())
                    && other.conflicts(range)
                {
                    found(slot, other);
                }
                node = self.next[node as usize];
            }
        }
        if self.wide > 0 {
            let mut node = self.heads[self.heads.len() - 1];
            while node != NIL {
                if let Some(other) = &mut self.ranges[(node / 2) as usize]
                    && other.conflicts(range)
                {
                    found(node / 2, other);
                }
                node = self.next[node as usize];
            }
        }
    }

    fn link(&mut self, slot: u32, range: &Range) {
        if range.is_wide() {
            self.wide += 1;
            let last = self.heads.len() - 1;
            self.push(last, 2 * slot);
            return;
        }
        for (n, extent) in (range.first_extent()..=range.last_extent()).enumerate() {
            let bucket = self.bucket(range.volume, extent);
            self.push(bucket, 2 * slot + n as u32);
        }
    }

    fn unlink(&mut self, slot: u32, range: &Range) {
        if range.is_wide() {
            self.wide -= 1;
            let last = self.heads.len() - 1;
            self.cut(last, 2 * slot);
            return;
        }
        for (n, extent) in (range.first_extent()..=range.last_extent()).enumerate() {
            let bucket = self.bucket(range.volume, extent);
            self.cut(bucket, 2 * slot + n as u32);
        }
    }

    fn push(&mut self, bucket: usize, node: u32) {
        let head = self.heads[bucket];
        self.next[node as usize] = head;
        self.prev[node as usize] = NIL;
        if head != NIL {
            self.prev[head as usize] = node;
        }
        self.heads[bucket] = node;
    }

    fn cut(&mut self, bucket: usize, node: u32) {
        let (next, prev) = (self.next[node as usize], self.prev[node as usize]);
        if prev == NIL {
            self.heads[bucket] = next;
        } else {
            self.next[prev as usize] = next;
        }
        if next != NIL {
            self.prev[next as usize] = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious quadratic model: who may start, and who is unblocked by whom.
        #[test]
        fn agrees_with_the_obvious_model(
            steps in proptest::collection::vec(
                (any::<bool>(), 0usize..2, 0u64..2000, 1u64..1200, any::<u8>(), any::<bool>()), 1..200),
        ) {
            let mut table = Overlaps::new(64);
            let mut model: Vec<(u32, usize, u64, u64, bool, bool)> = Vec::new();
            for (enter, volume, start, len, pick, reads) in steps {
                if enter && model.len() < 64 {
                    let slot = (0..64).find(|s| model.iter().all(|m| m.0 != *s)).unwrap();
                    // In KiB: a third of the ranges spans more than two extents.
                    let (start, len) = (start << 10, if pick < 160 { (len % 128 + 1) << 10 } else { len << 10 });
                    let free = model.iter().all(|m| m.1 != volume || m.2 >= start + len || start >= m.3 || (m.5 && reads));
                    prop_assert_eq!(table.enter(slot, volume, start, len, reads), free);
                    model.push((slot, volume, start, start + len, free, reads));
                } else if let Some(at) = model.iter().position(|m| m.4) {
                    let at = (at..model.len()).filter(|i| model[*i].4).nth(usize::from(pick) % 3).unwrap_or(at);
                    let gone = model.remove(at);
                    let mut got = Vec::new();
                    table.leave(gone.0, |slot| got.push(slot));
                    let mut want = Vec::new();
                    for i in 0..model.len() {
                        let m = model[i];
                        let blocked = model[..i].iter().any(|e| e.1 == m.1 && e.2 < m.3 && m.2 < e.3 && !(e.5 && m.5));
                        if !m.4 && !blocked {
                            want.push(m.0);
                            model[i].4 = true;
                        }
                    }
                    got.sort_unstable();
                    want.sort_unstable();
                    prop_assert_eq!(got, want);
                }
            }
        }
    }
}
