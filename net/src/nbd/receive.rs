//! Requests in: headers, the checks they must pass, and the payload of writes.

use super::SessionIo;
use super::chains::Chain;
use super::export::Export;
use super::proto::{self, Errno, REQUEST_LEN, cflag, cmd};
use super::requests::{Kind, Layout, Request, enqueue};
use super::session::{Context, MEMORY_RETRY, Session};
use super::shared::{DRAIN_MAX, REQUEST_MAX};
use crate::stream::ByteStream;
use replication::api::Micros;
use replication::buf::{Buf, Pool};

/// Requests taken from one session in a round, for fairness among sessions.
const REQUESTS_PER_ROUND: u32 = 32;
/// A payload that grew by less than this has made no progress worth its reservation.
const PROGRESS: u32 = 16 << 10;

/// What is being received.
#[derive(Debug)]
pub(super) enum Rx {
    /// A request's header.
    Header,
    /// Nothing: the write waits for its reservation.
    Reserve { request: u8 },
    /// A write's payload.
    Payload(Payload),
    /// The payload of a write that was refused.
    Drain { request: u8, left: u32 },
    /// Nothing more: the client said goodbye.
    Stopped,
}

/// A payload on its way into the pool. The pool has promised memory for all of it.
#[derive(Debug)]
pub(super) struct Payload {
    request: u8,
    /// Bytes to come.
    unread: u32,
    /// Bytes for which no buffer has been taken out of the promise.
    unallocated: u32,
    /// The buffer being filled.
    filling: Option<Buf>,
    /// Bytes in it.
    filled: u32,
    /// When the payload last grew worth mentioning.
    pub progress_at: Micros,
    /// `unread` then.
    progress_unread: u32,
}

impl Payload {
    fn new(request: u8, len: u32, now: Micros) -> Self {
        Self {
            request,
            unread: len,
            unallocated: len,
            filling: None,
            filled: 0,
            progress_at: now,
            progress_unread: len,
        }
    }

    /// Gives the memory and what is left of the promise back.
    pub(super) fn release(self, pool: &mut Pool) {
        if let Some(buf) = self.filling {
            pool.free(buf);
        }
        pool.unreserve(u64::from(self.unallocated));
    }

    /// Reads what has arrived; complete buffers go to `chain`. `None` when the pool broke its
    /// promise.
    fn read<S: ByteStream, I: SessionIo>(
        &mut self,
        now: Micros,
        stream: &mut S,
        io: &mut I,
        mut keep: impl FnMut(Buf),
    ) -> Option<()> {
        while self.unread > 0 {
            let buf = match self.filling.take() {
                Some(buf) => buf,
                None if stream.readable() == 0 => break,
                None => {
                    let buf = io.pool().alloc_reserved(self.unallocated)?;
                    self.unallocated -= buf.len();
                    self.filled = 0;
                    buf
                }
            };
            let space = &mut io.bytes_mut(buf.view())[self.filled as usize..];
            let got = stream.read(space) as u32;
            self.filled += got;
            self.unread -= got;
            if self.filled == buf.len() {
                keep(buf);
            } else {
                self.filling = Some(buf);
            }
            if got == 0 {
                break;
            }
        }
        if self.progress_unread - self.unread >= PROGRESS {
            self.progress_unread = self.unread;
            self.progress_at = now;
        }
        Some(())
    }
}

/// Checks a request against the export and what was negotiated.
fn check(
    header: &proto::Request,
    export: &Export,
    structured: bool,
    allocation: bool,
    write_max: u32,
) -> Result<Kind, Errno> {
    let layout = match (structured, header.flags & cflag::DF != 0) {
        (true, true) => Layout::OneChunk,
        (true, false) => Layout::Chunks,
        (false, _) => Layout::Simple,
    };
    // FUA is tolerated on every command (proto.md, "Command flags").
    let (flags, kind, beyond) = match header.command {
        cmd::READ if structured => (cflag::DF, Kind::Read(layout), Errno::Invalid),
        cmd::READ => (0, Kind::Read(layout), Errno::Invalid),
        cmd::WRITE => (0, Kind::Write, Errno::NoSpace),
        cmd::FLUSH => (0, Kind::Flush, Errno::Invalid),
        cmd::TRIM => (0, Kind::Trim, Errno::Invalid),
        cmd::CACHE => (0, Kind::Nothing, Errno::Invalid),
        cmd::WRITE_ZEROES => {
            let unmap = header.flags & cflag::NO_HOLE == 0;
            let flags = cflag::NO_HOLE | cflag::FAST_ZERO;
            (flags, Kind::Zeroes { unmap }, Errno::NoSpace)
        }
        cmd::BLOCK_STATUS if allocation => (cflag::REQ_ONE, Kind::Status, Errno::Invalid),
        _ => return Err(Errno::Invalid),
    };
    if export.snapshot {
        match kind {
            Kind::Write | Kind::Trim | Kind::Zeroes { .. } => return Err(Errno::NotPermitted),
            // It was not offered.
            Kind::Flush => return Err(Errno::Invalid),
            Kind::Read(_) | Kind::Status | Kind::Nothing => {}
        }
    }
    if header.flags & !(flags | cflag::FUA) != 0 {
        return Err(Errno::Invalid);
    }
    if kind == Kind::Flush {
        // Offset and length are reserved.
        let clean = header.offset == 0 && header.length == 0;
        return if clean { Ok(kind) } else { Err(Errno::Invalid) };
    }
    if !export.contains(header.offset, header.length) {
        return Err(beyond);
    }
    let too_long = match kind {
        Kind::Read(_) => header.length > REQUEST_MAX,
        Kind::Write => header.length > write_max,
        Kind::Status => header.length == 0,
        _ => false,
    };
    if too_long || !export.is_aligned(header.offset, header.length) {
        return Err(Errno::Invalid);
    }
    if header.flags & cflag::FAST_ZERO != 0 && !export.fast_zero {
        return Err(Errno::NotSupported);
    }
    Ok(kind)
}

impl Session {
    /// Takes requests and payload off the stream; answers whether anything came of it.
    pub(super) fn receive<S: ByteStream, I: SessionIo>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        io: &mut I,
    ) -> bool {
        let mut progress = false;
        for _ in 0..REQUESTS_PER_ROUND {
            if self.doomed || !self.receive_step(cx, stream, io) {
                break;
            }
            progress = true;
        }
        progress
    }

    fn receive_step<S: ByteStream, I: SessionIo>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        io: &mut I,
    ) -> bool {
        match core::mem::replace(&mut self.rx, Rx::Header) {
            Rx::Stopped => {
                self.rx = Rx::Stopped;
                false
            }
            Rx::Header => {
                if self.table.is_full() || self.fill(stream, REQUEST_LEN).is_none() {
                    return false;
                }
                self.have = 0;
                self.begin(cx);
                true
            }
            Rx::Reserve { request } => self.reserve(cx, request, io.pool()),
            Rx::Payload(mut payload) => {
                let before = payload.unread;
                let Some(write) = self.table.get(payload.request) else {
                    unreachable!("a write lives as long as its payload is received");
                };
                let chains = &mut cx.shared.chains;
                let kept = payload.read(cx.now, stream, io, |buf| {
                    chains.push(&mut write.payload, buf);
                });
                self.counters.written_bytes += u64::from(before - payload.unread);
                let progress = payload.unread < before;
                if kept.is_none() {
                    self.doomed = true;
                }
                if payload.unread > 0 {
                    self.rx = Rx::Payload(payload);
                } else {
                    write.queued = true;
                    enqueue(&mut self.table.ops, payload.request);
                }
                progress
            }
            Rx::Drain { request, left } => {
                let rest = self.discard(stream, left);
                if rest > 0 {
                    self.rx = Rx::Drain {
                        request,
                        left: rest,
                    };
                } else {
                    enqueue(&mut self.table.ready, request);
                }
                rest < left
            }
        }
    }

    /// Acts on the request header in `self.scratch`.
    fn begin(&mut self, cx: &mut Context<'_>) {
        let header = self.scratch.first_chunk().and_then(proto::Request::decode);
        let Some(header) = header else {
            self.doomed = true;
            return;
        };
        self.counters.requests += 1;
        if header.command == cmd::DISC {
            self.rx = Rx::Stopped;
            return;
        }
        let write_max = cx.shared.limits.write_max;
        let checked = check(
            &header,
            &cx.exports[self.export],
            self.agreed.structured,
            self.agreed.allocation == Some(self.export),
            write_max,
        );
        let is_write = header.command == cmd::WRITE;
        if is_write && header.length > DRAIN_MAX {
            self.doomed = true;
            return;
        }
        let kind = match checked {
            Ok(kind) => kind,
            // The shape of the answer depends on the command even when it failed.
            Err(_) => match header.command {
                cmd::READ if self.agreed.structured => Kind::Read(Layout::Chunks),
                cmd::READ => Kind::Read(Layout::Simple),
                cmd::BLOCK_STATUS if self.agreed.structured => Kind::Status,
                _ => Kind::Nothing,
            },
        };
        let len = if kind == Kind::Flush {
            1
        } else {
            header.length
        };
        let issuable = checked.is_ok()
            && len > 0
            && !is_write
            && !matches!(kind, Kind::Nothing | Kind::Status);
        let at = self.table.insert(Request {
            kind,
            cookie: header.cookie,
            offset: header.offset,
            len,
            issued: 0,
            sent: 0,
            pending: 0,
            fua: header.flags & cflag::FUA != 0,
            flush_due: false,
            queued: issuable,
            error: checked.err().map(|errno| (errno, None)),
            payload: Chain::EMPTY,
        });
        if issuable {
            let queue = match kind {
                Kind::Read(_) => &mut self.table.reads,
                _ => &mut self.table.ops,
            };
            enqueue(queue, at);
        } else if is_write && len > 0 {
            self.rx = match checked {
                Ok(_) => Rx::Reserve { request: at },
                Err(_) => Rx::Drain {
                    request: at,
                    left: len,
                },
            };
        } else {
            enqueue(&mut self.table.ready, at);
        }
    }

    /// Asks for the memory of a write's payload.
    fn reserve(&mut self, cx: &mut Context<'_>, at: u8, pool: &mut Pool) -> bool {
        let len = self.table.get(at).map_or(0, |request| request.len);
        if cx.shared.reserve(self.slot, len, pool) {
            self.rx = Rx::Payload(Payload::new(at, len, cx.now));
            return true;
        }
        self.rx = Rx::Reserve { request: at };
        self.needs.promise = true;
        self.needs.epoch = cx.shared.epoch;
        if cx.shared.is_first(self.slot) {
            self.retry_at = Some(cx.now + MEMORY_RETRY);
        }
        false
    }
}
