//! The preamble's messages: all of 64 bytes, so that a reader always knows how much to read.
//!
//! ```text
//!  0  4  magic "PLSP"
//!  4  1  version of the preamble (1)
//!  5  1  type: 1 offer, 2 proof, 3 verdict
//!  6     offer:   1 side, 1 flags (1: has a secret), 1 integrity mode, 3 zero, 32 nonce, 16 resource tag
//!        proof:   6 zero, 32 HMAC
//!        verdict: 1 code (0: accepted)
//! 60  4  CRC-32C of the 60 bytes before, little-endian
//! ```
//!
//! Magic, length, CRC, types and the verdict are the same in every version, so that two releases can tell each other
//! that they differ.

use super::keys::Key;
use super::{Integrity, LinkRefusal, PreambleSide};
use crate::crc32c::crc32c;

/// Bytes of every message of the preamble.
pub const MESSAGE_LEN: usize = 64;
pub(super) const RESOURCE_TAG_LEN: usize = 16;
pub(super) const PREAMBLE_VERSION: u8 = 1;
const MAGIC: &[u8; 4] = b"PLSP";
/// The magic of a frame: what a release without preamble sends first.
const FRAME_MAGIC: &[u8; 4] = b"PLSD";
const CHECKED: usize = MESSAGE_LEN - 4;

const OFFER: u8 = 1;
const PROOF: u8 = 2;
const VERDICT: u8 = 3;
const HAS_SECRET: u8 = 1;

pub(super) type Bytes = [u8; MESSAGE_LEN];

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub side: u8,
    pub has_secret: bool,
    pub mode: u8,
    pub nonce: Key,
    pub resource: [u8; RESOURCE_TAG_LEN],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Offer(Offer),
    Proof(Key),
    /// `None`: accepted.
    Verdict(Option<LinkRefusal>),
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageError {
    /// Not this protocol.
    Magic,
    /// Damaged.
    Checksum,
    /// Another version of the preamble, or frames without one.
    Version,
    /// A type that this version does not know.
    Type,
}

pub(super) fn mode_code(mode: Integrity) -> u8 {
    match mode {
        Integrity::Crc32c => 1,
        Integrity::Aes256Gcm => 2,
        Integrity::ChaCha20Poly1305 => 3,
    }
}

/// Whether no message, nor a frame, begins with `bytes`.
pub(super) fn is_foreign(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(MAGIC.len())];
    !MAGIC.starts_with(head) && !FRAME_MAGIC.starts_with(head)
}

/// In the order of their codes, from 1.
const REFUSALS: [LinkRefusal; 7] = [
    LinkRefusal::Version,
    LinkRefusal::SecretMissing,
    LinkRefusal::PeerWithoutSecret,
    LinkRefusal::SecretDiffers,
    LinkRefusal::Resource,
    LinkRefusal::IntegrityDiffers,
    LinkRefusal::Itself,
];

fn code(refusal: LinkRefusal) -> u8 {
    let place = REFUSALS.iter().position(|other| *other == refusal);
    place.map_or(0, |place| place as u8) + 1
}

impl Offer {
    pub(super) fn is_side(&self, side: PreambleSide) -> bool {
        self.side == side.code()
    }
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = [0; MESSAGE_LEN];
        out[..4].copy_from_slice(MAGIC);
        out[4] = PREAMBLE_VERSION;
        match self {
            Self::Offer(offer) => {
                out[5] = OFFER;
                out[6] = offer.side;
                out[7] = if offer.has_secret { HAS_SECRET } else { 0 };
                out[8] = offer.mode;
                out[12..44].copy_from_slice(&offer.nonce);
                out[44..60].copy_from_slice(&offer.resource);
            }
            Self::Proof(proof) => {
                out[5] = PROOF;
                out[12..44].copy_from_slice(proof);
            }
            Self::Verdict(refusal) => {
                out[5] = VERDICT;
                out[6] = refusal.map_or(0, code);
            }
        }
        let crc = crc32c(&out[..CHECKED]);
        out[CHECKED..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, MessageError> {
        if bytes.starts_with(FRAME_MAGIC) {
            return Err(MessageError::Version);
        }
        if !bytes.starts_with(MAGIC) {
            return Err(MessageError::Magic);
        }
        if crc32c(&bytes[..CHECKED]).to_le_bytes() != bytes[CHECKED..] {
            return Err(MessageError::Checksum);
        }
        if bytes[5] == VERDICT {
            return Ok(Self::Verdict(match bytes[6] {
                0 => None,
                // A reason of a later version is a matter of versions.
                code => Some(
                    *REFUSALS
                        .get(usize::from(code) - 1)
                        .unwrap_or(&LinkRefusal::Version),
                ),
            }));
        }
        if bytes[4] != PREAMBLE_VERSION {
            return Err(MessageError::Version);
        }
        let mut long = [0; 32];
        long.copy_from_slice(&bytes[12..44]);
        match bytes[5] {
            OFFER => {
                let mut resource = [0; RESOURCE_TAG_LEN];
                resource.copy_from_slice(&bytes[44..60]);
                Ok(Self::Offer(Offer {
                    side: bytes[6],
                    has_secret: bytes[7] & HAS_SECRET != 0,
                    mode: bytes[8],
                    nonce: long,
                    resource,
                }))
            }
            PROOF => Ok(Self::Proof(long)),
            _ => Err(MessageError::Type),
        }
    }
}
