//! One connection: its phases, its turns, its end.
//!
//! ```text
//! Free -> Withheld -> Handshake -> Transmission -> Free
//!    \________________^     \______________________^ (also from Withheld)
//! ```
//!
//! A connection to a node that does not serve stays Withheld: no greeting, so that a client
//! neither gives up on the node nor reads from it. If there is something to say to it, it is greeted in the end, and told when
//! it asks for an export. Anything not drawn is prohibited.

use super::SessionIo;
use super::export::Export;
use super::handshake::{OPTION_DATA_MAX, Progress, Step};
use super::options::{Negotiated, Options};
use super::out::Out;
use super::receive::Rx;
use super::requests::Table;
use super::shared::Shared;
use super::transmit::Tail;
use crate::stream::ByteStream;
use alloc::boxed::Box;
use alloc::vec;
use core::net::{Ipv4Addr, SocketAddr};
use replication::api::{Micros, Text};
use replication::buf::Pool;

/// Rounds of receiving, issuing and sending in one turn, for fairness among sessions.
const ROUNDS: u32 = 4;
/// A limit seen this much too late tells that the node itself stood still (a paused virtual
/// machine): the client is given its time again.
const PAUSED: Micros = 1_000_000;
/// Pause before memory is asked for again when nothing else tells that some came free.
pub(super) const MEMORY_RETRY: Micros = 10_000;

/// An acknowledgement of requests waits so long for a reply to travel with: about the time of a request. Without it each
/// request costs one more packet, and under emulation that is a tenth of the time of a read.
const ACK_DELAY: Micros = 2_000;
/// After a client was found to send requests in pieces, so many turns pass before an acknowledgement waits again: its
/// socket may hold the next piece back until the last one is acknowledged (Nagle).
pub(super) const PROMPT_TURNS: u8 = 64;

/// What the integrator does with the connection after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it.
    Continue,
    /// Close it in order (FIN after what is queued). The slot is free again.
    Close,
    /// Reset it. The slot is free again.
    Abort,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The slot is not used.
    Free,
    /// Connected, not greeted: this node does not serve.
    Withheld,
    /// Negotiating.
    Handshake,
    /// The client has an export open.
    Transmission,
}

/// Counters of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub requests: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// What a session that cannot go on waits for from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Room in the engine, or its turn to use it.
    pub room: bool,
    /// The promise of memory for a write's payload.
    pub promise: bool,
    /// A buffer for a read.
    pub buf: bool,
    /// [`Shared::epoch`] when it last asked.
    pub epoch: u32,
}

impl Needs {
    /// Whether asking again may help.
    fn may_be_met(self, slot: u16, shared: &Shared) -> bool {
        self.epoch != shared.epoch
            && (self.buf
                || self.room && shared.has_turn(slot)
                || self.promise && shared.is_first(slot))
    }
}

/// What a session needs of its server during a turn.
pub(super) struct Context<'a> {
    pub now: Micros,
    pub exports: &'a [Export],
    pub shared: &'a mut Shared,
}

/// One slot of the server's table.
#[derive(Debug)]
pub(super) struct Session {
    pub slot: u16,
    pub generation: u32,
    pub phase: Phase,
    pub peer: SocketAddr,
    /// When the phase began.
    pub since: Micros,
    /// Whether the client has sent anything since the greeting.
    pub heard: bool,
    /// Must be dropped without a further word.
    pub doomed: bool,
    /// It is for the snapshots.
    pub snapshots: bool,
    /// Is not to wait for the greeting any longer.
    pub refusing: bool,
    /// Why it gets no export.
    pub refusal: Option<Text>,
    /// Has something to do whatever the stream says.
    pub dirty: bool,
    pub needs: Needs,
    /// When to ask again for memory that nobody may announce.
    pub retry_at: Option<Micros>,

    pub step: Step,
    pub agreed: Negotiated,
    /// An item being received: option data, a request's header; or drained bytes.
    pub scratch: Box<[u8]>,
    /// Bytes of it.
    pub have: usize,
    pub out: Out,

    pub export: usize,
    pub rx: Rx,
    pub tail: Tail,
    /// The read whose data must follow next on the stream.
    pub lock: Option<u8>,
    pub table: Table,
    /// Bytes of pool memory that this session's reads hold.
    pub read_held: u64,
    /// Turns in which acknowledgements do not wait: see [`PROMPT_TURNS`].
    pub prompt: u8,
    /// When sending last got on or had nothing to send.
    pub sent_at: Micros,
    pub counters: Counters,
}

impl Session {
    /// What a session takes, itself and on the heap, in bytes. The allocator rounds each of the two blocks up.
    pub(super) const BYTES: usize = size_of::<Self>() + OPTION_DATA_MAX + 2 * 16;

    pub(super) fn new(slot: u16) -> Self {
        Self {
            slot,
            generation: 0,
            phase: Phase::Free,
            peer: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            since: 0,
            heard: false,
            doomed: false,
            snapshots: false,
            refusing: false,
            refusal: None,
            dirty: false,
            needs: Needs::default(),
            retry_at: None,
            step: Step::Flags,
            agreed: Negotiated::default(),
            scratch: vec![0; OPTION_DATA_MAX].into_boxed_slice(),
            have: 0,
            out: Out::default(),
            export: 0,
            rx: Rx::Header,
            tail: Tail::None,
            lock: None,
            table: Table::new(),
            read_held: 0,
            prompt: 0,
            sent_at: 0,
            counters: Counters::default(),
        }
    }

    /// Takes the free slot for a new connection.
    pub(super) fn open(&mut self, now: Micros, peer: SocketAddr, serving: bool) {
        debug_assert_eq!(self.phase, Phase::Free);
        self.snapshots = false;
        self.peer = peer;
        self.since = now;
        self.phase = Phase::Withheld;
        if serving {
            self.admit(now);
        }
    }

    /// Takes the free slot for a new connection to what is exported of snapshots.
    pub(super) fn open_snapshots(&mut self, now: Micros, peer: SocketAddr) {
        self.open(now, peer, true);
        self.snapshots = true;
    }

    /// Greets a withheld connection.
    pub(super) fn admit(&mut self, now: Micros) {
        self.since = now;
        self.refusing = false;
        self.dirty = true;
        self.greet();
    }

    /// A withheld connection, whose client waits until its time is over, and then is closed or, if there is something to
    /// be said, told that.
    fn withhold<I: SessionIo>(&mut self, cx: &Context<'_>, io: &I) -> Verdict {
        let verdict = if self.refusing {
            Verdict::Abort
        } else {
            self.check_limit(cx)
        };
        if verdict == Verdict::Abort
            && let Some(reason) = io.not_serving()
        {
            self.refusal = Some(reason);
            self.admit(cx.now);
            return Verdict::Continue;
        }
        verdict
    }

    /// Frees the slot: everything that was not handed to the engine is discarded; what was will
    /// be answered to nobody.
    pub(super) fn release(&mut self, shared: &mut Shared, pool: &mut Pool) {
        shared.leave(self.slot);
        if let Rx::Payload(payload) = core::mem::replace(&mut self.rx, Rx::Header) {
            payload.release(pool);
        }
        while let Some(mut request) = self.table.pop_request() {
            shared.chains.release(&mut request.payload, pool);
        }
        while let Some(part) = self.table.pop_part() {
            if let Some(buf) = part.buf {
                shared.free_read(buf, pool);
            }
        }
        self.table.clear_queues();
        self.generation = self.generation.wrapping_add(1);
        self.phase = Phase::Free;
        self.heard = false;
        self.doomed = false;
        self.refusing = false;
        self.refusal = None;
        self.dirty = false;
        self.needs = Needs::default();
        self.retry_at = None;
        self.agreed = Negotiated::default();
        self.have = 0;
        self.out.clear();
        self.tail = Tail::None;
        self.lock = None;
        self.read_held = 0;
        self.prompt = 0;
        self.counters = Counters::default();
        shared.stir();
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.scratch.len() + self.table.heap_bytes()
    }

    /// One turn.
    pub(super) fn poll<S: ByteStream, I: SessionIo>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        io: &mut I,
    ) -> Verdict {
        self.dirty = false;
        self.needs = Needs::default();
        self.retry_at = None;
        if self.doomed {
            return Verdict::Abort;
        }
        match self.phase {
            Phase::Free => Verdict::Abort,
            Phase::Withheld if stream.at_end() => Verdict::Close,
            Phase::Withheld => self.withhold(cx, io),
            Phase::Handshake => {
                let options = Options {
                    exports: cx.exports,
                    request_max: cx.shared.limits.write_max,
                };
                match self.negotiate(options, stream) {
                    Progress::Wait => self.check_limit(cx),
                    Progress::Close => Verdict::Close,
                    Progress::Abort => Verdict::Abort,
                    Progress::Transmit(export) => {
                        self.phase = Phase::Transmission;
                        self.since = cx.now;
                        self.sent_at = cx.now;
                        self.export = export;
                        self.transmission(cx, stream, io)
                    }
                }
            }
            Phase::Transmission => self.transmission(cx, stream, io),
        }
    }

    fn transmission<S: ByteStream, I: SessionIo>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        io: &mut I,
    ) -> Verdict {
        for _ in 0..ROUNDS {
            self.needs = Needs::default();
            self.retry_at = None;
            let mut progress = self.receive(cx, stream, io);
            progress |= self.issue(cx, io);
            progress |= self.transmit(cx, stream, io);
            if self.doomed {
                return Verdict::Abort;
            }
            self.dirty = progress;
            if !progress {
                break;
            }
        }
        self.settle_acks(stream);
        if matches!(self.rx, Rx::Stopped) {
            if self.table.is_empty() && self.is_all_sent() {
                return Verdict::Close;
            }
            // The client said goodbye and may have left; what it wrote is finished all the same.
            if stream.at_end() && self.table.is_settled() {
                return Verdict::Close;
            }
        } else if stream.at_end() {
            return Verdict::Close;
        }
        self.check_limit(cx)
    }

    /// Between requests acknowledgements may wait for the replies; within one they may not, since the client may be
    /// waiting for them with the rest of it.
    fn settle_acks<S: ByteStream>(&mut self, stream: &mut S) {
        let within = match self.rx {
            Rx::Header => self.have > 0,
            Rx::Reserve { .. } | Rx::Payload(_) | Rx::Drain { .. } => true,
            Rx::Stopped => false,
        };
        self.prompt = if within {
            PROMPT_TURNS
        } else {
            self.prompt.saturating_sub(1)
        };
        stream.set_ack_delay((self.prompt == 0).then_some(ACK_DELAY));
    }

    /// Whether nothing is on its way to the client.
    pub(super) fn is_all_sent(&self) -> bool {
        self.out.is_empty() && matches!(self.tail, Tail::None)
    }

    /// When this session's patience ends.
    pub(super) fn limit(&self, shared: &Shared) -> Option<Micros> {
        let limits = &shared.limits;
        match self.phase {
            Phase::Free => None,
            Phase::Withheld => Some(self.since + limits.withhold),
            Phase::Handshake => Some(self.since + limits.handshake),
            Phase::Transmission => {
                let contended = shared.is_contended();
                let sending = (!self.is_all_sent()
                    && (matches!(self.rx, Rx::Stopped) || contended))
                    .then_some(self.sent_at + limits.stall);
                let receiving = match &self.rx {
                    Rx::Payload(payload) if contended => {
                        Some(payload.progress_at + limits.contended_stall)
                    }
                    Rx::Payload(payload) => Some(payload.progress_at + limits.stall),
                    _ => None,
                };
                [sending, receiving].into_iter().flatten().min()
            }
        }
    }

    fn check_limit(&mut self, cx: &Context<'_>) -> Verdict {
        let limit = match self.limit(cx.shared) {
            Some(limit) if limit <= cx.now => limit,
            _ => return Verdict::Continue,
        };
        if cx.now <= limit + PAUSED {
            return Verdict::Abort;
        }
        self.sent_at = cx.now;
        if self.phase != Phase::Transmission {
            self.since = cx.now;
        }
        if let Rx::Payload(payload) = &mut self.rx {
            payload.progress_at = cx.now;
        }
        Verdict::Continue
    }

    /// Whether a poll would get anywhere, whatever the stream says.
    pub(super) fn is_due(&self, now: Micros, shared: &Shared) -> bool {
        self.due_at(shared).is_some_and(|at| at <= now)
    }

    /// When [`Session::is_due`] will be true if nothing happens until then; 0: now.
    pub(super) fn due_at(&self, shared: &Shared) -> Option<Micros> {
        if self.phase == Phase::Free {
            None
        } else if self.dirty || self.doomed || self.needs.may_be_met(self.slot, shared) {
            Some(0)
        } else {
            let times = [self.retry_at, self.limit(shared)];
            times.into_iter().flatten().min()
        }
    }

    /// Whether a poll would get anywhere.
    pub(super) fn wants_poll<S: ByteStream>(
        &self,
        now: Micros,
        shared: &Shared,
        stream: &S,
    ) -> bool {
        if self.is_due(now, shared) {
            return true;
        }
        let ended = || stream.at_end();
        let sendable = || !self.is_all_sent() && stream.writable() > 0;
        match self.phase {
            Phase::Free => false,
            Phase::Withheld => ended(),
            Phase::Handshake => {
                sendable() || self.out.is_empty() && stream.readable() > 0 || ended()
            }
            Phase::Transmission => {
                let receivable = match &self.rx {
                    Rx::Header => !self.table.is_full() && stream.readable() > 0,
                    Rx::Payload(_) | Rx::Drain { .. } => stream.readable() > 0,
                    Rx::Reserve { .. } | Rx::Stopped => false,
                };
                let stopped = matches!(self.rx, Rx::Stopped);
                receivable || sendable() || ended() && (!stopped || self.table.is_settled())
            }
        }
    }
}
