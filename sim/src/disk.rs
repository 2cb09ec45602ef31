//! A simulated disk with a volatile write cache.
//!
//! Completed writes are seen by later reads but survive a power cut only when a later flush
//! completed (a flush covers what completed before it was issued). At a power cut every atom (512
//! bytes or 4 KiB) keeps its last durable value or any of those written since, also of writes
//! still in flight, so multi-sector writes tear. Operations complete in any order, whenever the
//! world says so, and the memory of a write is read at its start or as late as its completion.
//!
//! The first sectors are the volume's data and hold stamps ([`crate::stamp`]), as far as clients use them
//! ([`crate::places`]); what lies behind is the engine's metadata, kept byte by byte.

mod content;
#[cfg(test)]
mod tests;
mod trouble;

use crate::places::Places;
use crate::rng::Rng;
use crate::stamp::{SECTOR, Value};
pub use content::Content;
use replication::api::{DiskError, DiskOp, DiskToken};
use replication::buf::{PoolMemory, VecMemory};
use replication::ondisk::{PAGE, Page};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
pub use trouble::{Misdeed, Trouble};

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

/// What a disk is like, for good.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Position of the volume.
    pub volume: usize,
    /// Sectors of the volume's data.
    pub places: Places,
    /// Sectors behind it, for the engine's metadata.
    pub meta: usize,
    /// Sectors of data that were the metadata's before the volume grew, and may hold anything.
    pub scar: (usize, usize),
    /// What becomes of a discard.
    pub discard: Discard,
    /// Sectors that are written wholly or not at all: 1 or 8.
    pub atom: usize,
}

/// A completed write that no flush has covered yet.
#[derive(Debug)]
struct Cached {
    order: u64,
    first: usize,
    values: Vec<Value>,
    /// A flush of it failed: no later one makes it durable.
    doomed: bool,
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
    fails: Option<DiskError>,
}

/// How an operation ended.
#[derive(Debug)]
pub struct Completion {
    /// For the engine.
    pub result: Result<(), DiskError>,
    /// For the engine: of a read, whether all is zero.
    pub all_zero: bool,
    /// Whether it was a flush.
    pub flush: bool,
    /// Sectors of data that it changed.
    pub changed: Range<usize>,
    /// Sectors about which the disk lied, or which it spoiled.
    pub spoiled: Vec<Range<usize>>,
}

/// One volume's disk on one node.
#[derive(Debug)]
pub struct Disk {
    shape: Shape,
    content: Content,
    current: Vec<Value>,
    durable: Vec<Value>,
    cache: VecDeque<Cached>,
    pending: Vec<Pending>,
    order: u64,
    /// What is wrong with it.
    pub trouble: Trouble,
}

impl Disk {
    /// A blank disk.
    #[must_use]
    pub fn new(shape: Shape, content: Content) -> Self {
        let sectors = shape.places.sectors + shape.meta;
        Self {
            shape,
            content,
            current: vec![0; sectors],
            durable: vec![0; sectors],
            cache: VecDeque::new(),
            pending: Vec::new(),
            order: 0,
            trouble: Trouble::default(),
        }
    }

    /// What reads see of the volume's data.
    #[must_use]
    pub fn current(&self) -> &[Value] {
        &self.current[..self.shape.places.sectors]
    }

    /// What a power cut cannot take of the volume's data.
    #[must_use]
    pub fn durable(&self) -> &[Value] {
        &self.durable[..self.shape.places.sectors]
    }

    /// The page of metadata at this offset in bytes, as reads see it (or as it was in an old copy).
    #[must_use]
    pub fn page(&self, offset: u64, copy: Option<&[Value]>) -> Page {
        let mut page = [0; PAGE];
        let values = copy.unwrap_or(&self.current);
        let first = (offset / SECTOR) as usize;
        for (at, bytes) in page.chunks_exact_mut(SECTOR as usize).enumerate() {
            let value = self.number(first + at).and_then(|at| values.get(at));
            self.content.fill(bytes, value.copied().unwrap_or(0));
        }
        page
    }

    /// The page as a power cut would leave it.
    #[must_use]
    pub fn durable_page(&self, offset: u64) -> Page {
        self.page(offset, Some(&self.durable))
    }

    /// This model's number of a real sector that is in use.
    #[must_use]
    pub fn number_of(&self, real: usize) -> usize {
        self.number(real).unwrap_or(0)
    }

    /// Sectors of data and metadata.
    #[must_use]
    pub fn sectors(&self) -> usize {
        self.current.len()
    }

    /// Overwrites a sector behind everyone's back (content from before the run, or a damage).
    pub fn set(&mut self, sector: usize, value: Value) {
        self.current[sector] = value;
        self.durable[sector] = value;
        for cached in &mut self.cache {
            if let Some(at) = sector.checked_sub(cached.first)
                && let Some(place) = cached.values.get_mut(at)
            {
                *place = value;
            }
        }
    }

    /// Everything zero, as a replaced disk.
    pub fn blank(&mut self) {
        self.settle(vec![0; self.sectors()]);
        self.trouble = Trouble::default();
    }

    /// What a power cut would leave now, to come back to.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Value> {
        self.durable.clone()
    }

    /// An old copy takes the disk's place.
    pub fn restore(&mut self, snapshot: &[Value]) {
        self.settle(snapshot.to_vec());
        self.trouble = Trouble::default();
    }

    /// Sectors of the volume's data that a write under way, or one that no flush has covered, changes.
    #[must_use]
    pub fn unsettled(&self) -> BTreeSet<usize> {
        let pending = self.pending.iter().filter(|p| changes(&p.op));
        let cached = (self.cache.iter()).map(|c| c.first..c.first + c.values.len());
        let ranges = pending.map(|p| self.range(&p.op)).chain(cached);
        ranges.flatten().collect()
    }

    /// Whether operations are in flight.
    #[must_use]
    pub fn busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether a write of metadata is in flight, or covered by no flush.
    #[must_use]
    pub fn saving(&self) -> bool {
        let data = self.shape.places.sectors;
        let pending = |p: &Pending| changes(&p.op) && self.range(&p.op).end > data;
        self.pending.iter().any(pending)
            || self.cache.iter().any(|c| c.first + c.values.len() > data)
    }

    /// Whether a change of data is in flight.
    #[must_use]
    pub fn changing(&self) -> bool {
        let data = self.shape.places.sectors;
        let changes = |p: &Pending| changes(&p.op) && self.range(&p.op).start < data;
        self.pending.iter().any(changes)
    }

    /// Whether a write in flight covers `sector`.
    #[must_use]
    pub fn writing(&self, sector: usize) -> bool {
        let covers = |p: &Pending| self.range(&p.op).contains(&sector);
        self.pending.iter().any(|p| changes(&p.op) && covers(p))
    }

    /// What a sector of data may turn into without anything new being written: writes in the cache
    /// (after a power cut) and writes in flight.
    #[must_use]
    pub fn may_become(&self, sector: usize, memory: &VecMemory) -> Vec<Value> {
        let cached = self.cache.iter().filter_map(|c| {
            let at = sector.checked_sub(c.first)?;
            c.values.get(at).copied()
        });
        let pending = self.pending.iter().filter_map(|p| {
            let range = self.range(&p.op);
            let at = sector.checked_sub(range.start)?;
            match (&p.values, p.op) {
                (Some(values), _) => values.get(at).copied(),
                (None, DiskOp::Write { offset, view }) => {
                    let real = self.shape.places.real(sector);
                    let at = real.checked_sub((offset / SECTOR) as usize)?;
                    let bytes = memory.bytes(view).chunks_exact(SECTOR as usize).nth(at)?;
                    crate::stamp::parse(bytes)
                }
                (None, DiskOp::Read { .. } | DiskOp::Flush) => None,
                (None, _) => (at < range.len()).then_some(0),
            }
        });
        cached.chain(pending).collect()
    }

    /// Begins an operation. `early` reads a write's memory now instead of at its completion; `fails` is how
    /// it will end.
    ///
    /// # Errors
    /// What is wrong with the operation or its data: the engine's fault.
    pub fn start(
        &mut self,
        token: DiskToken,
        op: DiskOp,
        early: bool,
        fails: Option<DiskError>,
        memory: &VecMemory,
    ) -> Result<(), String> {
        if self.pending.iter().any(|p| p.token == token) {
            return Err(format!("disk token {token} is used twice"));
        }
        let all = self.shape.places.volume() + self.shape.meta;
        if real(&op).is_some_and(|r| r.end > all || r.is_empty()) {
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

    /// The lie that the disk has in store, if it is about this operation on data.
    pub fn take_lie(&mut self, token: DiskToken) -> Option<Misdeed> {
        let lie = self.trouble.lie?;
        let op = self.pending.iter().find(|p| p.token == token)?.op;
        let r = self.range(&op);
        let scar = r.clone().any(|sector| self.is_scar(sector));
        let data = r.end <= self.shape.places.sectors && !scar;
        if !data || !lie.concerns(&op) {
            return None;
        }
        self.trouble.lie.take()
    }

    fn is_scar(&self, sector: usize) -> bool {
        (self.shape.scar.0..self.shape.scar.1).contains(&sector)
    }

    /// Whether an operation changes data of the volume.
    #[must_use]
    pub fn changes_data(&self, op: &DiskOp) -> bool {
        let r = self.range(op);
        let scar = r.clone().any(|sector| self.is_scar(sector));
        changes(op) && !r.is_empty() && r.start < self.shape.places.sectors && !scar
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
        let mut pending = self.pending.swap_remove(at);
        let values = match (pending.values.take(), changes(&pending.op)) {
            (Some(values), _) => values,
            (None, true) => self.capture(&pending.op, memory)?,
            (None, false) => Vec::new(),
        };
        let r = self.range(&pending.op);
        let error = pending.fails.or(self.trouble.error(&pending.op, &r));
        let mut done = Completion {
            result: error.map_or(Ok(()), Err),
            all_zero: false,
            flush: matches!(pending.op, DiskOp::Flush),
            changed: 0..0,
            spoiled: Vec::new(),
        };
        match pending.op {
            DiskOp::Read { view, .. } => {
                let misread = self.trouble.misreads(&r).map(Misdeed::ReadElsewhere);
                let bytes = memory.bytes_mut(view);
                done.all_zero =
                    self.read(&pending.op, bytes, error, misdeed.or(misread), &mut done);
            }
            DiskOp::Flush if error.is_some() => {
                for cached in &mut self.cache {
                    cached.doomed |= cached.order < pending.covers;
                }
            }
            DiskOp::Flush if misdeed == Some(Misdeed::LoseFlush) => {}
            DiskOp::Flush => self.write_back(pending.covers),
            _ if error.is_none() => self.land(&pending.op, values, misdeed, &mut done),
            _ => {}
        }
        if changes(&pending.op) {
            let data = self.shape.places.sectors;
            done.changed = r.start.min(data)..r.end.min(data);
        }
        Ok(Some(done))
    }

    /// Fills a reader's memory; answers whether all is zero.
    fn read(
        &self,
        op: &DiskOp,
        memory: &mut [u8],
        error: Option<DiskError>,
        misdeed: Option<Misdeed>,
        done: &mut Completion,
    ) -> bool {
        let r = self.range(op);
        let mut values = match misdeed {
            Some(Misdeed::StaleRead) => self.durable[r.clone()].to_vec(),
            _ => self.current[r.clone()].to_vec(),
        };
        if let Some(Misdeed::ReadElsewhere(seed)) = misdeed {
            for (sector, value) in r.clone().zip(&mut values) {
                *value = crate::stamp::rot(seed, self.shape.volume, sector);
            }
        }
        if error.is_some() {
            values.fill(0);
        }
        let first = r.start;
        if misdeed.is_some() {
            done.spoiled.push(r);
        }
        let sectors = memory.chunks_exact_mut(SECTOR as usize);
        for (bytes, real) in sectors.zip(real(op).unwrap_or(0..0)) {
            let value = self.number(real).map_or(0, |at| values[at - first]);
            self.content.fill(bytes, value);
        }
        values.iter().all(|&v| v == 0)
    }

    /// The node lost its power: returns how many sectors hold something else than reads saw.
    ///
    /// # Errors
    /// What is wrong with the data of a write in flight: the engine's fault.
    pub fn power_cut(&mut self, rng: &mut Rng, memory: &VecMemory) -> Result<u64, String> {
        let keep = rng.pick(&[0, 0, 20, 50, 80, 100]);
        // Whole writes survive or not, or each of their atoms by itself.
        let whole = rng.coin();
        let atom = self.shape.atom;
        let mut survivors = self.durable.clone();
        for cached in &self.cache {
            let keep = if whole {
                100 * u64::from(rng.percent(keep))
            } else {
                keep
            };
            scatter(
                &mut survivors,
                cached.first,
                &cached.values,
                keep,
                atom,
                rng,
            );
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
        self.trouble.restarted();
    }

    fn tear_pending(
        &mut self,
        survivors: &mut [Value],
        rng: &mut Rng,
        memory: &VecMemory,
    ) -> Result<(), String> {
        for mut p in std::mem::take(&mut self.pending) {
            if !changes(&p.op) || self.is_nothing(&p.op) {
                continue;
            }
            let r = self.range(&p.op);
            let values = match p.values.take() {
                Some(values) => values,
                None => self.capture(&p.op, memory)?,
            };
            let keep = rng.pick(&[0, 50, 100]);
            scatter(survivors, r.start, &values, keep, self.shape.atom, rng);
        }
        Ok(())
    }

    /// The content that an operation writes, checked.
    fn capture(&mut self, op: &DiskOp, memory: &VecMemory) -> Result<Vec<Value>, String> {
        let r = self.range(op);
        let DiskOp::Write { view, .. } = *op else {
            return Ok(vec![0; r.len()]);
        };
        let (volume, data) = (self.shape.volume, self.shape.places.sectors);
        let mut values = Vec::with_capacity(r.len());
        let sectors = memory.bytes(view).chunks_exact(SECTOR as usize);
        for (bytes, real) in sectors.zip(real(op).unwrap_or(0..0)) {
            match self.number(real) {
                Some(sector) if self.is_scar(sector) => match crate::stamp::parse(bytes) {
                    Some(stamp) => values.push(stamp),
                    None => values.push(self.content.keep(bytes, self.current[sector])),
                },
                Some(sector) if sector < data => {
                    values.push(content::stamped(bytes, volume, sector)?);
                }
                Some(sector) => values.push(self.content.keep(bytes, self.current[sector])),
                None if bytes.iter().all(|&b| b == 0) => {}
                None => return Err(format!("vol{volume} is being written where nobody wrote")),
            }
        }
        Ok(values)
    }

    fn is_nothing(&self, op: &DiskOp) -> bool {
        matches!(op, DiskOp::Discard { .. }) && self.shape.discard == Discard::Ignore
    }

    fn land(
        &mut self,
        op: &DiskOp,
        values: Vec<Value>,
        misdeed: Option<Misdeed>,
        done: &mut Completion,
    ) {
        let r = self.range(op);
        if r.is_empty() || self.is_nothing(op) {
            return;
        }
        let data = self.shape.places.sectors;
        let mut first = r.start;
        match misdeed {
            Some(Misdeed::LoseWrite) => {
                done.spoiled.push(r);
                return;
            }
            Some(Misdeed::WriteElsewhere(seed)) => {
                let to = seed as usize % data;
                let hit = to..(to + r.len()).min(data);
                done.spoiled.extend([r, hit.clone()]);
                let garbage = hit.map(|s| crate::stamp::rot(seed, self.shape.volume, s));
                let garbage: Vec<Value> = garbage.collect();
                self.current[to..to + garbage.len()].copy_from_slice(&garbage);
                self.remember(to, garbage);
                return;
            }
            Some(Misdeed::Misdirect) if r.end < data => first += 1,
            _ => {}
        }
        self.trouble.written(&r);
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
            doomed: false,
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
            if !cached.doomed {
                let to = cached.first..cached.first + cached.values.len();
                self.durable[to].copy_from_slice(&cached.values);
            }
            self.cache.pop_front();
        }
    }

    /// The number of a sector in this model; `None` for one in the sea, which is zero for ever.
    fn number(&self, real: usize) -> Option<usize> {
        let places = &self.shape.places;
        match real.checked_sub(places.volume()) {
            Some(behind) => Some(places.sectors + behind),
            None => places.uses(real).then(|| places.before(real)),
        }
    }

    /// The sectors of this model that an operation touches.
    fn range(&self, op: &DiskOp) -> Range<usize> {
        let places = &self.shape.places;
        let number = |real: usize| places.before(real) + real.saturating_sub(places.volume());
        real(op).map_or(0..0, |r| number(r.start)..number(r.end))
    }

    /// Zeroes the page of metadata at this offset in bytes, behind everyone's back.
    pub fn wipe(&mut self, offset: u64) {
        let first = (offset / SECTOR) as usize;
        for real in first..first + PAGE / SECTOR as usize {
            if let Some(at) = self.number(real) {
                self.set(at, 0);
            }
        }
    }

    /// Damages a sector, and answers whether it is one of the volume's data.
    pub fn rot(&mut self, sector: usize, seed: u64) -> bool {
        let data = sector < self.shape.places.sectors;
        let value = if data {
            crate::stamp::rot(seed, self.shape.volume, sector)
        } else {
            self.content.flipped(self.current[sector], seed)
        };
        self.set(sector, value);
        data
    }
}

/// Lets each atom of a write survive with a chance of `keep` percent.
fn scatter(
    to: &mut [Value],
    first: usize,
    values: &[Value],
    keep: u64,
    atom: usize,
    rng: &mut Rng,
) {
    let mut kept = (usize::MAX, false);
    for (at, &value) in (first..).zip(values) {
        if kept.0 != at / atom {
            kept = (at / atom, keep == 100 || (keep != 0 && rng.percent(keep)));
        }
        if kept.1 {
            to[at] = value;
        }
    }
}

/// Whether an operation changes what the disk holds.
fn changes(op: &DiskOp) -> bool {
    !matches!(op, DiskOp::Read { .. } | DiskOp::Flush)
}

/// The sectors an operation touches, as the engine numbers them.
fn real(op: &DiskOp) -> Option<Range<usize>> {
    let (offset, len) = match *op {
        DiskOp::Read { offset, view, .. } | DiskOp::Write { offset, view } => (offset, view.len),
        DiskOp::Discard { offset, len } | DiskOp::WriteZeroes { offset, len, .. } => (offset, len),
        DiskOp::Flush => return None,
    };
    let first = (offset / SECTOR) as usize;
    Some(first..first + (u64::from(len) / SECTOR) as usize)
}
