//! Sealed records: authenticated encryption with keys of one connection and direction.
//!
//! The n-th record under a key has the nonce n, so a record that is lost, repeated, moved or cut short does not
//! open. After [`REKEY_AFTER`] records both ends take the next key, without a word: GCM's bounds are on the blocks
//! under one key (RFC 8446, section 5.5, draws the line at 2^34.5; this stays below 2^33), and who learns today's
//! key cannot open what was sealed with the ones before.

use super::Integrity;
use super::keys::{Key, expand};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use core::fmt;

/// Bytes that sealing adds to a record.
pub const TAG_LEN: usize = 16;
/// Records under one key.
pub const REKEY_AFTER: u64 = 1 << 20;

/// A record does not open: it was damaged or forged, or records were lost. Nothing that follows can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record was altered on its way")
    }
}

impl core::error::Error for Corrupt {}

#[expect(
    clippy::large_enum_variant,
    reason = "a box would be allocated anew with every key"
)]
enum Cipher {
    Aes(Aes256Gcm),
    ChaCha(ChaCha20Poly1305),
}

/// One direction's keys and numbers.
struct Channel {
    mode: Integrity,
    /// The present key and all later ones come from this.
    traffic: Key,
    cipher: Cipher,
    records: u64,
}

impl Channel {
    fn new(mode: Integrity, traffic: Key) -> Self {
        Self {
            mode,
            cipher: cipher(mode, &traffic),
            traffic,
            records: 0,
        }
    }

    fn nonce(&mut self) -> [u8; 12] {
        if self.records == REKEY_AFTER {
            *self = Self::new(self.mode, expand(&self.traffic, &[b"palisade next"]));
        }
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.records.to_le_bytes());
        self.records += 1;
        nonce
    }
}

fn cipher(mode: Integrity, traffic: &Key) -> Cipher {
    let key = expand(traffic, &[b"palisade key"]).into();
    match mode {
        Integrity::ChaCha20Poly1305 => Cipher::ChaCha(ChaCha20Poly1305::new(&key)),
        Integrity::Crc32c | Integrity::Aes256Gcm => Cipher::Aes(Aes256Gcm::new(&key)),
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} records", self.mode, self.records)
    }
}

/// Seals what this side sends.
#[derive(Debug)]
pub struct Sealer(Channel);

/// Opens what the other side sends.
#[derive(Debug)]
pub struct Opener(Channel);

impl Sealer {
    pub(super) fn new(mode: Integrity, traffic: Key) -> Self {
        Self(Channel::new(mode, traffic))
    }

    /// As if so many records had gone under the present key.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, records: u64) {
        self.0.records = records;
    }

    /// Seals `plain` into `out`, which must have exactly [`TAG_LEN`] bytes more: one pass over the data.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) {
        assert_eq!(out.len(), plain.len() + TAG_LEN, "room for record and tag");
        let (text, tag) = out.split_at_mut(plain.len());
        match InOutBuf::new(plain, text) {
            Ok(buffer) => self.run(buffer, tag),
            Err(_) => unreachable!("both halves have the plain text's length"),
        }
    }

    fn run(&mut self, buffer: InOutBuf<'_, '_, u8>, tag: &mut [u8]) {
        let nonce = self.0.nonce().into();
        let sealed = match &self.0.cipher {
            Cipher::Aes(cipher) => cipher.encrypt_inout_detached(&nonce, &[], buffer),
            Cipher::ChaCha(cipher) => cipher.encrypt_inout_detached(&nonce, &[], buffer),
        };
        match sealed {
            Ok(computed) => tag.copy_from_slice(&computed),
            // Only for records of 64 GiB and more.
            Err(_) => unreachable!("a frame's part is at most 128 KiB long"),
        }
    }
}

impl Opener {
    pub(super) fn new(mode: Integrity, traffic: Key) -> Self {
        Self(Channel::new(mode, traffic))
    }

    /// As if so many records had gone under the present key.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, records: u64) {
        self.0.records = records;
    }

    /// Opens the record where it lies.
    ///
    /// # Errors
    /// [`Corrupt`]: drop the connection, the bytes are not the peer's.
    pub fn open(&mut self, text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), Corrupt> {
        let nonce = self.0.nonce().into();
        let (buffer, tag) = (InOutBuf::from(text), tag.into());
        let opened = match &self.0.cipher {
            Cipher::Aes(cipher) => cipher.decrypt_inout_detached(&nonce, &[], buffer, tag),
            Cipher::ChaCha(cipher) => cipher.decrypt_inout_detached(&nonce, &[], buffer, tag),
        };
        opened.map_err(|_| Corrupt)
    }
}
