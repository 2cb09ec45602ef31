//! What a sector holds: a stamp that says who wrote it, when and where to.
//!
//! The simulator's disks keep one [`Value`] per sector instead of 512 bytes, so that thousands of
//! seeds a minute are possible; the pool's memory, the frames and the copies carry real bytes.
//! Every conversion checks the whole sector, so a mixed, shifted or misplaced one is noticed.

use replication::buf::BufView;

/// Bytes of a sector, the unit of stamps and of atomicity.
pub const SECTOR: u64 = 512;

/// Content of one sector: 0 for zeroes, else a stamp.
pub type Value = u64;

/// Step between the eight-byte words of a stamped sector.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const ADDRESS_BITS: u32 = 24;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;

/// The stamp of `client`'s write number `sequence` for a place.
#[must_use]
pub fn stamp(client: usize, sequence: u32, volume: usize, sector: usize) -> Value {
    ((client as u64 + 1) << 56) | (u64::from(sequence) << ADDRESS_BITS) | address(volume, sector)
}

/// The client that no client is: what a damaged sector of a place holds.
const ROT: u64 = 0xfe;

/// Rubbish for a place; it belongs there, but no client wrote it.
#[must_use]
pub fn rot(seed: u64, volume: usize, sector: usize) -> Value {
    (ROT << 56) | (seed & 0xffff_ffff) << ADDRESS_BITS | address(volume, sector)
}

/// A place as stamps hold it.
fn address(volume: usize, sector: usize) -> u64 {
    (((volume as u64) << 20) | sector as u64) & ADDRESS_MASK
}

/// Whether `value` may lie there at all.
#[must_use]
pub fn belongs(value: Value, volume: usize, sector: usize) -> bool {
    value == 0 || value & ADDRESS_MASK == address(volume, sector)
}

/// A stamp for people: client, sequence, place.
#[must_use]
pub fn describe(value: Value) -> String {
    if value == 0 {
        return "zeroes".into();
    }
    let place = value & ADDRESS_MASK;
    if value >> 56 == ROT {
        return format!("rubbish (vol{} sector {})", place >> 20, place & 0xf_ffff);
    }
    format!(
        "client {} write {} (vol{} sector {})",
        (value >> 56) - 1,
        (value >> ADDRESS_BITS) as u32,
        place >> 20,
        place & 0xf_ffff
    )
}

/// Writes a sector's bytes.
pub fn fill(bytes: &mut [u8], value: Value) {
    if value == 0 {
        bytes.fill(0);
        return;
    }
    let mut word = value;
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(STEP);
    }
}

/// Reads a sector's bytes; `None` when they are no stamp and not zeroes.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Value> {
    let (words, _) = bytes.as_chunks::<8>();
    let value = u64::from_le_bytes(*words.first()?);
    let step = if value == 0 { 0 } else { STEP };
    let mut word = value;
    let mut same = true;
    for chunk in words {
        same &= u64::from_le_bytes(*chunk) == word;
        word = word.wrapping_add(step);
    }
    same.then_some(value)
}

/// Sectors covered by a view.
#[must_use]
pub fn sectors(view: BufView) -> usize {
    (u64::from(view.len) / SECTOR) as usize
}
