//! The preamble and sealed records.

mod exchange;
mod hostile;
mod records;
mod vectors;

use super::message::{MESSAGE_LEN, Message, Offer, mode_code};
use super::*;
use crate::crc32c::crc32c;
use alloc::vec::Vec;

const SECRET: &[u8] = b"correct horse battery staple";
const MODES: [Integrity; 3] = [
    Integrity::Crc32c,
    Integrity::Aes256Gcm,
    Integrity::ChaCha20Poly1305,
];
const SEALING: [Integrity; 2] = [Integrity::Aes256Gcm, Integrity::ChaCha20Poly1305];

type Bytes = [u8; MESSAGE_LEN];

fn demand(integrity: Integrity, secret: Option<&[u8]>) -> Security {
    Security::new(integrity, secret, "r0").unwrap()
}

/// One side of a connection, with what came of it.
struct End {
    security: Security,
    preamble: Preamble,
    failed: Option<PreambleError>,
}

impl End {
    fn new(security: Security, side: PreambleSide, nonce: u8) -> Self {
        Self {
            preamble: Preamble::new(&security, side, [nonce; 32]),
            security,
            failed: None,
        }
    }

    fn pair(a: Security, b: Security) -> [Self; 2] {
        [
            Self::new(a, PreambleSide::Dials, 1),
            Self::new(b, PreambleSide::Listens, 2),
        ]
    }

    /// The messages that wait to be sent.
    fn take(&mut self) -> Vec<Bytes> {
        let messages: Vec<Bytes> = self.preamble.output().as_chunks().0.to_vec();
        self.preamble.sent(messages.len() * MESSAGE_LEN);
        messages
    }

    /// Takes bytes as a connection would deliver them; what a finished side does not want stays.
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failed.is_none() {
            let input = self.preamble.input();
            let n = input.len().min(bytes.len());
            if n == 0 {
                return;
            }
            input[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.failed = self.preamble.received(&self.security, n).err();
        }
    }

    fn session(&self) -> Option<Session> {
        self.preamble.session(&self.security)
    }

    fn refusal(&self) -> Option<LinkRefusal> {
        match self.failed {
            Some(PreambleError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

/// Lets both talk until nothing more comes. `between` sees each message with its sender (0 or 1) and
/// the number of its place, and may change or swallow it.
fn talk(ends: &mut [End; 2], mut between: impl FnMut(usize, usize, &mut Bytes) -> bool) {
    let mut numbers = [0; 2];
    loop {
        let mut said = false;
        for from in 0..2 {
            for mut message in ends[from].take() {
                said = true;
                if between(from, numbers[from], &mut message) {
                    ends[1 - from].feed(&message);
                }
                numbers[from] += 1;
            }
        }
        if !said {
            return;
        }
    }
}

fn undisturbed(ends: &mut [End; 2]) {
    talk(ends, |_, _, _| true);
}

/// Gives a changed message a correct checksum again.
fn reseal(message: &mut Bytes) {
    let crc = crc32c(&message[..MESSAGE_LEN - 4]);
    message[MESSAGE_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
}

/// Keys of a connection in both directions: dialling side first.
fn sealed(integrity: Integrity, nonces: [u8; 2]) -> [(Sealer, Opener); 2] {
    let security = demand(integrity, Some(SECRET));
    let mut ends = [
        End::new(security.clone(), PreambleSide::Dials, nonces[0]),
        End::new(security, PreambleSide::Listens, nonces[1]),
    ];
    undisturbed(&mut ends);
    ends.map(|end| match end.session() {
        Some(Session::Sealed(sealer, opener)) => (sealer, opener),
        other => panic!("{other:?}"),
    })
}
