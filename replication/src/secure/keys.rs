//! Keys and proofs (docs/PROTOCOL.md, "Keys"). HKDF is RFC 5869, HMAC is RFC 2104, both with SHA-256.

use super::message::{MESSAGE_LEN, RESOURCE_TAG_LEN};
use super::{Integrity, PreambleSide};
use core::fmt;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// A 256-bit key.
pub(super) type Key = [u8; 32];

/// What the shared secret becomes at start; the secret itself is not kept.
#[derive(Clone)]
pub(super) struct SharedKeys {
    /// HKDF's pseudorandom key: every other key comes from it.
    root: Key,
    /// Key of the proofs.
    proof: Key,
    /// Stands for the resource's name in the offer.
    pub(super) resource: [u8; RESOURCE_TAG_LEN],
}

impl fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys belong in no log.
        f.write_str("SharedKeys")
    }
}

impl SharedKeys {
    pub(super) fn new(secret: &[u8], resource: &str) -> Self {
        let (root, _) = Hkdf::<Sha256>::extract(Some(b"palisade peer link 1"), secret);
        let root = root.into();
        let digest = Sha256::new()
            .chain_update(b"palisade resource ")
            .chain_update(resource)
            .finalize();
        let mut tag = [0; RESOURCE_TAG_LEN];
        tag.copy_from_slice(&digest[..RESOURCE_TAG_LEN]);
        Self {
            root,
            proof: expand(&root, &[b"palisade proof"]),
            resource: tag,
        }
    }

    /// What `side` must show to prove that it knows the secret, on the connection of `transcript`.
    fn proof_of(&self, side: PreambleSide, transcript: &Key) -> Hmac<Sha256> {
        // HMAC fills a key up to its block with zeroes.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.proof);
        Hmac::<Sha256>::new(&block.into())
            .chain_update(b"palisade proof of ")
            .chain_update([side.code()])
            .chain_update(transcript)
    }

    pub(super) fn prove(&self, side: PreambleSide, transcript: &Key) -> Key {
        self.proof_of(side, transcript)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Whether `proof` is that of `side`; the time taken does not tell how much of it is right.
    pub(super) fn proves(&self, side: PreambleSide, transcript: &Key, proof: &Key) -> bool {
        self.proof_of(side, transcript).verify(proof.into()).is_ok()
    }

    /// The secret from which the keys of what `side` sends come, on the connection of `transcript`.
    pub(super) fn traffic(
        &self,
        side: PreambleSide,
        integrity: Integrity,
        transcript: &Key,
    ) -> Key {
        let mode = [side.code(), super::message::mode_code(integrity)];
        expand(&self.root, &[b"palisade seal ", &mode, transcript])
    }
}

/// HKDF-Expand to 32 bytes; `info` is the pieces one after another.
pub(super) fn expand(key: &Key, info: &[&[u8]]) -> Key {
    let mut out = [0; 32];
    let done = Hkdf::<Sha256>::from_prk(key)
        .is_ok_and(|hkdf| hkdf.expand_multi_info(info, &mut out).is_ok());
    assert!(done, "HKDF-SHA-256 gives 32 bytes for a key of 32 bytes");
    out
}

/// The digest of both offers, which every proof and key is bound to.
pub(super) fn transcript(dials: &[u8; MESSAGE_LEN], listens: &[u8; MESSAGE_LEN]) -> Key {
    Sha256::new()
        .chain_update(b"palisade preamble 1 ")
        .chain_update(dials)
        .chain_update(listens)
        .finalize()
        .into()
}
