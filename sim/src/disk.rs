//! A simulated disk with a volatile write cache.
//!
//! Completed writes are seen by later reads but survive a power cut only when a later flush
//! completed (a flush covers what completed before it was issued). At a power cut every sector
//! keeps its last durable value or any of those written since, also of writes still in flight, so
//! multi-sector writes tear. Operations complete in any order, whenever the world says so, and
//! the memory of a write is read at its start or as late as its completion.

use crate::rng::Rng;
use crate::stamp::{self, SECTOR, Value};
use replication::api::{DiskError, DiskOp, DiskToken};
use replication::buf::{PoolMemory, VecMemory};
use std::collections::VecDeque;
use std::ops::Range;

/// Completed writes that the cache holds before it writes the oldest back by itself.
const CACHE_WRITES: usize = 96;

/// What the disk does with a discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// The range reads as zeroes.
    Zeroes,
    /// Nothing: the content stays.
    Ignore,
}

/// A completed write that no flush has covered yet.
#[derive(Debug)]
struct Cached {
    order: u64,
    first: usize,
    values: Vec<Value>,
}

/// An operation the engine waits for.
#[derive(Debug)]
struct Pending {
    token: DiskToken,
    op: DiskOp,
    /// Content of a write, once its memory was read.
    values: Option<Vec<Value>>,
    /// Of a flush: it covers completed writes numbered below.
    covers: u64,
    fails: bool,
}

/// How an operation ended.
#[derive(Debug)]
pub struct Completion {
    /// For the engine.
    pub result: Result<(), DiskError>,
    /// For the engine: of a read, whether all is zero.
    pub all_zero: bool,
}

/// Deliberate misbehaviour of a disk, to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdeed {
    /// A write is acknowledged and forgotten.
    LoseWrite,
    /// A write lands before an overlapping one that completed before it.
    Reorder,
    /// A flush is acknowledged and nothing becomes durable.
    LoseFlush,
    /// A write lands one sector further.
    Misdirect,
    /// A read returns what the sectors held at the last flush.
    StaleRead,
}

/// One volume's disk on one node.
#[derive(Debug)]
pub struct Disk {
    volume: usize,
    discard: Discard,
    current: Vec<Value>,
    durable: Vec<Value>,
    cache: VecDeque<Cached>,
    pending: Vec<Pending>,
    order: u64,
}

impl Disk {
    /// A blank disk of `sectors` sectors for the volume at position `volume`.
    #[must_use]
    pub fn new(volume: usize, sectors: usize, discard: Discard) -> Self {
        Self {
            volume,
            discard,
            current: vec![0; sectors],
            durable: vec![0; sectors],
            cache: VecDeque::new(),
            pending: Vec::new(),
            order: 0,
        }
    }

    /// What reads see.
    #[must_use]
    pub fn current(&self) -> &[Value] {
        &self.current
    }

    /// What a power cut cannot take.
    #[must_use]
    pub fn durable(&self) -> &[Value] {
        &self.durable
    }

    /// Overwrites a sector behind everyone's back (bit rot, or content from before the run).
    pub fn set(&mut self, sector: usize, value: Value) {
        self.current[sector] = value;
        self.durable[sector] = value;
    }

    /// Everything zero, as a replaced disk.
    pub fn blank(&mut self) {
        self.current.fill(0);
        self.durable.fill(0);
        self.cache.clear();
    }

    /// Whether operations are in flight.
    #[must_use]
    pub fn busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether a write in flight covers `sector`.
    #[must_use]
    pub fn writing(&self, sector: usize) -> bool {
        let covers = |p: &Pending| range(&p.op).is_some_and(|r| r.contains(&sector));
        self.pending
            .iter()
            .any(|p| !matches!(p.op, DiskOp::Read { .. }) && covers(p))
    }

    /// What a sector may turn into without anything new being written: writes in the cache (after
    /// a power cut) and writes in flight.
    #[must_use]
    pub fn may_become(&self, sector: usize, memory: &VecMemory) -> Vec<Value> {
        let cached = self.cache.iter().filter_map(|c| {
            let at = sector.checked_sub(c.first)?;
            c.values.get(at).copied()
        });
        let pending = self.pending.iter().filter_map(|p| {
            let at = sector.checked_sub(range(&p.op)?.start)?;
            if matches!(p.op, DiskOp::Read { .. }) {
                return None;
            }
            match &p.values {
                Some(values) => values.get(at).copied(),
                None => self.capture(&p.op, memory).ok()?.get(at).copied(),
            }
        });
        cached.chain(pending).collect()
    }

    /// Begins an operation. `early` reads a write's memory now instead of at its completion.
    ///
    /// # Errors
    /// What is wrong with the operation or its data: the engine's fault.
    pub fn start(
        &mut self,
        token: DiskToken,
        op: DiskOp,
        early: bool,
        fails: bool,
        memory: &VecMemory,
    ) -> Result<(), String> {
        if self.pending.iter().any(|p| p.token == token) {
            return Err(format!("disk token {token} is used twice"));
        }
        if let Some(r) = range(&op)
            && (r.end > self.current.len() || r.is_empty())
        {
            return Err(format!("disk operation outside of the disk: {op:?}"));
        }
        let values = match op {
            DiskOp::Write { .. } if early => Some(self.capture(&op, memory)?),
            _ => None,
        };
        let covers = self.order;
        self.pending.push(Pending {
            token,
            op,
            values,
            covers,
            fails,
        });
        Ok(())
    }

    /// Ends an operation; `None` if it is unknown (the node restarted since).
    ///
    /// # Errors
    /// What is wrong with the data: the engine's fault.
    pub fn complete(
        &mut self,
        token: DiskToken,
        memory: &mut VecMemory,
        misdeed: Option<Misdeed>,
    ) -> Result<Option<Completion>, String> {
        let Some(at) = self.pending.iter().position(|p| p.token == token) else {
            return Ok(None);
        };
        let pending = self.pending.swap_remove(at);
        let mut all_zero = false;
        match pending.op {
            DiskOp::Read { view, .. } => {
                let r = range(&pending.op).unwrap_or(0..0);
                let from = if misdeed == Some(Misdeed::StaleRead) {
                    &self.durable
                } else {
                    &self.current
                };
                let values = &from[r];
                let sectors = memory.bytes_mut(view).chunks_exact_mut(SECTOR as usize);
                for (bytes, &value) in sectors.zip(values) {
                    stamp::fill(bytes, if pending.fails { 0 } else { value });
                }
                all_zero = values.iter().all(|&v| v == 0);
            }
            DiskOp::Flush if misdeed != Some(Misdeed::LoseFlush) && !pending.fails => {
                self.write_back(pending.covers);
            }
            DiskOp::Flush => {}
            DiskOp::Write { .. } | DiskOp::Discard { .. } | DiskOp::WriteZeroes { .. } => {
                let values = match &pending.values {
                    Some(values) => values.clone(),
                    None => self.capture(&pending.op, memory)?,
                };
                if !pending.fails {
                    self.land(&pending.op, values, misdeed);
                }
            }
        }
        let result = if pending.fails {
            Err(DiskError::Io)
        } else {
            Ok(())
        };
        Ok(Some(Completion { result, all_zero }))
    }

    /// The node lost its power: returns how many sectors hold something else than reads saw.
    ///
    /// # Errors
    /// What is wrong with the data of a write in flight: the engine's fault.
    pub fn power_cut(&mut self, rng: &mut Rng, memory: &VecMemory) -> Result<u64, String> {
        let keep = rng.pick(&[0, 0, 20, 50, 80, 100]);
        let mut survivors = self.durable.clone();
        for cached in &self.cache {
            scatter(&mut survivors, cached.first, &cached.values, keep, rng);
        }
        self.tear_pending(&mut survivors, rng, memory)?;
        let lost = survivors
            .iter()
            .zip(&self.current)
            .filter(|(a, b)| a != b)
            .count();
        self.settle(survivors);
        Ok(lost as u64)
    }

    /// The node was killed, but not its disk: what completed stays, what was in flight tears.
    ///
    /// # Errors
    /// What is wrong with the data of a write in flight: the engine's fault.
    pub fn kill(&mut self, rng: &mut Rng, memory: &VecMemory) -> Result<(), String> {
        let mut survivors = self.current.clone();
        self.tear_pending(&mut survivors, rng, memory)?;
        self.settle(survivors);
        Ok(())
    }

    fn settle(&mut self, survivors: Vec<Value>) {
        self.durable.copy_from_slice(&survivors);
        self.current = survivors;
        self.cache.clear();
        self.pending.clear();
    }

    fn tear_pending(
        &mut self,
        survivors: &mut [Value],
        rng: &mut Rng,
        memory: &VecMemory,
    ) -> Result<(), String> {
        let pending = std::mem::take(&mut self.pending);
        for p in pending {
            let (Some(r), false) = (range(&p.op), matches!(p.op, DiskOp::Read { .. })) else {
                continue;
            };
            if self.is_nothing(&p.op) {
                continue;
            }
            let values = match p.values {
                Some(values) => values,
                None => self.capture(&p.op, memory)?,
            };
            let keep = rng.pick(&[0, 50, 100]);
            scatter(survivors, r.start, &values, keep, rng);
        }
        Ok(())
    }

    /// The content that an operation writes, checked.
    fn capture(&self, op: &DiskOp, memory: &VecMemory) -> Result<Vec<Value>, String> {
        let r = range(op).unwrap_or(0..0);
        let DiskOp::Write { view, .. } = *op else {
            return Ok(vec![0; r.len()]);
        };
        let mut values = Vec::with_capacity(r.len());
        for (bytes, sector) in memory.bytes(view).chunks_exact(SECTOR as usize).zip(r) {
            match stamp::parse(bytes) {
                Some(value) if stamp::belongs(value, self.volume, sector) => values.push(value),
                Some(value) => {
                    return Err(format!(
                        "vol{} sector {sector} is being written with the data of another place: {}",
                        self.volume,
                        stamp::describe(value)
                    ));
                }
                None => {
                    return Err(format!(
                        "vol{} sector {sector} is being written with bytes that nobody wrote",
                        self.volume
                    ));
                }
            }
        }
        Ok(values)
    }

    fn is_nothing(&self, op: &DiskOp) -> bool {
        matches!(op, DiskOp::Discard { .. }) && self.discard == Discard::Ignore
    }

    fn land(&mut self, op: &DiskOp, values: Vec<Value>, misdeed: Option<Misdeed>) {
        if self.is_nothing(op) || misdeed == Some(Misdeed::LoseWrite) {
            return;
        }
        let Some(r) = range(op) else { return };
        let mut first = r.start;
        if misdeed == Some(Misdeed::Misdirect) && r.end < self.current.len() {
            first += 1;
        }
        self.current[first..first + values.len()].copy_from_slice(&values);
        let mut again = None;
        if misdeed == Some(Misdeed::Reorder) {
            let overlaps = |c: &&Cached| c.first < r.end && r.start < c.first + c.values.len();
            again = self
                .cache
                .iter()
                .rev()
                .find(overlaps)
                .map(|c| (c.first, c.values.clone()));
        }
        self.remember(first, values);
        if let Some((first, values)) = again {
            self.current[first..first + values.len()].copy_from_slice(&values);
            self.remember(first, values);
        }
    }

    fn remember(&mut self, first: usize, values: Vec<Value>) {
        self.cache.push_back(Cached {
            order: self.order,
            first,
            values,
        });
        self.order += 1;
        if self.cache.len() > CACHE_WRITES {
            let oldest = self.cache.front().map_or(0, |c| c.order);
            self.write_back(oldest + 1);
        }
    }

    fn write_back(&mut self, below: u64) {
        while let Some(cached) = self.cache.front() {
            if cached.order >= below {
                break;
            }
            let to = cached.first..cached.first + cached.values.len();
            self.durable[to].copy_from_slice(&cached.values);
            self.cache.pop_front();
        }
    }
}

/// Lets each sector of a write survive with a chance of `keep` percent.
fn scatter(to: &mut [Value], first: usize, values: &[Value], keep: u64, rng: &mut Rng) {
    for (place, &value) in to[first..].iter_mut().zip(values) {
        if keep == 100 || (keep != 0 && rng.percent(keep)) {
            *place = value;
        }
    }
}

/// The sectors an operation touches.
fn range(op: &DiskOp) -> Option<Range<usize>> {
    let (offset, len) = match *op {
        DiskOp::Read { offset, view, .. } | DiskOp::Write { offset, view } => (offset, view.len),
        DiskOp::Discard { offset, len } | DiskOp::WriteZeroes { offset, len, .. } => (offset, len),
        DiskOp::Flush => return None,
    };
    let first = (offset / SECTOR) as usize;
    Some(first..first + (u64::from(len) / SECTOR) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use replication::buf::Pool;

    /// A disk of eight sectors, and a write of stamps to all of them, as it completes.
    fn written(rng: &mut Rng) -> (Disk, VecMemory) {
        let mut disk = Disk::new(0, 8, Discard::Zeroes);
        let (mut pool, mut memory) = (Pool::new(8), VecMemory::new(8));
        let view = pool.alloc(4096).expect("room").view();
        for (sector, bytes) in memory.bytes_mut(view).chunks_exact_mut(512).enumerate() {
            stamp::fill(bytes, stamp::stamp(0, 1, 0, sector));
        }
        let write = DiskOp::Write { offset: 0, view };
        disk.start(1, write, rng.coin(), false, &memory)
            .expect("valid");
        disk.complete(1, &mut memory, None).expect("valid");
        (disk, memory)
    }

    fn survivors(disk: &Disk) -> usize {
        disk.current().iter().filter(|&&v| v != 0).count()
    }

    #[test]
    fn a_power_cut_takes_unflushed_sectors_in_any_subset() {
        let mut seen = [false; 9];
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let (mut disk, memory) = written(&mut rng);
            assert_eq!(survivors(&disk), 8, "reads see what completed");
            disk.power_cut(&mut rng, &memory).expect("valid");
            seen[survivors(&disk)] = true;
        }
        assert_eq!(seen, [true; 9]);
    }

    #[test]
    fn a_flush_keeps_what_completed_before_it_was_issued() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let (mut disk, mut memory) = written(&mut rng);
            disk.start(2, DiskOp::Flush, true, false, &memory)
                .expect("valid");
            let zeroes = DiskOp::WriteZeroes {
                offset: 0,
                len: 512,
                unmap: false,
            };
            disk.start(3, zeroes, true, false, &memory).expect("valid");
            disk.complete(3, &mut memory, None).expect("valid");
            disk.complete(2, &mut memory, None).expect("valid");
            assert_eq!(survivors(&disk), 7);
            disk.power_cut(&mut rng, &memory).expect("valid");
            assert!(survivors(&disk) >= 7, "sectors 1 to 7 were flushed");
        }
    }

    #[test]
    fn the_data_of_another_place_is_noticed() {
        let mut disk = Disk::new(0, 8, Discard::Zeroes);
        let (mut pool, mut memory) = (Pool::new(8), VecMemory::new(8));
        let view = pool.alloc(512).expect("room").view();
        stamp::fill(memory.bytes_mut(view), stamp::stamp(0, 1, 0, 3));
        let write = DiskOp::Write { offset: 512, view };
        assert!(disk.start(1, write, true, false, &memory).is_err());
        memory.bytes_mut(view)[100] ^= 1;
        let write = DiskOp::Write {
            offset: 3 * 512,
            view,
        };
        assert!(disk.start(2, write, true, false, &memory).is_err());
    }
}
