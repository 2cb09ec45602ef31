//! The map of a snapshot: which blocks of a volume were copied aside before they were overwritten, and where to.
//!
//! Blocks are added at the end, in batches: they are *planned* until the batch is durable, and *covered* from then on. All
//! memory is had when the map is made.

use alloc::vec::Vec;

const NIL: u32 = u32::MAX;

/// Blocks that were copied aside, by their number in the volume and by their place in the reserve.
#[derive(Debug)]
pub struct Map {
    /// By place.
    blocks: Vec<u64>,
    crcs: Vec<u32>,
    /// Places by hash of the block, with open addressing.
    index: Vec<u32>,
    durable: u32,
    capacity: u32,
}

/// There is no room, or no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Map {
    /// Bytes of memory that a map for so many blocks takes: 20 to 28 for each.
    #[must_use]
    pub fn bytes_for(capacity: u32) -> u64 {
        12 * u64::from(capacity) + 4 * Self::buckets(capacity)
    }

    fn buckets(capacity: u32) -> u64 {
        (2 * u64::from(capacity)).next_power_of_two().max(2)
    }

    /// An empty map for so many blocks.
    ///
    /// # Errors
    /// [`Full`]: there is not the memory.
    pub fn new(capacity: u32) -> Result<Self, Full> {
        let mut map = Self {
            blocks: Vec::new(),
            crcs: Vec::new(),
            index: Vec::new(),
            durable: 0,
            capacity,
        };
        let buckets = usize::try_from(Self::buckets(capacity)).map_err(|_| Full)?;
        let count = capacity as usize;
        let got = map.blocks.try_reserve_exact(count).is_ok()
            && map.crcs.try_reserve_exact(count).is_ok()
            && map.index.try_reserve_exact(buckets).is_ok();
        if !got {
            return Err(Full);
        }
        map.index.resize(buckets, NIL);
        Ok(map)
    }

    /// Blocks that it has room for.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Blocks in it, planned ones included.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Blocks that are durable: those at the places from 0 to this.
    #[must_use]
    pub fn durable(&self) -> u32 {
        self.durable
    }

    /// The block at a place.
    #[must_use]
    pub fn block(&self, place: u32) -> u64 {
        self.blocks[place as usize]
    }

    /// The checksum of the block at a place.
    #[must_use]
    pub fn crc(&self, place: u32) -> u32 {
        self.crcs[place as usize]
    }

    /// The checksum of what was copied to a place.
    pub fn set_crc(&mut self, place: u32, crc: u32) {
        self.crcs[place as usize] = crc;
    }

    /// Where a block is or will be.
    #[must_use]
    pub fn find(&self, block: u64) -> Option<u32> {
        let place = self.index[self.bucket_of(block)];
        (place != NIL).then_some(place)
    }

    /// Where a block is, durably.
    #[must_use]
    pub fn covered(&self, block: u64) -> Option<u32> {
        self.find(block).filter(|place| *place < self.durable)
    }

    /// Adds a block that is not in it, and answers its place.
    ///
    /// # Errors
    /// [`Full`].
    pub fn plan(&mut self, block: u64) -> Result<u32, Full> {
        if self.len() == self.capacity {
            return Err(Full);
        }
        let (place, bucket) = (self.len(), self.bucket_of(block));
        debug_assert_eq!(
            self.index[bucket], NIL,
            "block {block} is in the map already"
        );
        self.index[bucket] = place;
        self.blocks.push(block);
        self.crcs.push(0);
        Ok(place)
    }

    /// All that was planned is durable.
    pub fn commit(&mut self) {
        self.durable = self.len();
    }

    /// What was planned is not to be.
    pub fn forget_planned(&mut self) {
        if self.len() == self.durable {
            return;
        }
        self.blocks.truncate(self.durable as usize);
        self.crcs.truncate(self.durable as usize);
        self.index.fill(NIL);
        for place in 0..self.durable {
            let bucket = self.bucket_of(self.block(place));
            self.index[bucket] = place;
        }
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.blocks.clear();
            self.crcs.clear();
            self.index.fill(NIL);
        }
        self.durable = 0;
    }

    /// The bucket that holds a block, or the empty one where it belongs. At most half of them are taken.
    fn bucket_of(&self, block: u64) -> usize {
        let mask = self.index.len() - 1;
        let mut at = (block.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        loop {
            let place = self.index[at];
            if place == NIL || self.blocks[place as usize] == block {
                return at;
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_map_without_room_takes_nothing() {
        let mut map = Map::new(0).unwrap();
        assert_eq!(map.find(0), None);
        assert_eq!(map.plan(0), Err(Full));
        assert_eq!((map.len(), map.is_empty()), (0, true));
        // More than any machine has.
        assert_eq!(Map::bytes_for(1 << 18), 20 << 18);
    }

    proptest! {
        /// Against an ordinary map: what is where, and what counts.
        #[test]
        fn agrees_with_an_ordinary_map(steps in proptest::collection::vec((0u8..20, 0u64..90), 1..400)) {
            let mut map = Map::new(40).unwrap();
            let mut places: BTreeMap<u64, u32> = BTreeMap::new();
            let mut durable = 0;
            for (what, block) in steps {
                // Blocks far apart, too.
                let block = if block % 3 == 0 { block << 40 } else { block };
                match what {
                    0 => { map.clear(); places.clear(); durable = 0; }
                    1 | 2 => { map.commit(); durable = places.len() as u32; }
                    3 => { map.forget_planned(); places.retain(|_, place| *place < durable); }
                    _ if places.contains_key(&block) => {}
                    _ => {
                        let place = places.len() as u32;
                        let expected = if place < 40 { Ok(place) } else { Err(Full) };
                        prop_assert_eq!(map.plan(block), expected);
                        if place < 40 { places.insert(block, place); map.set_crc(place, block as u32); }
                    }
                }
                prop_assert_eq!(map.len() as usize, places.len());
                for block in (0..90u64).flat_map(|n| [n, n << 40]) {
                    let place = places.get(&block).copied();
                    prop_assert_eq!(map.find(block), place);
                    prop_assert_eq!(map.covered(block), place.filter(|place| *place < durable));
                }
                for (block, place) in &places {
                    prop_assert_eq!((map.block(*place), map.crc(*place)), (*block, *block as u32));
                }
            }
        }
    }
}
