//! CRC-32C (Castagnoli): the checksum of frames, of the preamble and of what lies on disk.
//!
//! Short inputs go through the `crc` crate's tables. Long ones are folded first, because one table look-up a byte is
//! what a processor without CRC instructions is worst at, and no crate finds those instructions at run time without
//! `std`. (Under QEMU's TCG even they are slower than tables; figures in docs/PERFORMANCE.md.)
//!
//! # Folding
//!
//! Number a message's bits in the order of their transmission. The generator divides a polynomial of only six terms,
//! found by search: `x^209 + x^144 + x^54 + x^39 + x^14 + 1`. So a bit that is flipped together with those 65, 155,
//! 170, 195 and 209 places behind it leaves the checksum as it is, and a whole word of the message can be cleared by
//! exclusive-oring it into the four words behind it, shifted. What is left after the last word but a few is the rest
//! of the message with the folded words in it, and has the same checksum.

use crc::{CRC_32_ISCSI, Crc, Table};

static TABLES: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Places behind a bit, at which flipping it too leaves the checksum as it is.
const BEHIND: [u32; 5] = [65, 155, 170, 195, 209];
/// Words behind a word that they reach.
const REACH: usize = 4;
const WORD: usize = size_of::<u64>();
/// Shorter inputs are not worth folding.
const FOLD_FROM: usize = 128;

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    if bytes.len() < FOLD_FROM {
        return TABLES.checksum(bytes);
    }
    extend(0, bytes)
}

/// The CRC-32C of some bytes with the checksum `crc`, and `bytes` after them. Those of none have 0.
#[must_use]
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    if bytes.len() < FOLD_FROM {
        return by_tables(!crc, &[bytes]);
    }
    let (head, rest) = bytes.split_at((bytes.len() / WORD - REACH) * WORD);
    let (reached, rest) = rest.split_at(REACH * WORD);
    let folded = fold(!crc, head);
    let mut left = [0; REACH * WORD];
    let words = left.as_chunks_mut().0.iter_mut();
    for ((to, word), folded) in words.zip(reached.as_chunks().0).zip(folded) {
        *to = (u64::from_le_bytes(*word) ^ folded).to_le_bytes();
    }
    by_tables(0, &[&left, rest])
}

/// What is to be exclusive-ored into the words behind `head`, which begins with the given state of the register.
fn fold(state: u32, head: &[u8]) -> [u64; REACH] {
    let mut carry = [u64::from(state), 0, 0, 0];
    let (blocks, words) = head.as_chunks::<{ REACH * WORD }>();
    for block in blocks {
        for word in block.as_chunks().0 {
            carry = step(carry, u64::from_le_bytes(*word));
        }
    }
    for word in words.as_chunks().0 {
        carry = step(carry, u64::from_le_bytes(*word));
    }
    carry
}

/// Clears one word; `carry` is what is to be exclusive-ored into it and the ones behind it.
#[inline(always)]
fn step(carry: [u64; REACH], word: u64) -> [u64; REACH] {
    let word = word ^ carry[0];
    let mut next = [carry[1], carry[2], carry[3], 0];
    for places in BEHIND {
        let (words, bits) = ((places / u64::BITS) as usize, places % u64::BITS);
        next[words - 1] ^= word << bits;
        next[words] ^= word >> (u64::BITS - bits);
    }
    next
}

/// The CRC-32C of `parts` one after another, from the given state of the register.
fn by_tables(state: u32, parts: &[&[u8]]) -> u32 {
    // The crate wants the state as its catalogue writes it: not reflected.
    let mut digest = TABLES.digest_with_initial(state.reverse_bits());
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn the_check_values_of_rfc_3720() {
        // Appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&[]), 0);
    }

    #[test]
    fn folding_changes_nothing_at_any_length() {
        let bytes: Vec<u8> = (0..1000u32)
            .map(|n| (n * n) as u8 ^ (n >> 3) as u8)
            .collect();
        for len in 0..bytes.len() {
            assert_eq!(crc32c(&bytes[..len]), TABLES.checksum(&bytes[..len]));
        }
    }

    proptest! {
        #[test]
        fn piece_by_piece_is_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut in 0usize..5000) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let whole = TABLES.checksum(&bytes);
            prop_assert_eq!(crc32c(&bytes), whole);
            prop_assert_eq!(extend(crc32c(head), tail), whole);
        }
    }
}
