//! Nonces for the preamble.

use sha2::{Digest, Sha256};

/// Gives nonces that never repeat while its seeds do not: the SHA-256 of seed and number. Whoever does not know the
/// seed cannot foresee them.
#[derive(Clone)]
pub struct NonceSource {
    seed: [u64; 4],
    next: u64,
}

impl core::fmt::Debug for NonceSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "NonceSource({})", self.next)
    }
}

impl NonceSource {
    /// A source of its own for every seed. In production the seed is random and new for every boot: the keys of two
    /// connections are different only because their nonces are.
    #[must_use]
    pub fn new(seed: [u64; 4]) -> Self {
        Self { seed, next: 0 }
    }

    /// The next nonce.
    pub fn next_nonce(&mut self) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(b"palisade nonce ");
        for word in self.seed {
            hash.update(word.to_le_bytes());
        }
        hash.update(self.next.to_le_bytes());
        self.next += 1;
        hash.finalize().into()
    }
}
