//! Replies out: headers from the session's short queue, data straight from the pool.

use super::SessionIo;
use super::options::ALLOCATION_ID;
use super::proto::{chunk, chunk_header, simple_reply};
use super::requests::{Kind, Layout, enqueue};
use super::session::{Context, Session};
use crate::stream::ByteStream;

/// Room in the queue of small bytes that any one reply header fits in.
const HEADER_ROOM: usize = 64;
/// Stands in for the data of a chunk that cannot be completed.
const ZEROES: [u8; 512] = [0; 512];

/// What follows the queued small bytes on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    None,
    /// A part's data from `pos` on; `last` when its chunk ends the reply.
    Part { part: u8, pos: u32, last: bool },
    /// Zeroes to complete a chunk whose data could not all be read (proto.md, NBD_CMD_READ).
    Padding { left: u32 },
}

impl Session {
    /// Sends what can be sent; answers whether anything came of it.
    pub(super) fn transmit<S: ByteStream, I: SessionIo>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        io: &mut I,
    ) -> bool {
        let mut progress = false;
        loop {
            let room = stream.writable();
            let done = self.send(cx, stream, io);
            if self.doomed {
                return progress;
            }
            if stream.writable() != room {
                progress = true;
            }
            if !done {
                break;
            }
            if !self.stage() {
                self.sent_at = cx.now;
                return progress;
            }
            progress = true;
        }
        if progress {
            self.sent_at = cx.now;
        }
        progress
    }

    /// Writes what is staged; answers whether nothing is left of it.
    fn send<S: ByteStream, I: SessionIo>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        io: &mut I,
    ) -> bool {
        if !self.out.flush(stream) {
            return false;
        }
        match self.tail {
            Tail::None => true,
            Tail::Part { part, pos, last } => {
                let view = self
                    .table
                    .part(part)
                    .and_then(|p| Some(p.buf.as_ref()?.view()));
                let Some(view) = view else {
                    unreachable!("a part being sent keeps its buffer");
                };
                let data = io.bytes(view);
                let taken = stream.write(&data[pos as usize..]) as u32;
                self.counters.read_bytes += u64::from(taken);
                let pos = pos + taken;
                self.tail = Tail::Part { part, pos, last };
                if pos < view.len {
                    return false;
                }
                self.tail = Tail::None;
                self.part_sent(part, last, cx, io);
                true
            }
            Tail::Padding { left } => {
                let most = ZEROES.len().min(left as usize);
                let left = left - stream.write(&ZEROES[..most]) as u32;
                self.tail = Tail::Padding { left };
                if left == 0 {
                    self.tail = Tail::None;
                    if let Some(at) = self.lock.take() {
                        enqueue(&mut self.table.ready, at);
                    }
                }
                // Not done until the zeroes are: the next call goes on.
                left == 0
            }
        }
    }

    /// Goes on after a part's last byte was written.
    fn part_sent<I: SessionIo>(&mut self, part: u8, last: bool, cx: &mut Context<'_>, io: &mut I) {
        let Some((at, len)) = self.table.part(part).map(|p| (p.request, p.len)) else {
            return;
        };
        self.drop_part(part, cx.shared, io.pool());
        let Some(request) = self.table.get(at) else {
            return;
        };
        request.sent += len;
        let (complete, failed) = (request.sent == request.len, request.error.is_some());
        let layout = request.kind;
        if complete {
            self.lock = self.lock.filter(|&locked| locked != at);
        }
        if last || complete && layout == Kind::Read(Layout::Simple) {
            self.table.remove(at);
        } else if complete && layout == Kind::Read(Layout::OneChunk) {
            enqueue(&mut self.table.ready, at);
        } else if failed {
            self.settle_read(at, cx.shared, io.pool());
        }
    }

    /// Stages what is to be sent next; answers whether there is anything.
    fn stage(&mut self) -> bool {
        if let Some(at) = self.lock {
            return self.stage_locked(at);
        }
        let mut staged = false;
        while self.out.room() >= HEADER_ROOM {
            let Some(at) = self.table.ready.pop_front() else {
                break;
            };
            self.stage_reply(at);
            staged = true;
        }
        if self.out.room() < HEADER_ROOM {
            return staged;
        }
        let part = self.table.find_part(|_, part, request| {
            request.kind == Kind::Read(Layout::Chunks) || part.at == 0
        });
        let Some(part) = part else {
            return staged;
        };
        self.stage_part(part);
        true
    }

    /// Stages the next piece of the read that has the stream for itself.
    fn stage_locked(&mut self, at: u8) -> bool {
        let next = self
            .table
            .find_part(|_, part, request| part.request == at && part.at == request.sent);
        if let Some(part) = next {
            self.tail = Tail::Part {
                part,
                pos: 0,
                last: false,
            };
            return true;
        }
        match self.table.get(at) {
            Some(request) if request.error.is_some() && request.pending == 0 && !request.queued => {
                self.tail = Tail::Padding {
                    left: request.len - request.sent,
                };
                true
            }
            _ => false,
        }
    }

    /// Stages a part with the header in front of it.
    fn stage_part(&mut self, part: u8) {
        let Some((at, from, len)) = self.table.part(part).map(|p| (p.request, p.at, p.len)) else {
            return;
        };
        let Some(request) = self.table.get(at) else {
            return;
        };
        let (cookie, total) = (request.cookie, request.len);
        let offset = request.offset + u64::from(from);
        let only = request.pending == 1
            && request.issued == request.len
            && !request.queued
            && request.error.is_none();
        let whole = len == total;
        match request.kind {
            Kind::Read(Layout::Simple) => {
                self.lock = Some(at);
                self.out.put(&simple_reply(0, cookie));
                self.tail = Tail::Part {
                    part,
                    pos: 0,
                    last: whole,
                };
            }
            Kind::Read(layout) => {
                let (last, data) = match layout {
                    Layout::OneChunk => (whole, total),
                    _ => (only, len),
                };
                if layout == Layout::OneChunk {
                    self.lock = Some(at);
                }
                let flags = if last { chunk::FLAG_DONE } else { 0 };
                let header = chunk_header(flags, chunk::OFFSET_DATA, cookie, 8 + data);
                self.out.put(&header);
                self.out.put_u64(offset);
                self.tail = Tail::Part { part, pos: 0, last };
            }
            _ => unreachable!("only reads have parts"),
        }
    }

    /// Stages the reply, or the closing chunk, of a request that is through, and forgets it.
    fn stage_reply(&mut self, at: u8) {
        let Some(request) = self.table.remove(at) else {
            return;
        };
        let cookie = request.cookie;
        let structured = match request.kind {
            Kind::Read(layout) => layout != Layout::Simple,
            Kind::Status => true,
            _ => false,
        };
        match request.error {
            None if !structured => self.out.put(&simple_reply(0, cookie)),
            Some((errno, _)) if !structured => {
                self.out.put(&simple_reply(errno.number(), cookie));
            }
            None if request.kind == Kind::Status => {
                // Nothing is known about allocation: everything is data.
                let kind = chunk::BLOCK_STATUS;
                self.out
                    .put(&chunk_header(chunk::FLAG_DONE, kind, cookie, 12));
                self.out.put_u32(ALLOCATION_ID);
                self.out.put_u32(request.len);
                self.out.put_u32(0);
            }
            None => self
                .out
                .put(&chunk_header(chunk::FLAG_DONE, chunk::NONE, cookie, 0)),
            Some((errno, offset)) => {
                let (kind, len) = match offset {
                    Some(_) => (chunk::ERROR_OFFSET, 14),
                    None => (chunk::ERROR, 6),
                };
                self.out
                    .put(&chunk_header(chunk::FLAG_DONE, kind, cookie, len));
                self.out.put_u32(errno.number());
                self.out.put_u16(0);
                if let Some(offset) = offset {
                    self.out.put_u64(offset);
                }
            }
        }
    }
}
