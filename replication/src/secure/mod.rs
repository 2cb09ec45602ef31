//! Who the peer is, and that what it sends arrives as it was sent (docs/PROTOCOL.md, "Preamble").
//!
//! Before the engine's first frame both nodes exchange a [`Preamble`]: each offers a random nonce and the integrity
//! mode it is configured for, proves that it knows the shared secret if there is one, and accepts or refuses the
//! other. From what both offered come the keys of this one connection. After that every frame is protected by a
//! CRC-32C, or sealed with authenticated encryption ([`Sealer`], [`Opener`]).
//!
//! Everything here is pure: bytes in, bytes out, no clock, no randomness of its own ([`NonceSource`] is seeded), no
//! allocation. The link layer and the simulator pump it.

mod keys;
mod message;
mod nonces;
mod preamble;
mod seal;
#[cfg(test)]
mod tests;

pub use message::MESSAGE_LEN;
pub use nonces::NonceSource;
pub use preamble::{Preamble, PreambleError, Session};
pub use seal::{Corrupt, Opener, REKEY_AFTER, Sealer, TAG_LEN};

use core::fmt;
use keys::SharedKeys;

/// Bytes of a shared secret at least. What a passive listener sees of a preamble lets him try secrets as fast as he
/// can compute, so a short one would be found.
pub const SECRET_MIN: usize = 16;
/// Bytes of a shared secret at most.
pub const SECRET_MAX: usize = 128;

/// How frames are protected on their way. Both nodes must be configured for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Integrity {
    /// CRC-32C of header, body and payload: finds damage, not intent.
    #[default]
    Crc32c,
    /// AES-256-GCM (NIST SP 800-38D): nobody without the secret can read, alter, replay or reorder a frame.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439): the same, faster where the processor has no AES instructions.
    ChaCha20Poly1305,
}

impl Integrity {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Crc32c, Self::Aes256Gcm, Self::ChaCha20Poly1305]
            .into_iter()
            .find(|mode| mode.name() == name)
    }

    /// Whether the mode needs a shared secret.
    #[must_use]
    pub fn seals(self) -> bool {
        self != Self::Crc32c
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A node's fixed part in the preamble. It follows from the configured endpoints, not from who has called whom on this
/// connection: so a node that is made to talk to itself sees its own side and refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreambleSide {
    /// The node with the larger endpoint, which dials.
    Dials,
    /// The other one.
    Listens,
}

impl PreambleSide {
    fn other(self) -> Self {
        match self {
            Self::Dials => Self::Listens,
            Self::Listens => Self::Dials,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Dials => 1,
            Self::Listens => 2,
        }
    }
}

/// Why a secret or a mode cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityError {
    /// The secret has so many bytes, which is not [`SECRET_MIN`] to [`SECRET_MAX`].
    SecretLength(usize),
    /// The secret holds a byte that is not printable ASCII.
    SecretByte,
    /// The mode seals frames, and there is no secret to derive keys from.
    SecretNeeded(Integrity),
}

impl fmt::Display for SecurityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretLength(len) => write!(
                f,
                "the secret has {len} characters, expected {SECRET_MIN} to {SECRET_MAX}"
            ),
            Self::SecretByte => f.write_str("the secret may hold printable ASCII characters only"),
            Self::SecretNeeded(mode) => write!(
                f,
                "integrity \"{mode}\" needs a shared secret: set `secret` on both nodes"
            ),
        }
    }
}

impl core::error::Error for SecurityError {}

/// What a node demands of its peer and of the connection.
#[derive(Debug, Clone, Default)]
pub struct Security {
    integrity: Integrity,
    keys: Option<SharedKeys>,
}

impl Security {
    /// Protection by `integrity`; with a secret, only a peer that knows it too is accepted. `resource` is the name
    /// that both nodes must share.
    ///
    /// # Errors
    /// [`SecurityError`]: the secret is unfit, or missing where the mode needs one.
    pub fn new(
        integrity: Integrity,
        secret: Option<&[u8]>,
        resource: &str,
    ) -> Result<Self, SecurityError> {
        let keys = match secret {
            None if integrity.seals() => return Err(SecurityError::SecretNeeded(integrity)),
            None => None,
            Some(secret) if !(SECRET_MIN..=SECRET_MAX).contains(&secret.len()) => {
                return Err(SecurityError::SecretLength(secret.len()));
            }
            Some(secret) if !secret.iter().all(|b| (b' '..=b'~').contains(b)) => {
                return Err(SecurityError::SecretByte);
            }
            Some(secret) => Some(SharedKeys::new(secret, resource)),
        };
        Ok(Self { integrity, keys })
    }

    /// How frames are protected.
    #[must_use]
    pub fn integrity(&self) -> Integrity {
        self.integrity
    }

    /// Whether the peer must prove that it knows the secret.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.keys.is_some()
    }
}

/// Why one node refuses the other in the preamble, as seen from the node that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRefusal {
    /// The nodes' releases speak different preambles.
    Version,
    /// This node has no secret, the peer demands one.
    SecretMissing,
    /// This node has a secret, the peer has none.
    PeerWithoutSecret,
    /// The secrets differ (or somebody alters what goes between the nodes).
    SecretDiffers,
    /// The nodes mirror different resources.
    Resource,
    /// The integrity modes differ.
    IntegrityDiffers,
    /// The node talks to itself, or to one that believes to be it.
    Itself,
}

impl LinkRefusal {
    /// What the refused node calls the reason that the refusing one named.
    fn mirrored(self) -> Self {
        match self {
            Self::SecretMissing => Self::PeerWithoutSecret,
            Self::PeerWithoutSecret => Self::SecretMissing,
            other => other,
        }
    }
}

impl fmt::Display for LinkRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => {
                "the peer runs a release with another preamble: run the same release on both nodes"
            }
            Self::SecretMissing => {
                "the peer demands a shared secret and this node has none: set the same `secret` on both nodes"
            }
            Self::PeerWithoutSecret => {
                "the peer has no shared secret and this node demands one: set the same `secret` on both nodes"
            }
            Self::SecretDiffers => {
                "the peer's shared secret differs: set the same `secret` on both nodes"
            }
            Self::Resource => {
                "the peer mirrors another resource: give the resource the same name on both nodes"
            }
            Self::IntegrityDiffers => {
                "the peer's integrity mode differs: set the same `integrity` on both nodes"
            }
            Self::Itself => {
                "what answers at the peer's address is this node, or takes itself for it: check the addresses"
            }
        })
    }
}
