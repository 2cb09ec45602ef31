//! Digests of blocks: how two nodes find out which blocks differ without sending them.
//!
//! The digest of a block is SipHash-1-3 with 128 bits, under a secret random key that both nodes use
//! for one verify or one resync only.
//!
//! Why keyed? Accidents (a lost write, a flipped bit) any good hash of 128 bits finds. But a user of the
//! volume chooses what is written. With an unkeyed fast hash (XXH3, MurmurHash and their like) he can
//! make two blocks of one digest at leisure, write one, write the other while the link is down, and
//! a resync by checksums leaves the first on the target: both nodes call themselves UpToDate and
//! are not alike. He cannot prepare for a key that is drawn when the resync begins. A
//! cryptographic hash without a key would do as well, at a tenth of the speed.
//!
//! Why this function? It is made for just this: input that others choose, a key they do not know,
//! results they do not see. It needs nothing but 64-bit additions, rotations and exclusive ors, so
//! it is fast on any processor, an emulated one included. Carry-less
//! multiplication (POLYVAL, GHASH) is twice as fast on bare metal and sixteen times slower under emulation. The figures
//! are in `docs/RESYNC.md`.
//!
//! What it does not protect from is someone who reads the replication link, key and digests, and can also
//! write to the volume: encrypt that link.

use crate::BLOCK;
use core::fmt;
use siphasher::sip128::SipHasher13;

/// A block's digest.
pub type Digest = [u8; 16];

/// Digests that one comparison takes at most: a bit each in its answer.
pub const DIGESTS_MAX: usize = 32;

/// Computes digests under one key.
#[derive(Clone)]
pub struct Digester {
    keyed: SipHasher13,
}

impl fmt::Debug for Digester {
    /// Says nothing of the key: it is a secret, and logs are not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl Digester {
    /// A digester for `key`, 16 random bytes that the two nodes agreed upon. Both must use the same.
    #[must_use]
    pub fn new(key: &Digest) -> Self {
        Self {
            keyed: SipHasher13::new_with_key(key),
        }
    }

    /// The digest of one block.
    #[must_use]
    pub fn digest(&self, block: &[u8]) -> Digest {
        self.keyed.hash(block).as_bytes()
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
    fn the_function_never_changes() {
        // Computed by another implementation. Nodes of different versions compare digests.
        let key = core::array::from_fn(|i| i as u8);
        let bytes: Vec<u8> = (0..4096).map(|i| (i * 7) as u8).collect();
        let digester = Digester::new(&key);
        let expected: [u128; 2] = [
            0x8212_2f72_84b2_185a_f0a3_46cb_6ac8_6a1a,
            0x24f8_3f8b_0d11_e42a_1712_f30c_6802_5a22,
        ];
        let found = [&bytes[..], &bytes[..513]].map(|part| digester.digest(part));
        assert_eq!(found.map(u128::from_be_bytes), expected);
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(alloc::format!("{:?}", Digester::new(&KEY)), "Digester");
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
