//! Clients: several requests at once, overlapping, through connections that die at bad moments.

use crate::record::Id;
use crate::request::{Kinds, Wanted};
use crate::schedule::{NodeEvent, Occurrence};
use crate::stamp::SECTOR;
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::World;

/// One client with at most one connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: usize,
    /// The node it is connected to.
    pub(crate) node: Option<usize>,
    pub(crate) outstanding: usize,
    pub(crate) sequence: u32,
    burst: u64,
    /// What was unanswered when the last connection died.
    again: Vec<Wanted>,
}

impl Client {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            node: None,
            outstanding: 0,
            sequence: 0,
            burst: 0,
            again: Vec::new(),
        }
    }
}

impl World {
    pub(crate) fn client_turn(&mut self, c: usize) {
        let gap = if self.clients[c].burst > 0 {
            200 * self.plan.pace
        } else {
            40_000 * self.plan.pace * self.plan.pace.min(8)
        };
        let next = self.rng.range(gap / 4, gap * 2);
        self.schedule.push(self.now + next, Occurrence::Client(c));
        let Some(n) = self.clients[c].node else {
            self.connect_client(c);
            return;
        };
        if self.rng.one_in(400) {
            self.resets += 1;
            if !self.allows(Id::Reset(self.resets), "client: connection reset", c) {
                return;
            }
            if self.clients[c].outstanding > 0 {
                self.stats.count(Kind::ClientReset);
            }
            self.drop_client(c);
            self.later(n, 0, NodeEvent::OpenClients);
            return;
        }
        if self.healing {
            return;
        }
        if self.clients[c].burst == 0 {
            self.clients[c].burst = self.rng.range(1, 40);
        }
        self.clients[c].burst -= 1;
        if self.clients[c].outstanding < self.plan.depth.max(1) {
            let wanted = match self.clients[c].again.pop() {
                Some(wanted) => {
                    self.stats.count(Kind::OpRetry);
                    wanted
                }
                None => self.draw_request(n),
            };
            self.submit(Some(c), n, wanted);
        }
    }

    fn connect_client(&mut self, c: usize) {
        if !self.healing || self.rng.coin() {
            let n = self.rng.index(2);
            if self.nodes[n].serving && self.nodes[n].runs() {
                self.clients[c].node = Some(n);
                self.clients[c].burst = 0;
                self.trace.line(self.now, "net", || {
                    format!("client {c} connects to {}", letter(n))
                });
                self.later(n, 0, NodeEvent::OpenClients);
            }
        }
    }

    fn draw_request(&mut self, n: usize) -> Wanted {
        let volume = self.rng.index(self.plan.volumes.len());
        let v = self.plan.volumes[volume];
        let unit = (u64::from(v.block_size) / SECTOR) as usize;
        let ashore = v.ashore(self.nodes[n].told[volume]);
        let island = v.places.island(ashore[self.rng.index(ashore.len())]);
        let units = island.len() / unit;
        let most = if self.rng.one_in(8) {
            units.min(256 / unit)
        } else {
            units.min(4.max(16 / unit))
        };
        let len = self.rng.range(1, most as u64) as usize;
        // A hot spot makes overlaps; the whole volume makes everything else.
        let room = units - len;
        let start = if self.rng.coin() {
            self.rng.index(room.min(6) + 1)
        } else {
            self.rng.index(room + 1)
        };
        let kind = match self.rng.below(100) {
            0..=29 => Kinds::Read,
            30..=79 => Kinds::Write,
            80..=87 => Kinds::Flush,
            88..=92 => Kinds::Discard,
            93..=98 => Kinds::WriteZeroes,
            _ => Kinds::Invalid,
        };
        let fua = self.rng.percent(15);
        Wanted {
            kind,
            volume,
            first: island.start + start * unit,
            count: len * unit,
            fua,
            values: None,
        }
    }

    /// A node drops all its clients.
    pub(crate) fn drop_clients_of(&mut self, n: usize) {
        for c in 0..self.clients.len() {
            if self.clients[c].node == Some(n) {
                self.drop_client(c);
            }
        }
        if self.nodes[n].engine.is_some() {
            self.later(n, 0, NodeEvent::OpenClients);
        }
    }

    /// A client's connection dies; the fate of what is in flight is open.
    pub(crate) fn drop_client(&mut self, c: usize) {
        let mut requests = std::mem::take(&mut self.requests);
        for request in requests.values_mut().filter(|r| r.client == Some(c)) {
            request.client = None;
            self.stats.count(Kind::Dropped);
            self.oracle_orphaned(request);
            if self.plan.retries && request.wanted.kind != Kinds::Invalid {
                let values = (request.wanted.kind == Kinds::Write).then(|| request.values.clone());
                self.clients[c].again.push(Wanted {
                    values,
                    ..request.wanted.clone()
                });
            }
        }
        self.requests = requests;
        let client = &mut self.clients[c];
        self.trace.line(self.now, "net", || {
            format!("client {} loses its connection", client.index)
        });
        client.node = None;
        client.outstanding = 0;
    }
}
