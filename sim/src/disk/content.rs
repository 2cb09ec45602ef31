//! What the sectors of metadata hold, byte by byte: a [`Value`] with the highest byte set is a number in
//! this table, so that cache, tearing and loss treat all sectors alike.

use crate::stamp::{self, SECTOR, Value};

const RAW: u64 = 0xff << 56;

/// The table. It only grows: old copies of a disk stay readable.
#[derive(Debug, Default)]
pub(super) struct Content(Vec<[u8; SECTOR as usize]>);

impl Content {
    fn raw(&self, value: Value) -> Option<&[u8; SECTOR as usize]> {
        if value & RAW != RAW {
            return None;
        }
        self.0.get((value & !RAW) as usize)
    }

    /// The value of a sector of metadata; `now` is the one it holds.
    pub(super) fn keep(&mut self, bytes: &[u8], now: Value) -> Value {
        if bytes.iter().all(|&b| b == 0) {
            return 0;
        }
        if self.raw(now).is_some_and(|old| old == bytes) {
            return now;
        }
        let mut sector = [0; SECTOR as usize];
        sector.copy_from_slice(bytes);
        self.0.push(sector);
        RAW | (self.0.len() as u64 - 1)
    }

    /// Writes a sector's bytes.
    pub(super) fn fill(&self, bytes: &mut [u8], value: Value) {
        match self.raw(value) {
            Some(raw) => bytes.copy_from_slice(raw),
            None => stamp::fill(bytes, value),
        }
    }

    /// The same sector with one bit changed.
    pub(super) fn flipped(&mut self, value: Value, seed: u64) -> Value {
        let mut bytes = [0; SECTOR as usize];
        self.fill(&mut bytes, value);
        bytes[(seed / 8 % SECTOR) as usize] ^= 1 << (seed % 8);
        self.keep(&bytes, value)
    }
}

/// The stamp that is being written to a sector of data.
///
/// # Errors
/// It is none, or another place's.
pub(super) fn stamped(bytes: &[u8], volume: usize, sector: usize) -> Result<Value, String> {
    match stamp::parse(bytes) {
        Some(value) if stamp::belongs(value, volume, sector) => Ok(value),
        Some(value) => Err(format!(
            "vol{volume} sector {sector} is being written with the data of another place: {}",
            stamp::describe(value)
        )),
        None => Err(format!(
            "vol{volume} sector {sector} is being written with bytes that nobody wrote"
        )),
    }
}
