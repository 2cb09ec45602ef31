//! What the sectors of metadata hold, byte by byte: a [`Value`] with the highest byte set is a number in
//! this table, so that cache, tearing and loss treat all sectors alike. All disks of a world share it, and equal
//! sectors have equal numbers.

use crate::stamp::{self, SECTOR, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

const RAW: u64 = 0xff << 56;

type Sector = [u8; SECTOR as usize];

/// The table. It only grows: old copies of a disk stay readable.
#[derive(Debug, Default, Clone)]
pub struct Content(Rc<RefCell<Table>>);

#[derive(Debug, Default)]
struct Table {
    sectors: Vec<Sector>,
    numbers: HashMap<Sector, u64>,
}

impl Content {
    /// The value of a sector of metadata; `now` is the one it holds.
    pub(super) fn keep(&self, bytes: &[u8], now: Value) -> Value {
        if bytes.iter().all(|&b| b == 0) {
            return 0;
        }
        let mut table = self.0.borrow_mut();
        let old = (now & RAW == RAW).then_some((now & !RAW) as usize);
        if old.is_some_and(|old| table.sectors.get(old).is_some_and(|old| old == bytes)) {
            return now;
        }
        let mut sector = [0; SECTOR as usize];
        sector.copy_from_slice(bytes);
        let Table { sectors, numbers } = &mut *table;
        let number = *numbers.entry(sector).or_insert_with(|| {
            sectors.push(sector);
            sectors.len() as u64 - 1
        });
        RAW | number
    }

    /// Writes a sector's bytes.
    pub(super) fn fill(&self, bytes: &mut [u8], value: Value) {
        if value & RAW == RAW
            && let Some(raw) = self.0.borrow().sectors.get((value & !RAW) as usize)
        {
            return bytes.copy_from_slice(raw);
        }
        stamp::fill(bytes, value);
    }

    /// The same sector with one bit changed.
    pub(super) fn flipped(&self, value: Value, seed: u64) -> Value {
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
