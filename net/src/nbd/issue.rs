//! Requests to the engine, in pieces, and its answers.
//!
//! Pieces are what the engine and the disks take at once: a pool buffer of a read or write, a
//! stretch of a trim or zeroing. FUA on a request of several pieces is one flush behind them
//! all: fewer flushes, and durable before the answer all the same.

use super::SessionIo;
use super::proto::Errno;
use super::requests::{Kind, Layout, Part, Piece, Ticket, enqueue};
use super::session::{Context, MEMORY_RETRY, Session};
use super::shared::{NoBuf, Shared};
use super::transmit::Tail;
use replication::api::{ClientError, ClientOp, ClientRequest};
use replication::buf::{Buf, Pool};

/// Bytes of a trim or zeroing in one operation of the engine.
pub(super) const STRETCH: u32 = 32 << 20;
/// Operations issued by one session in a round, for fairness among sessions.
const OPS_PER_ROUND: u32 = 32;

impl Session {
    /// Hands operations to the engine while it has room; answers whether anything came of it.
    pub(super) fn issue<I: SessionIo>(&mut self, cx: &mut Context<'_>, io: &mut I) -> bool {
        let mut progress = false;
        // Reads and the rest take turns, so that neither waits behind the other's long requests.
        for _ in 0..OPS_PER_ROUND {
            let op = self.issue_op(cx, io);
            let part = self.issue_part(cx, io);
            if !op && !part {
                if !self.needs.room {
                    cx.shared.end_turn(self.slot);
                }
                break;
            }
            progress = true;
        }
        progress
    }

    /// Whether the engine has room, and it is this session's turn to use it.
    fn take_turn<I: SessionIo>(&mut self, cx: &mut Context<'_>, io: &I) -> bool {
        let turn = cx.shared.take_turn(self.slot, io.has_room());
        if !turn {
            self.needs.room = true;
            self.needs.epoch = cx.shared.epoch;
        }
        turn
    }

    fn request_id(&self, piece: Piece) -> u64 {
        let ticket = Ticket {
            slot: self.slot,
            generation: self.generation,
            piece,
        };
        ticket.id()
    }

    /// The next operation of the first queued request that is no read.
    fn issue_op<I: SessionIo>(&mut self, cx: &mut Context<'_>, io: &mut I) -> bool {
        let Some(&at) = self.table.ops.front() else {
            return false;
        };
        let id = self.request_id(Piece::Request(at));
        let Some(request) = self.table.get(at) else {
            unreachable!("a queued request exists");
        };
        if request.error.is_some() {
            // A piece failed: the rest is not attempted.
            cx.shared.chains.release(&mut request.payload, io.pool());
            cx.shared.stir();
            request.queued = false;
            self.table.ops.pop_front();
            self.settle(at);
            return true;
        }
        if !self.take_turn(cx, io) {
            return false;
        }
        let Some(request) = self.table.get(at) else {
            unreachable!("a queued request exists");
        };
        let rest = request.len - request.issued;
        let stretch = rest.min(STRETCH);
        let offset = request.offset + u64::from(request.issued);
        let (len, op) = if rest == 0 {
            request.flush_due = false;
            (0, ClientOp::Flush)
        } else {
            match request.kind {
                Kind::Write => {
                    let Some(buf) = cx.shared.chains.pop(&mut request.payload) else {
                        unreachable!("a write's payload is as long as the write");
                    };
                    let fua = request.fua && buf.len() == request.len;
                    (buf.len(), ClientOp::Write { buf, fua })
                }
                Kind::Trim => {
                    let fua = request.fua && stretch == request.len;
                    (stretch, ClientOp::Discard { len: stretch, fua })
                }
                Kind::Zeroes { unmap } => {
                    let fua = request.fua && stretch == request.len;
                    let len = stretch;
                    (stretch, ClientOp::WriteZeroes { len, unmap, fua })
                }
                Kind::Flush => (1, ClientOp::Flush),
                Kind::Read(_) | Kind::Status | Kind::Nothing => {
                    unreachable!("these have no operations in this queue")
                }
            }
        };
        if request.issued == 0 && len < request.len {
            request.flush_due = request.fua;
        }
        request.issued += len;
        request.pending += 1;
        if request.issued == request.len {
            request.queued = false;
            self.table.ops.pop_front();
        }
        io.submit(ClientRequest {
            id,
            volume: cx.exports[self.export].volume,
            offset,
            op,
        });
        true
    }

    /// The next part of the first queued read. Strictly in order: parts of a read that holds the
    /// stream never wait for the memory of later ones.
    fn issue_part<I: SessionIo>(&mut self, cx: &mut Context<'_>, io: &mut I) -> bool {
        let Some(&at) = self.table.reads.front() else {
            return false;
        };
        let full = self.table.parts_full();
        let Some(request) = self.table.get(at) else {
            unreachable!("a queued request exists");
        };
        if request.error.is_some() {
            request.queued = false;
            self.table.reads.pop_front();
            self.settle_read(at, cx.shared, io.pool());
            return true;
        }
        if full {
            return false;
        }
        let rest = request.len - request.issued;
        if !self.take_turn(cx, io) {
            return false;
        }
        let buf = match cx.shared.alloc_read(self.read_held, rest, io.pool()) {
            Ok(buf) => buf,
            Err(why) => {
                self.needs.buf = true;
                self.needs.epoch = cx.shared.epoch;
                if why == NoBuf::Pool {
                    self.retry_at = Some(cx.now + MEMORY_RETRY);
                }
                return false;
            }
        };
        let Some(request) = self.table.get(at) else {
            unreachable!("a queued request exists");
        };
        let part = Part {
            request: at,
            at: request.issued,
            len: buf.len(),
            capacity: buf.capacity(),
            buf: None,
        };
        let offset = request.offset + u64::from(request.issued);
        request.issued += buf.len();
        request.pending += 1;
        if request.issued == request.len {
            request.queued = false;
            self.table.reads.pop_front();
        }
        self.read_held += u64::from(part.capacity);
        let part = self.table.insert_part(part);
        io.submit(ClientRequest {
            id: self.request_id(Piece::Part(part)),
            volume: cx.exports[self.export].volume,
            offset,
            op: if cx.exports[self.export].snapshot {
                ClientOp::ReadSnapshot(buf)
            } else {
                ClientOp::Read(buf)
            },
        });
        true
    }

    /// Takes the engine's answer to a piece.
    pub(super) fn on_reply(
        &mut self,
        piece: Piece,
        result: Result<(), ClientError>,
        buf: Option<Buf>,
        shared: &mut Shared,
        pool: &mut Pool,
    ) {
        self.dirty = true;
        let errno = match result {
            Ok(()) => None,
            Err(ClientError::Invalid) => Some(Errno::Invalid),
            Err(ClientError::Io) => Some(Errno::Io),
            Err(ClientError::NotServing) => {
                self.doomed = true;
                Some(Errno::Io)
            }
        };
        match piece {
            Piece::Request(at) => {
                if let Some(buf) = buf {
                    pool.free(buf);
                }
                if let Some(request) = self.table.get(at) {
                    request.pending = request.pending.saturating_sub(1);
                    if let (Some(errno), None) = (errno, request.error) {
                        request.error = Some((errno, None));
                    }
                    self.settle(at);
                }
            }
            Piece::Part(at) => self.part_done(at, errno, buf, shared, pool),
        }
    }

    fn part_done(
        &mut self,
        at: u8,
        errno: Option<Errno>,
        buf: Option<Buf>,
        shared: &mut Shared,
        pool: &mut Pool,
    ) {
        let Some(part) = self.table.part(at) else {
            if let Some(buf) = buf {
                shared.free_read(buf, pool);
            }
            return;
        };
        let (owner, from) = (part.request, part.at);
        if buf.is_none() {
            shared.forget_read(part.capacity);
        }
        let errno = errno.or_else(|| {
            let whole = buf.as_ref().is_some_and(|buf| buf.len() == part.len);
            (!whole).then_some(Errno::Io)
        });
        self.table.deliver(at, buf);
        let Some(request) = self.table.get(owner) else {
            unreachable!("a read lives as long as its parts");
        };
        if let (Some(errno), None) = (errno, request.error) {
            let offset = request.offset + u64::from(from);
            request.error = Some((errno, Some(offset)));
        }
        if request.error.is_some() {
            self.drop_part(at, shared, pool);
            self.settle_read(owner, shared, pool);
        }
    }

    /// Forgets a part that is not to be sent.
    pub(super) fn drop_part(&mut self, at: u8, shared: &mut Shared, pool: &mut Pool) {
        let Some(part) = self.table.remove_part(at) else {
            return;
        };
        self.read_held -= u64::from(part.capacity);
        if let Some(request) = self.table.get(part.request) {
            request.pending -= 1;
        }
        if let Some(buf) = part.buf {
            shared.free_read(buf, pool);
        }
    }

    /// Decides what is next for a request (no read) of which a piece ended or was given up.
    fn settle(&mut self, at: u8) {
        let Some(request) = self.table.get(at) else {
            return;
        };
        if request.queued || request.pending > 0 {
            return;
        }
        if request.error.is_none() && request.flush_due {
            request.queued = true;
            enqueue(&mut self.table.ops, at);
        } else {
            enqueue(&mut self.table.ready, at);
        }
    }

    /// Decides what is next for a read that failed.
    pub(super) fn settle_read(&mut self, at: u8, shared: &mut Shared, pool: &mut Pool) {
        let started = self.lock == Some(at);
        let Some(request) = self.table.get(at) else {
            return;
        };
        if started && request.kind == Kind::Read(Layout::Simple) {
            // The header said success: only the end of the connection can take that back.
            self.doomed = true;
            return;
        }
        if request.queued {
            return;
        }
        let sending = match self.tail {
            Tail::Part { part, .. } => Some(part),
            Tail::None | Tail::Padding { .. } => None,
        };
        while let Some(part) = self
            .table
            .find_part(|index, part, _| part.request == at && Some(index) != sending)
        {
            self.drop_part(part, shared, pool);
        }
        if !started && self.table.get(at).is_some_and(|r| r.pending == 0) {
            enqueue(&mut self.table.ready, at);
        }
    }
}
