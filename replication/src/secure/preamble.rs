//! The exchange before the first frame.
//!
//! ```text
//! with a secret:  both: offer      both: proof      both: verdict
//! without:        both: offer                       both: verdict
//! ```
//!
//! Each side sends its next message when it has the other's last. A side that refuses says so and hangs up.

use super::keys::{self, Key};
use super::message::{self, Bytes, MESSAGE_LEN, Message, MessageError, Offer, mode_code};
use super::seal::{Opener, Sealer};
use super::{Integrity, LinkRefusal, PreambleSide, Security};
use core::fmt;

/// Messages that one side sends at most.
const MESSAGES: usize = 3;

/// How a preamble fails. What [`Preamble::output`] still holds should be sent before the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreambleError {
    /// One of the nodes refuses the other.
    Refused(LinkRefusal),
    /// The bytes are not this protocol.
    NotPalisade,
    /// A checksum is wrong.
    Damaged,
    /// A message that is not due.
    Order,
}

impl fmt::Display for PreambleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::NotPalisade => f.write_str("not a Palisade node"),
            Self::Damaged => f.write_str("a damaged preamble"),
            Self::Order => f.write_str("a preamble out of order"),
        }
    }
}

impl core::error::Error for PreambleError {}

/// What a finished preamble leaves for the frames of its connection.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart once for every connection"
)]
pub enum Session {
    /// Frames carry CRC-32C checksums.
    Checked,
    /// Frames are sealed: this side's with the first, the other's are opened with the second.
    Sealed(Sealer, Opener),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Offer,
    Proof,
    Verdict,
    /// The peer has accepted, and so has this side.
    Done,
    Failed,
}

/// One side of the exchange on one connection.
///
/// Write [`Preamble::output`] and report with [`Preamble::sent`]; read into [`Preamble::input`] (never more than it
/// has room for: what follows are frames) and report with [`Preamble::received`]; then ask
/// [`Preamble::session`]. The caller limits the time.
#[derive(Debug)]
pub struct Preamble {
    side: PreambleSide,
    stage: Stage,
    own: Bytes,
    transcript: Key,
    input: Bytes,
    got: usize,
    output: [u8; MESSAGES * MESSAGE_LEN],
    queued: usize,
    sent: usize,
}

impl Preamble {
    /// The start of a connection. The nonce must never have been used before ([`super::NonceSource`]).
    #[must_use]
    pub fn new(security: &Security, side: PreambleSide, nonce: [u8; 32]) -> Self {
        let own = Message::Offer(Offer {
            side: side.code(),
            has_secret: security.keys.is_some(),
            mode: mode_code(security.integrity),
            nonce,
            resource: security.keys.as_ref().map_or([0; _], |keys| keys.resource),
        });
        let mut preamble = Self {
            side,
            stage: Stage::Offer,
            own: own.encode(),
            transcript: [0; 32],
            input: [0; MESSAGE_LEN],
            got: 0,
            output: [0; MESSAGES * MESSAGE_LEN],
            queued: 0,
            sent: 0,
        };
        preamble.push(&own);
        preamble
    }

    /// Bytes that are to be sent now.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..self.queued]
    }

    /// So many bytes of [`Preamble::output`] were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.queued);
    }

    /// Where received bytes go; empty when no more are expected.
    pub fn input(&mut self) -> &mut [u8] {
        match self.stage {
            Stage::Done | Stage::Failed => &mut [],
            _ => &mut self.input[self.got..],
        }
    }

    /// So many bytes were put into [`Preamble::input`]. `security` is what the preamble was made with.
    ///
    /// # Errors
    /// [`PreambleError`]: send what is left of the output and hang up.
    pub fn received(&mut self, security: &Security, bytes: usize) -> Result<(), PreambleError> {
        if matches!(self.stage, Stage::Done | Stage::Failed) {
            return Ok(());
        }
        self.got = (self.got + bytes).min(MESSAGE_LEN);
        if self.got < MESSAGE_LEN {
            if message::is_foreign(&self.input[..self.got]) {
                // Who speaks something else may never send enough of it.
                self.stage = Stage::Failed;
                return Err(PreambleError::NotPalisade);
            }
            return Ok(());
        }
        self.got = 0;
        let taken = self.take(security);
        if let Err(error) = taken {
            let told = self.stage == Stage::Failed;
            self.stage = Stage::Failed;
            if let (PreambleError::Refused(refusal), false) = (error, told) {
                self.push(&Message::Verdict(Some(refusal)));
            }
        }
        taken
    }

    /// What the frames that follow need, once both sides have accepted and everything was sent.
    #[must_use]
    pub fn session(&self, security: &Security) -> Option<Session> {
        if self.stage != Stage::Done || !self.output().is_empty() {
            return None;
        }
        let Some(keys) = security
            .keys
            .as_ref()
            .filter(|_| security.integrity.seals())
        else {
            return Some(Session::Checked);
        };
        let mode = security.integrity;
        let traffic = |side| keys.traffic(side, mode, &self.transcript);
        Some(Session::Sealed(
            Sealer::new(mode, traffic(self.side)),
            Opener::new(mode, traffic(self.side.other())),
        ))
    }

    fn push(&mut self, message: &Message) {
        // No side sends more than three: an offer, a proof, a verdict.
        if let Some(place) = self.output.get_mut(self.queued..self.queued + MESSAGE_LEN) {
            place.copy_from_slice(&message.encode());
            self.queued += MESSAGE_LEN;
        }
    }

    fn take(&mut self, security: &Security) -> Result<(), PreambleError> {
        let message = Message::decode(&self.input).map_err(|error| match error {
            MessageError::Magic => PreambleError::NotPalisade,
            MessageError::Checksum => PreambleError::Damaged,
            MessageError::Version => PreambleError::Refused(LinkRefusal::Version),
            MessageError::Type => PreambleError::Order,
        })?;
        match (self.stage, message) {
            (_, Message::Verdict(Some(refusal))) => {
                self.stage = Stage::Failed;
                Err(PreambleError::Refused(refusal.mirrored()))
            }
            (Stage::Offer, Message::Offer(offer)) => self.offered(security, &offer),
            (Stage::Proof, Message::Proof(proof)) => self.proved(security, &proof),
            (Stage::Verdict, Message::Verdict(None)) => {
                self.stage = Stage::Done;
                Ok(())
            }
            _ => Err(PreambleError::Order),
        }
    }

    fn offered(&mut self, security: &Security, offer: &Offer) -> Result<(), PreambleError> {
        let refuse = |refusal| Err(PreambleError::Refused(refusal));
        // The nonce lies at the same place in both.
        if !offer.is_side(self.side.other()) || offer.nonce == self.own[12..44] {
            return refuse(LinkRefusal::Itself);
        }
        let Some(keys) = &security.keys else {
            if offer.has_secret {
                return refuse(LinkRefusal::SecretMissing);
            }
            if offer.mode != mode_code(Integrity::Crc32c) {
                return refuse(LinkRefusal::IntegrityDiffers);
            }
            self.stage = Stage::Verdict;
            self.push(&Message::Verdict(None));
            return Ok(());
        };
        if !offer.has_secret {
            return refuse(LinkRefusal::PeerWithoutSecret);
        }
        if offer.resource != keys.resource {
            return refuse(LinkRefusal::Resource);
        }
        if offer.mode != mode_code(security.integrity) {
            return refuse(LinkRefusal::IntegrityDiffers);
        }
        self.transcript = match self.side {
            PreambleSide::Dials => keys::transcript(&self.own, &self.input),
            PreambleSide::Listens => keys::transcript(&self.input, &self.own),
        };
        self.stage = Stage::Proof;
        self.push(&Message::Proof(keys.prove(self.side, &self.transcript)));
        Ok(())
    }

    fn proved(&mut self, security: &Security, proof: &Key) -> Result<(), PreambleError> {
        let known = security
            .keys
            .as_ref()
            .is_some_and(|keys| keys.proves(self.side.other(), &self.transcript, proof));
        if !known {
            return Err(PreambleError::Refused(LinkRefusal::SecretDiffers));
        }
        self.stage = Stage::Verdict;
        self.push(&Message::Verdict(None));
        Ok(())
    }
}
