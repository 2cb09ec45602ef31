//! Bytes on a connection: frames are encoded when they leave, decoded when they have arrived whole.

use crate::fault::Fault;
use crate::schedule::NodeEvent;
use crate::stats::Kind;
use crate::world::World;
use replication::api::{Event, LinkDownReason};
use replication::buf::{BufView, PoolMemory};
use replication::wire::{Comparison, Frame, HEADER_LEN, Header, MAX_BODY, VERSION};

/// Where a frame's header has its kind (docs/PROTOCOL.md).
const KIND_AT: usize = 6;

impl World {
    /// Schedules sending and receiving where something waits.
    pub(crate) fn kick(&mut self, n: usize) {
        let now = self.now;
        let gap = self.rng.below(3) * self.plan.net_delay.0 / 8;
        let Some(e) = self.nodes[n].link.as_mut() else {
            return;
        };
        let conn = e.conn;
        if !e.departing && !e.outgoing.is_empty() {
            e.departing = true;
            self.later(n, gap, NodeEvent::Depart(conn));
        }
        let Some(e) = self.nodes[n].link.as_mut() else {
            return;
        };
        if !e.arriving && (!e.inbound.is_empty() || e.fin) {
            e.arriving = true;
            let at = e.inbound.front().map_or(now, |s| s.0);
            self.later(n, at.saturating_sub(now), NodeEvent::Arrive(conn));
        }
    }

    /// The engine hands a frame out.
    pub(crate) fn send(&mut self, n: usize, frame: Frame, payload: Option<BufView>) {
        if let Some(e) = self.nodes[n].link.as_mut()
            && e.up
        {
            e.outgoing.push_back((frame, payload));
            self.kick(n);
        }
    }

    /// Puts the next frame onto the wire; its payload is read from the pool only now.
    pub(crate) fn depart(&mut self, n: usize, conn: u64) {
        let now = self.now;
        let window = self.plan.window;
        let Some(e) = self.endpoint(n, conn) else {
            return;
        };
        e.departing = false;
        if e.unacked >= window || e.cut_short {
            return;
        }
        let Some((frame, payload)) = e.outgoing.pop_front() else {
            return;
        };
        let mut head = [0; HEADER_LEN + MAX_BODY];
        let used = frame.encode(payload.map_or(0, |p| p.len), &mut head);
        let mut bytes = head[..used].to_vec();
        if let Some(view) = payload {
            bytes.extend_from_slice(self.nodes[n].memory.bytes(view));
        }
        let truncated = std::mem::take(&mut self.nodes[n].truncates);
        if truncated {
            bytes.truncate(self.rng.index(bytes.len()));
        }
        let delay = self.net_delay();
        let tail = if !truncated && self.rng.one_in(4) {
            bytes.split_off(self.rng.index(bytes.len()))
        } else {
            Vec::new()
        };
        let total = bytes.len() + tail.len();
        let Some(other) = self.endpoint(1 - n, conn) else {
            self.answer_with_reset(n, conn);
            self.kick(n);
            return;
        };
        let at = other.inbound.back().map_or(0, |s| s.0).max(now + delay);
        other.inbound.push_back((at, bytes));
        if !tail.is_empty() {
            other.inbound.push_back((at + delay / 4, tail));
        }
        if let Some(e) = self.endpoint(n, conn) {
            e.unacked += total;
            e.cut_short |= truncated;
        }
        if truncated {
            // What was sent before still arrives.
            self.kick(1 - n);
            let delay = 2 * self.net_delay();
            self.later(n, delay, NodeEvent::LinkGone { conn, drain: false });
            self.later(1 - n, delay, NodeEvent::LinkGone { conn, drain: true });
            return;
        }
        self.kick(n);
        self.kick(1 - n);
    }

    /// Takes the next bytes from the wire and the frames that are complete with them.
    pub(crate) fn arrive(&mut self, n: usize, conn: u64) {
        let now = self.now;
        let sender = 1 - n;
        let held = self.network.blocked[sender] || self.nodes[n].reader_stalled;
        let acks_pass = !self.network.blocked[n];
        let Some(e) = self.endpoint(n, conn) else {
            return;
        };
        e.arriving = false;
        if held || !e.up {
            return;
        }
        if e.inbound.front().is_some_and(|s| s.0 <= now)
            && let Some((_, bytes)) = e.inbound.pop_front()
        {
            e.received.extend_from_slice(&bytes);
            let len = bytes.len();
            if !acks_pass {
                e.acks_held += len;
            } else if let Some(s) = self.endpoint(sender, conn) {
                s.unacked = s.unacked.saturating_sub(len);
                self.kick(sender);
            }
        }
        while self.take_frame(n, conn) {}
        if self
            .endpoint(n, conn)
            .is_some_and(|e| e.fin && e.inbound.is_empty())
        {
            self.link_lost(n, LinkDownReason::Closed);
        }
        self.kick(n);
    }

    /// Takes one whole frame out of the received bytes; `false` when there is none.
    fn take_frame(&mut self, n: usize, conn: u64) -> bool {
        let Some(e) = self.endpoint(n, conn) else {
            return false;
        };
        let parsed = e.received.first_chunk::<HEADER_LEN>().map(Header::parse);
        let header = match parsed {
            None => return false,
            Some(Ok(header)) => header,
            Some(Err(error)) => {
                self.fail("every frame sent can be decoded", format!("{error:?}"));
                return false;
            }
        };
        let body_end = HEADER_LEN + header.body_len();
        let end = body_end + header.payload_len() as usize;
        if e.received.len() < end {
            return false;
        }
        let kind = e.received.get(KIND_AT).copied();
        if let Some(seed) = self.nodes[n].garbles.take() {
            self.garbled(n, conn, body_end, seed);
            return false;
        }
        let node = &mut self.nodes[n];
        let always = node.drops_kind_until.filter(|d| self.now < d.1);
        if kind == node.drops_kind || (always.is_some() && kind == always.map(|d| d.0)) {
            node.drops_kind = None;
            self.say_fault(n, "the connection ends instead of a frame");
            self.link_lost(n, LinkDownReason::Closed);
            return false;
        }
        let Some(e) = self.endpoint(n, conn) else {
            return false;
        };
        let mut frame = match Frame::decode(&header, &e.received[HEADER_LEN..body_end]) {
            Ok(frame) => frame,
            Err(error) => {
                self.fail("every frame sent can be decoded", format!("{error:?}"));
                return false;
            }
        };
        if self.now < self.nodes[1 - n].other_version_until && !self.of_later_release(n, &mut frame)
        {
            return false;
        }
        let mut buf = None;
        if end > body_end {
            let Some(taken) = self.nodes[n].pool.alloc((end - body_end) as u32) else {
                // No memory: the rest waits on the wire, as TCP's window would have it.
                if let Some(e) = self.endpoint(n, conn)
                    && !e.arriving
                {
                    e.arriving = true;
                    self.later(n, 500, NodeEvent::Arrive(conn));
                }
                return false;
            };
            let bytes = self.nodes[n].memory.bytes_mut(taken.view());
            if let Some(e) = self.nodes[n].link.as_ref() {
                bytes.copy_from_slice(&e.received[body_end..end]);
            }
            buf = Some(taken);
        }
        if let Some(e) = self.endpoint(n, conn) {
            e.received.drain(..end);
        }
        self.stats.count(Kind::Frames);
        match &frame {
            Frame::SyncEnd { .. } => self.moment(n, Fault::CrashAtResyncEnd),
            Frame::SyncData { .. } => self.stats.count(Kind::SyncData),
            Frame::Compared {
                outcome: Comparison::Blocks(differ),
                ..
            } if self.oracle.is_source(n) => self.stats.count(match differ {
                0 => Kind::DigestsEqual,
                _ => Kind::DigestsDiffer,
            }),
            _ => {}
        }
        self.feed(n, Event::Frame { frame, buf });
        true
    }

    /// One bit of a frame changes on the way: it must be noticed wherever a checksum is.
    fn garbled(&mut self, n: usize, conn: u64, body_end: usize, seed: u64) {
        let at = seed as usize % body_end;
        let Some(e) = self.endpoint(n, conn) else {
            return;
        };
        e.received[at] ^= 1 << ((seed >> 32) % 8);
        let accepted = e.received.first_chunk::<HEADER_LEN>().is_some_and(|fixed| {
            let body = &e.received[HEADER_LEN..body_end];
            Header::parse(fixed).is_ok_and(|header| Frame::decode(&header, body).is_ok())
        });
        if accepted {
            self.fail("a damaged frame is noticed", format!("byte {at}"));
        }
        self.link_lost(n, LinkDownReason::Garbage);
    }

    /// A frame that another release sent: its greeting says so, and what is no greeting cannot be
    /// understood (`false`: the connection is gone).
    fn of_later_release(&mut self, n: usize, frame: &mut Frame) -> bool {
        match frame {
            Frame::Hello(hello) => {
                hello.version_min = VERSION + 1;
                hello.version_max = VERSION + 3;
            }
            Frame::HelloVolume(_) | Frame::Refuse { .. } => {}
            _ => {
                self.link_lost(n, LinkDownReason::Garbage);
                return false;
            }
        }
        true
    }
}
