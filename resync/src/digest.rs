//! Digests of blocks: how two nodes find out which blocks differ without sending them.
//!
//! The digest of a block is POLYVAL (RFC 8452) of its bytes under a secret random key that both
//! nodes use for one verify or one resync only. That is a polynomial of degree 256 over
//! GF(2^128), evaluated at the key: two given blocks that differ have the same digest for at
//! most 256 of the 2^128 keys, so with a probability of at most 2^-120, *whatever the blocks are*.
//!
//! Why not a fast unkeyed hash (XXH3, MurmurHash and their like)? Accidents it would catch as well. But
//! a user of the volume chooses what is written, can look for two blocks of one digest at leisure, and
//! could so have a checksum-based resync leave the old one on the target: both nodes would
//! call themselves UpToDate and not be alike. He cannot know a key that is drawn when the
//! resync begins, long after he wrote. Why not a cryptographic hash then? It would have to
//! resist someone who sees digests; nobody but the two nodes does, and it costs several
//! times as much. What this does not protect from is someone who reads the replication link and
//! can also write to the volume: encrypt that link.
//!
//! The figures are in `docs/RESYNC.md`.

use crate::BLOCK;
use polyval::{Polyval, universal_hash::UniversalHash};

/// A block's digest.
pub type Digest = [u8; 16];

/// Digests that one comparison takes at most: a bit each in its answer.
pub const DIGESTS_MAX: usize = 32;

/// Never the key alone: if a node's source of randomness gave zeroes, every digest would be zero, and
/// everything would look alike. Any odd constant does; these are digits of pi.
const KEY_MASK: Digest = [
    0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95,
];

/// Computes digests under one key.
#[derive(Debug, Clone)]
pub struct Digester {
    keyed: Polyval,
}

impl Digester {
    /// A digester for `key`, 16 random bytes that the two nodes agreed upon. Both must use the same.
    #[must_use]
    pub fn new(key: &Digest) -> Self {
        let mut masked = KEY_MASK;
        if *key != KEY_MASK {
            for (byte, key) in masked.iter_mut().zip(key) {
                *byte ^= key;
            }
        }
        Self {
            keyed: Polyval::new(&masked.into()),
        }
    }

    /// The digest of one block. Only digests of blocks of equal length may be compared.
    #[must_use]
    pub fn digest(&self, block: &[u8]) -> Digest {
        let mut hash = self.keyed.clone();
        hash.update_padded(block);
        hash.finalize().into()
    }

    /// The digests of the blocks in `bytes`, the last of which may be partial, as many as `out` has
    /// room for. Gives how many that are.
    pub fn digests(&self, bytes: &[u8], out: &mut [Digest]) -> usize {
        let mut count = 0;
        for (digest, block) in out.iter_mut().zip(bytes.chunks(BLOCK as usize)) {
            *digest = self.digest(block);
            count += 1;
        }
        count
    }
}

/// Which blocks differ: bit `i` is set if digest `i` is not the same on both sides, or if only one of
/// them has it. Looks at [`DIGESTS_MAX`] digests.
#[must_use]
pub fn diff(ours: &[Digest], theirs: &[Digest]) -> u32 {
    let count = ours.len().max(theirs.len()).min(DIGESTS_MAX);
    let differs = |i: &usize| match (ours.get(*i), theirs.get(*i)) {
        (Some(our), Some(their)) => our != their,
        _ => true,
    };
    (0..count).filter(differs).fold(0, |mask, i| mask | 1 << i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const KEY: Digest = [0xa5; 16];

    #[test]
    fn the_function_is_the_one_of_the_rfc() {
        // RFC 8452, appendix A; the mask is taken off again.
        let h = 0x2562_9347_5892_4276_1d31_f826_ba4b_757bu128.to_be_bytes();
        let x1 = 0x4f4f_9566_8c83_dfb6_4017_62bb_2d01_a262u128.to_be_bytes();
        let x2 = 0xd1a2_4ddd_2721_d006_bbe4_5f20_d3c9_f362u128.to_be_bytes();
        let expected = 0xf7a3_b47b_8461_19fa_e5b7_866c_f5e5_b77eu128.to_be_bytes();
        let key = core::array::from_fn(|i| h[i] ^ KEY_MASK[i]);
        assert_eq!(Digester::new(&key).digest(&[x1, x2].concat()), expected);
    }

    #[test]
    fn no_key_makes_all_blocks_alike() {
        for key in [[0; 16], KEY_MASK] {
            let digester = Digester::new(&key);
            assert_ne!(digester.digest(&[1; 4096]), digester.digest(&[2; 4096]));
        }
    }

    #[test]
    fn digests_of_another_key_differ() {
        let block = [7; 4096];
        assert_ne!(
            Digester::new(&KEY).digest(&block),
            Digester::new(&[1; 16]).digest(&block)
        );
    }

    #[test]
    fn a_missing_digest_is_a_difference_and_the_mask_has_32_bits() {
        let digests = [[1; 16]; 40];
        assert_eq!(diff(&digests[..3], &digests[..5]), 0b11000);
        assert_eq!(diff(&digests, &digests), 0);
        assert_eq!(diff(&digests, &[[2; 16]; 40]), u32::MAX);
        assert_eq!(diff(&[], &[]), 0);
    }

    proptest! {
        #[test]
        fn exactly_the_changed_blocks_differ(
            len in 1usize..131_073, seed in any::<u8>(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..6),
        ) {
            let bytes: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
            let mut other = bytes.clone();
            for (at, bit) in flips {
                other[at.index(len)] ^= 1 << bit;
            }
            let expected = bytes.chunks(4096).zip(other.chunks(4096)).enumerate()
                .filter(|(_, (a, b))| a != b)
                .fold(0u32, |mask, (i, _)| mask | 1 << i);
            let digester = Digester::new(&KEY);
            let (mut ours, mut theirs) = ([[0; 16]; 32], [[0; 16]; 32]);
            let count = digester.digests(&bytes, &mut ours);
            prop_assert_eq!(count, len.div_ceil(4096));
            digester.digests(&other, &mut theirs);
            prop_assert_eq!(diff(&ours[..count], &theirs[..count]), expected);
        }
    }
}
