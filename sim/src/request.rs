//! One request: from a client's wish into an engine, and its answer back.

use crate::disk::Discard;
use crate::schedule::NodeEvent;
use crate::stamp::{self, SECTOR, Value};
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::{Time, World};
use replication::api::{
    ClientError, ClientOp, ClientRequest, DiskState, Event, OnIoError, OnNoData,
};
use replication::buf::{Buf, PoolMemory};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    /// A range that does not exist.
    Invalid,
}

/// A request as a client means it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) kind: Kinds,
    pub(crate) volume: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) fua: bool,
    /// Of a write that is sent again: its stamps.
    pub(crate) values: Option<Vec<Value>>,
}

/// A request inside an engine.
#[derive(Debug)]
pub(crate) struct Request {
    /// `None` once its connection died.
    pub(crate) client: Option<usize>,
    pub(crate) node: usize,
    pub(crate) wanted: Wanted,
    pub(crate) values: Vec<Value>,
    pub(crate) begin: u64,
    pub(crate) since: Time,
}

impl Request {
    /// Whether it changes what the sectors hold.
    pub(crate) fn mutates(&self) -> bool {
        matches!(
            self.wanted.kind,
            Kinds::Write | Kinds::Discard | Kinds::WriteZeroes
        )
    }
    pub(crate) fn sectors(&self) -> std::ops::Range<usize> {
        self.wanted.first..self.wanted.first + self.wanted.count
    }
}

impl World {
    /// Hands a request to a node's engine; `None` when it has no room.
    pub(crate) fn submit(
        &mut self,
        client: Option<usize>,
        n: usize,
        wanted: Wanted,
    ) -> Option<u64> {
        let node = &mut self.nodes[n];
        if node.paused_since.is_some() || !node.engine.as_ref().is_some_and(|e| e.has_room()) {
            return None;
        }
        let bytes = (wanted.count as u64 * SECTOR) as u32;
        let mut buf = None;
        match wanted.kind {
            Kinds::Read => buf = Some(node.pool.alloc(bytes)?),
            Kinds::Write => {
                if !node.pool.reserve(u64::from(bytes)) {
                    return None;
                }
                node.pool.unreserve(u64::from(bytes));
                buf = Some(node.pool.alloc(bytes)?);
            }
            _ => {}
        }
        self.count_request(&wanted);
        let begin = self.next_order();
        let values = self.stamps(client, &wanted);
        if let (Kinds::Write, Some(buf)) = (wanted.kind, &buf) {
            let memory = self.nodes[n].memory.bytes_mut(buf.view());
            for (bytes, &value) in memory.chunks_exact_mut(SECTOR as usize).zip(&values) {
                stamp::fill(bytes, value);
            }
        }
        let op = self.client_op(&wanted, buf, bytes)?;
        let places = self.plan.volumes[wanted.volume].places;
        let mut offset = places.real(wanted.first) as u64 * SECTOR;
        if wanted.kind == Kinds::Invalid {
            offset = self
                .rng
                .pick(&[places.volume() as u64 * SECTOR, u64::MAX - 511, 1 << 40]);
        }
        let request = Request {
            client,
            node: n,
            wanted,
            values,
            begin,
            since: self.now,
        };
        let volume = request.wanted.volume as u16;
        self.oracle_submit(n, &request);
        if let Some(c) = client {
            self.clients[c].outstanding += 1;
        }
        self.requests.insert(begin, request);
        self.feed(
            n,
            Event::Client(ClientRequest {
                id: begin,
                volume,
                offset,
                op,
            }),
        );
        Some(begin)
    }

    fn count_request(&mut self, wanted: &Wanted) {
        self.stats.count(match wanted.kind {
            Kinds::Read => Kind::OpRead,
            Kinds::Write if wanted.fua => Kind::OpWriteFua,
            Kinds::Write => Kind::OpWrite,
            Kinds::Flush => Kind::OpFlush,
            Kinds::Discard => Kind::OpDiscard,
            Kinds::WriteZeroes => Kind::OpWriteZeroes,
            Kinds::Invalid => Kind::OpInvalid,
        });
    }

    /// What the sectors hold afterwards; empty for what changes nothing.
    fn stamps(&mut self, client: Option<usize>, wanted: &Wanted) -> Vec<Value> {
        match wanted.kind {
            Kinds::Write => {
                if let Some(values) = &wanted.values {
                    return values.clone();
                }
                let (who, sequence) = match client {
                    Some(c) => {
                        self.clients[c].sequence += 1;
                        (c, self.clients[c].sequence)
                    }
                    None => (100, self.order as u32),
                };
                let sectors = wanted.first..wanted.first + wanted.count;
                sectors
                    .map(|s| stamp::stamp(who, sequence, wanted.volume, s))
                    .collect()
            }
            Kinds::Discard if self.plan.discard == [Discard::Ignore; 2] => Vec::new(),
            Kinds::Discard | Kinds::WriteZeroes => vec![0; wanted.count],
            _ => Vec::new(),
        }
    }

    fn client_op(&mut self, wanted: &Wanted, buf: Option<Buf>, len: u32) -> Option<ClientOp> {
        let fua = wanted.fua;
        Some(match wanted.kind {
            Kinds::Read => ClientOp::Read(buf?),
            Kinds::Write => ClientOp::Write { buf: buf?, fua },
            Kinds::Flush => ClientOp::Flush,
            Kinds::Discard | Kinds::Invalid => ClientOp::Discard { len, fua },
            Kinds::WriteZeroes => ClientOp::WriteZeroes {
                len,
                unmap: self.rng.coin(),
                fua,
            },
        })
    }

    /// Whether a request may end with an error.
    fn may_fail(&self, n: usize, request: &Request) -> bool {
        let volume = self.oracle.status[n]
            .as_ref()
            .and_then(|s| s.volumes.get(request.wanted.volume));
        let Some(volume) = volume else { return false };
        let good = volume.disk == DiskState::UpToDate;
        let trouble = &self.plan.trouble;
        let both = !good && self.oracle.connected(n) && volume.peer_disk <= DiskState::Failed;
        let told = !good && trouble.on_no_data == OnNoData::IoError;
        let passed = trouble.on_io_error == OnIoError::PassOn && self.oracle.disks_failed();
        // A block that cannot be read, and nobody else to ask.
        let unread = request.wanted.kind == Kinds::Read && self.oracle.disks_failed();
        both || told || passed || unread
    }

    /// The engine answers a request.
    pub(crate) fn replied(
        &mut self,
        n: usize,
        id: u64,
        result: Result<(), ClientError>,
        buf: Option<Buf>,
    ) {
        let Some(request) = self.requests.remove(&id) else {
            self.fail(
                "every request is answered once",
                format!("node {} answers request {id}", letter(n)),
            );
            return;
        };
        self.stats.count(Kind::Replies);
        let read = buf.as_ref().map(|b| {
            let sectors = self.nodes[n]
                .memory
                .bytes(b.view())
                .chunks_exact(SECTOR as usize);
            sectors.map(stamp::parse).collect::<Vec<_>>()
        });
        if let Some(buf) = buf {
            self.nodes[n].pool.free(buf);
        }
        let Some(c) = request.client else {
            // Nobody hears the answer, but something has come to its end.
            self.next_order();
            return;
        };
        self.clients[c].outstanding = self.clients[c].outstanding.saturating_sub(1);
        match result {
            Ok(()) if request.wanted.kind == Kinds::Invalid => {
                self.fail(
                    "an impossible range is refused",
                    format!("{:?}", request.wanted),
                );
            }
            Ok(()) => {
                self.oracle_answered(n, &request, read);
                if request.mutates() {
                    self.judge_answer_by_fencing(n);
                }
                if request.mutates() {
                    self.judge_equal(request.wanted.volume, request.sectors());
                }
            }
            Err(ClientError::Invalid) => {
                if request.wanted.kind != Kinds::Invalid {
                    self.fail(
                        "no valid request is refused",
                        format!("{:?}", request.wanted),
                    );
                }
            }
            Err(ClientError::Io) => {
                if !self.may_fail(n, &request) {
                    self.fail(
                        "no error unless no good disk can be reached",
                        format!("{:?}", request.wanted),
                    );
                }
                self.oracle_orphaned(&request);
            }
            Err(ClientError::NotServing) => {
                self.oracle_orphaned(&request);
                self.drop_client(c);
                self.later(n, 0, NodeEvent::OpenClients);
            }
        }
    }
}
