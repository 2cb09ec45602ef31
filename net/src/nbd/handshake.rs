//! The negotiation as a state machine over the stream: greeting, client flags, options.
//!
//! One option at a time: the next is read when the answer to the last has left, so that the
//! answers of a client that does not read them are bounded.

use super::options::{self, Next, Options};
use super::proto::{
    Cursor, FLAG_C_FIXED_NEWSTYLE, FLAG_C_NO_ZEROES, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, IHAVEOPT,
    NBDMAGIC, OPTION_LEN, opt,
};
use super::session::{Phase, Session};
use crate::stream::ByteStream;

/// Longest data of an option that is stored; longer ones are drained.
pub(super) const OPTION_DATA_MAX: usize = 8192;
/// An option longer than this is no mistake but an attack.
const OPTION_ABSURD: u32 = super::shared::REQUEST_MAX;
/// Room that one more list entry may need.
const LIST_ENTRY_ROOM: usize = 20 + 4 + super::export::NAME_MAX + 20;

/// What the negotiation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The client's flags.
    Flags,
    /// An option's header.
    Header,
    /// An option's data.
    Data { option: u32, len: usize },
    /// The rest of an option that is too long to be stored.
    Drain { option: u32, left: u32 },
    /// Room to list the exports from this one on.
    List(usize),
    /// The answer to NBD_OPT_ABORT to leave.
    Close,
}

/// What the negotiation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for the client.
    Wait,
    /// Transmission of this export begins.
    Transmit(usize),
    /// The connection ends in order.
    Close,
    /// The connection ends at once.
    Abort,
}

impl Session {
    /// Queues the greeting. Whoever greets only to refuse does not offer to leave the zeroes out: so something in between that
    /// looks for the node that serves, and only sees the greeting, can tell the two.
    pub(super) fn greet(&mut self) {
        self.out.put_u64(NBDMAGIC);
        self.out.put_u64(IHAVEOPT);
        self.out.put_u16(match self.refusal {
            None => FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES,
            Some(_) => FLAG_FIXED_NEWSTYLE,
        });
        self.phase = Phase::Handshake;
        self.step = Step::Flags;
        self.have = 0;
    }

    /// Goes on with the negotiation as far as the stream allows.
    pub(super) fn negotiate<S: ByteStream>(
        &mut self,
        options: Options<'_>,
        stream: &mut S,
    ) -> Progress {
        loop {
            if !self.out.flush(stream) {
                return if stream.at_end() {
                    Progress::Close
                } else {
                    Progress::Wait
                };
            }
            let next = match self.step {
                Step::Close => return Progress::Close,
                Step::List(from) => {
                    self.list(options, from);
                    continue;
                }
                Step::Flags => self.client_flags(stream),
                Step::Header => self.option_header(stream),
                Step::Data { option, len } => self.fill(stream, len).map(|()| {
                    self.have = 0;
                    self.step = Step::Header;
                    let refusal = self.refusal.as_deref();
                    refusal
                        .and_then(|why| options::answer_refused(option, why, &mut self.out))
                        .unwrap_or_else(|| {
                            options.answer(
                                &mut self.agreed,
                                option,
                                &self.scratch[..len],
                                &mut self.out,
                            )
                        })
                }),
                Step::Drain { option, left } => self.drain_option(stream, option, left),
            };
            match next {
                Some(Next::Option) => {}
                Some(Next::List) => self.step = Step::List(0),
                Some(Next::Transmit(export)) => return Progress::Transmit(export),
                Some(Next::Close) => self.step = Step::Close,
                Some(Next::Drop) => return Progress::Abort,
                None if stream.at_end() => return Progress::Close,
                None => return Progress::Wait,
            }
        }
    }

    /// Reads until `self.scratch` holds `len` bytes; `None` until then.
    pub(super) fn fill<S: ByteStream>(&mut self, stream: &mut S, len: usize) -> Option<()> {
        while self.have < len {
            let got = stream.read(&mut self.scratch[self.have..len]);
            if got == 0 {
                return None;
            }
            self.heard = true;
            self.have += got;
        }
        Some(())
    }

    fn client_flags<S: ByteStream>(&mut self, stream: &mut S) -> Option<Next> {
        self.fill(stream, 4)?;
        let flags = Cursor::new(&self.scratch[..4]).u32()?;
        self.have = 0;
        self.step = Step::Header;
        if flags & !(FLAG_C_FIXED_NEWSTYLE | FLAG_C_NO_ZEROES) != 0 {
            return Some(Next::Drop);
        }
        self.agreed.no_zeroes = flags & FLAG_C_NO_ZEROES != 0;
        Some(Next::Option)
    }

    fn option_header<S: ByteStream>(&mut self, stream: &mut S) -> Option<Next> {
        self.fill(stream, OPTION_LEN)?;
        let mut at = Cursor::new(&self.scratch[..OPTION_LEN]);
        let (magic, option, len) = (at.u64()?, at.u32()?, at.u32()?);
        self.have = 0;
        if magic != IHAVEOPT || len > OPTION_ABSURD {
            return Some(Next::Drop);
        }
        self.step = match usize::try_from(len) {
            Ok(len) if len <= OPTION_DATA_MAX => Step::Data { option, len },
            _ => Step::Drain { option, left: len },
        };
        Some(Next::Option)
    }

    fn drain_option<S: ByteStream>(
        &mut self,
        stream: &mut S,
        option: u32,
        mut left: u32,
    ) -> Option<Next> {
        left = self.discard(stream, left);
        self.step = Step::Drain { option, left };
        if left > 0 {
            return None;
        }
        self.step = Step::Header;
        Some(options::answer_oversized(option, &mut self.out))
    }

    /// Reads and forgets up to `left` bytes; answers what is left.
    pub(super) fn discard<S: ByteStream>(&mut self, stream: &mut S, mut left: u32) -> u32 {
        while left > 0 {
            let most = self.scratch.len().min(left as usize);
            let got = stream.read(&mut self.scratch[..most]);
            if got == 0 {
                break;
            }
            left -= got as u32;
        }
        left
    }

    fn list(&mut self, options: Options<'_>, from: usize) {
        let mut next = from;
        while let Some(export) = options.exports.get(next) {
            if !export.offered {
                next += 1;
                continue;
            }
            if self.out.room() < LIST_ENTRY_ROOM {
                self.step = Step::List(next);
                return;
            }
            options::list_entry(&mut self.out, export);
            next += 1;
        }
        options::ack(&mut self.out, opt::LIST);
        self.step = Step::Header;
    }
}
