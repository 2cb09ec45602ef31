//! Datagrams between nodes and arbiter, byte for byte (docs/MANAGEMENT.md).
//!
//! Nothing of a datagram but the name of its resource is looked at before its HMAC was found right, and that only to
//! find the key.

mod body;
mod channel;
#[cfg(test)]
mod tests;

pub use channel::{Channel, Ends, RECENT, Received, Rejected, Ticket};

use crate::{Answer, Name, Request};
use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The longest datagram, in bytes.
pub const DATAGRAM_MAX: usize = HEADER + body::BODY_MAX + MAC;
/// The version that this code speaks.
pub const VERSION: u8 = 1;

const MAGIC: &[u8; 4] = b"PLSM";
/// Bytes in front of the body.
const HEADER: usize = 144;
/// Bytes of the HMAC behind it.
const MAC: usize = 32;

type Sha256Mac = Hmac<Sha256>;

/// A resource's key, from the secret that its nodes and its arbiter share.
#[derive(Clone)]
pub struct Key([u8; 64]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys belong in no log.
        f.write_str("Key")
    }
}

impl Key {
    /// The key of `resource`. The peer link's keys come from its own secret; should an administrator use the same
    /// one twice, the words in front keep the two apart.
    #[must_use]
    pub fn new(secret: &[u8], resource: &Name) -> Self {
        // HMAC wants a block; a longer secret is hashed to one, as RFC 2104 says.
        let mut block = [0; 64];
        if let Some(head) = block.get_mut(..secret.len()) {
            head.copy_from_slice(secret);
        } else {
            use sha2::Digest;
            block[..32].copy_from_slice(&Sha256::digest(secret));
        }
        let key = Sha256Mac::new(&block.into())
            .chain_update(b"palisade management 1 ")
            .chain_update(resource.as_bytes())
            .finalize()
            .into_bytes();
        let mut block = [0; 64];
        block[..32].copy_from_slice(&key);
        Self(block)
    }

    /// The HMAC of `bytes`: what stands at the end of a datagram.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; MAC] {
        self.mac(bytes).finalize().into_bytes().into()
    }

    fn mac(&self, bytes: &[u8]) -> Sha256Mac {
        Sha256Mac::new(&self.0.into()).chain_update(bytes)
    }
}

/// What a datagram says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A question.
    Request(Request),
    /// An answer to one.
    Answer(Answer),
    /// AGAIN: the question is not known to be fresh. Asked again with this epoch it is.
    Again {
        /// Drawn by the receiver for the session of the question.
        epoch: u64,
    },
}

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Random, drawn by the sender when it started.
    pub session: u64,
    /// One more with every datagram of that session, from 1.
    pub sequence: u64,
    /// Of a question: the epoch that the receiver gave to this session, 0 before the first, and 0. Of an answer and of
    /// AGAIN: session and sequence of the question.
    pub subject: [u64; 2],
    /// Tells the resource from another one of the same name; 0: the nodes have not agreed on it yet.
    pub identity: u64,
    /// The resource.
    pub resource: Name,
    /// The sender: a node, or `arbiter`.
    pub from: Name,
    /// The receiver.
    pub to: Name,
    /// What it says.
    pub body: Body,
}

/// Why bytes are not a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramError {
    /// Something else altogether.
    Foreign,
    /// Of a version that this release does not speak.
    Version(u8),
    /// Cut short, or longer than it says.
    Length,
    /// The HMAC is wrong: another secret, or somebody without it.
    Key,
    /// Authentic, but no release says this. The field.
    Field(&'static str),
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("not a management datagram"),
            Self::Version(version) => write!(
                f,
                "management version {version}, this release speaks {VERSION}: use the same release on nodes and arbiter"
            ),
            Self::Length => f.write_str("a management datagram of the wrong length"),
            Self::Key => f.write_str("wrong HMAC: the secrets differ, or it is forged"),
            Self::Field(field) => write!(f, "an impossible {field}"),
        }
    }
}

impl core::error::Error for DatagramError {}

pub(crate) fn put_name(out: &mut [u8], name: &Name) {
    out.fill(0);
    out[..name.len()].copy_from_slice(name.as_bytes());
}

/// A name, filled up with zeroes to 32 bytes.
pub(crate) fn get_name(bytes: &[u8], field: &'static str) -> Result<Name, DatagramError> {
    let wrong = DatagramError::Field(field);
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(len);
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || !name.iter().all(good) || rest.iter().any(|&b| b != 0) {
        return Err(wrong);
    }
    let text = core::str::from_utf8(name).map_err(|_| wrong)?;
    Name::try_from(text).map_err(|_| wrong)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The resource that a datagram claims to be about, to find the key by. Nothing is believed yet.
///
/// # Errors
///
/// [`DatagramError`], as far as it can be told without a key.
pub fn resource_of(bytes: &[u8]) -> Result<Name, DatagramError> {
    if bytes.len() < 6 || &bytes[..4] != MAGIC {
        return Err(DatagramError::Foreign);
    }
    if bytes[4] != VERSION {
        return Err(DatagramError::Version(bytes[4]));
    }
    if bytes.len() < HEADER + MAC || bytes.len() > DATAGRAM_MAX {
        return Err(DatagramError::Length);
    }
    if usize::from(u16::from_le_bytes([bytes[6], bytes[7]])) != bytes.len() {
        return Err(DatagramError::Length);
    }
    get_name(&bytes[48..80], "resource")
}

impl Datagram {
    /// Writes it into `out` and signs it; answers its length.
    pub fn seal(&self, key: &Key, out: &mut [u8; DATAGRAM_MAX]) -> usize {
        let (kind, body) = body::encode(&self.body, &mut out[HEADER..DATAGRAM_MAX - MAC]);
        let signed = HEADER + body;
        let len = signed + MAC;
        out[..4].copy_from_slice(MAGIC);
        out[4] = VERSION;
        out[5] = kind;
        // The longest is far below 64 KiB.
        out[6..8].copy_from_slice(&(len as u16).to_le_bytes());
        let words = [
            self.session,
            self.sequence,
            self.subject[0],
            self.subject[1],
            self.identity,
        ];
        for (place, word) in out[8..48].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        put_name(&mut out[48..80], &self.resource);
        put_name(&mut out[80..112], &self.from);
        put_name(&mut out[112..144], &self.to);
        let mac = key.sign(&out[..signed]);
        out[signed..len].copy_from_slice(&mac);
        len
    }

    /// Checks the HMAC of what came in, and reads it.
    ///
    /// # Errors
    ///
    /// [`DatagramError`]; it is to be dropped without an answer.
    pub fn open(bytes: &[u8], key: &Key) -> Result<Self, DatagramError> {
        let resource = resource_of(bytes)?;
        let (signed, mac) = bytes.split_at(bytes.len() - MAC);
        if key.mac(signed).verify_slice(mac).is_err() {
            return Err(DatagramError::Key);
        }
        Ok(Self {
            session: word(signed, 8),
            sequence: word(signed, 16),
            subject: [word(signed, 24), word(signed, 32)],
            identity: word(signed, 40),
            resource,
            from: get_name(&signed[80..112], "sender")?,
            to: get_name(&signed[112..144], "receiver")?,
            body: body::decode(signed[5], &signed[HEADER..])?,
        })
    }
}
