//! The simulated connection: one TCP-like byte stream in each direction, real encoded frames on it.
//!
//! A blocked direction delays bytes (TCP would retransmit); only the end of a connection loses
//! them. Each side learns of that end on its own, at its own time, or never (half-open).

use crate::fault::Fault;
use crate::schedule::NodeEvent;
use crate::world::{Time, World};
use replication::api::{Event, LinkDownReason};
use replication::buf::BufView;
use replication::wire::Frame;
use std::collections::VecDeque;

/// One node's end of a connection.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) conn: u64,
    /// The engine knows of it.
    pub(crate) up: bool,
    /// Frames not yet on the wire; their payloads still lie in the pool.
    pub(crate) outgoing: VecDeque<(Frame, Option<BufView>)>,
    pub(crate) departing: bool,
    /// Half a frame was the last that leaves.
    pub(crate) cut_short: bool,
    /// Bytes on the wire towards this node, with the time of their arrival.
    pub(crate) inbound: VecDeque<(Time, Vec<u8>)>,
    pub(crate) arriving: bool,
    pub(crate) received: Vec<u8>,
    /// Bytes sent by this node that the other has not acknowledged (as TCP).
    pub(crate) unacked: usize,
    /// Bytes taken by this node whose acknowledgement is held up by the network.
    pub(crate) acks_held: usize,
    /// The peer closed: the end comes when `inbound` is empty.
    pub(crate) fin: bool,
}

impl Endpoint {
    fn new(conn: u64) -> Self {
        Self {
            conn,
            up: false,
            outgoing: VecDeque::new(),
            departing: false,
            cut_short: false,
            inbound: VecDeque::new(),
            arriving: false,
            received: Vec::new(),
            unacked: 0,
            acks_held: 0,
            fin: false,
        }
    }
}

/// The network between the nodes.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Whether bytes from node 0 to node 1 (index 0), or back, are held up.
    pub(crate) blocked: [bool; 2],
    /// Factor of all delays.
    pub(crate) slowness: u64,
    pub(crate) conns: u64,
}

impl Network {
    pub(crate) fn clear(&self) -> bool {
        !self.blocked[0] && !self.blocked[1]
    }
}

impl World {
    pub(crate) fn net_delay(&mut self) -> Time {
        let (low, high) = self.plan.net_delay;
        self.rng.range(low, high) * self.network.slowness
    }

    pub(crate) fn endpoint(&mut self, node: usize, conn: u64) -> Option<&mut Endpoint> {
        self.nodes[node].link.as_mut().filter(|e| e.conn == conn)
    }

    /// The engine wants a connection.
    pub(crate) fn open_link(&mut self, n: usize) {
        self.nodes[n].want_link = true;
        self.dial_again(n, 0);
    }

    /// The engine wants none.
    pub(crate) fn close_link(&mut self, n: usize) {
        self.nodes[n].want_link = false;
        let dialling = self.nodes[n].dialling.take().is_some();
        if self.rng.coin() {
            // What was said last (a refusal, say) still goes out.
            while let Some(conn) = self.nodes[n]
                .link
                .as_ref()
                .filter(|e| !e.outgoing.is_empty())
                .map(|e| e.conn)
            {
                let left = self.nodes[n].link.as_ref().map_or(0, |e| e.outgoing.len());
                self.depart(n, conn);
                if self.nodes[n]
                    .link
                    .as_ref()
                    .is_none_or(|e| e.outgoing.len() >= left)
                {
                    break;
                }
            }
        }
        let stood = self.drop_endpoint(n);
        if stood || dialling {
            self.nodes[n].closing = true;
            let delay = self.rng.range(0, 200);
            self.later(n, delay, NodeEvent::LinkDown(LinkDownReason::Requested));
        }
    }

    /// Removes a node's end and lets the other side learn of it, some time or never.
    fn drop_endpoint(&mut self, n: usize) -> bool {
        let Some(mine) = self.nodes[n].link.take() else {
            return false;
        };
        if self.endpoint(1 - n, mine.conn).is_some() && !self.network.blocked[n] {
            let drain = self.rng.coin();
            let delay = self.net_delay();
            self.later(
                1 - n,
                delay,
                NodeEvent::LinkGone {
                    conn: mine.conn,
                    drain,
                },
            );
        }
        true
    }

    /// The connection is torn down from outside; each side learns of it, or (half-open) only one.
    pub(crate) fn reset_link(&mut self, informed: [bool; 2]) {
        for (n, informed) in informed.into_iter().enumerate() {
            let Some(conn) = self.nodes[n].link.as_ref().map(|e| e.conn) else {
                continue;
            };
            if informed {
                let drain = self.rng.coin();
                let delay = self.net_delay();
                self.later(n, delay, NodeEvent::LinkGone { conn, drain });
            }
        }
    }

    /// The network passes again, or a node came to life: TCP's retransmissions go through, and
    /// what is sent to a connection that the other side does not have is answered with a reset.
    pub(crate) fn resettle(&mut self) {
        for n in 0..2 {
            let held = self.nodes[n]
                .link
                .as_mut()
                .map_or(0, |e| std::mem::take(&mut e.acks_held));
            let Some(conn) = self.nodes[n].link.as_ref().map(|e| e.conn) else {
                continue;
            };
            match self.endpoint(1 - n, conn) {
                Some(other) => other.unacked = other.unacked.saturating_sub(held),
                None => self.answer_with_reset(n, conn),
            }
        }
        self.kick(0);
        self.kick(1);
    }

    pub(crate) fn answer_with_reset(&mut self, n: usize, conn: u64) {
        let alive = self.nodes[1 - n].engine.is_some();
        if alive && self.network.clear() && self.rng.percent(70) {
            let delay = 2 * self.net_delay();
            self.later(n, delay, NodeEvent::LinkGone { conn, drain: false });
        }
    }

    /// An attempt to dial comes to its end.
    pub(crate) fn dialled(&mut self, n: usize, attempt: u64) {
        if self.nodes[n].dialling != Some(attempt) {
            return;
        }
        self.nodes[n].dialling = None;
        if self.nodes[n].link.is_some() || self.nodes[n].closing {
            return;
        }
        let peer = 1 - n;
        let reachable = self.network.clear() && self.nodes[peer].runs();
        let other = &self.nodes[peer];
        let free = other.link.is_none() || self.plan.replace_link;
        if !reachable || !other.want_link || other.closing || !free {
            let wait = if reachable {
                0
            } else {
                self.plan.timers.connect_interval
            };
            if !self.plan.sticky {
                self.nodes[n].want_link = false;
            } else {
                self.dial_again(n, self.plan.timers.connect_interval);
                if self.rng.coin() {
                    return;
                }
            }
            self.later(n, wait, NodeEvent::LinkDown(LinkDownReason::ConnectFailed));
            return;
        }
        let replaced = other.link.is_some();
        self.nodes[peer].dialling = None;
        if replaced {
            self.link_lost(peer, LinkDownReason::Closed);
        }
        self.network.conns += 1;
        let conn = self.network.conns;
        for side in [n, peer] {
            self.nodes[side].link = Some(Endpoint::new(conn));
            self.nodes[side].want_link = self.plan.sticky;
            let delay = self.net_delay();
            self.later(side, delay, NodeEvent::LinkUp(conn));
        }
        // What either greets with is counted from now on.
        self.foretelling.met = self.order;
    }

    /// The connection stands for this node.
    pub(crate) fn link_up(&mut self, n: usize, conn: u64) {
        let Some(e) = self.endpoint(n, conn) else {
            return;
        };
        e.up = true;
        self.moment(n, Fault::CrashInHandshake);
        self.feed(n, Event::LinkUp);
        self.kick(n);
    }

    /// This node learns that the connection ended.
    pub(crate) fn link_gone(&mut self, n: usize, conn: u64, drain: bool) {
        let Some(e) = self.endpoint(n, conn) else {
            return;
        };
        if drain && e.up && !e.inbound.is_empty() {
            e.fin = true;
            self.kick(n);
            return;
        }
        self.link_lost(n, LinkDownReason::Closed);
    }

    /// Drops this node's end and tells its engine. An engine that was never told of the link
    /// sees a failed attempt.
    pub(crate) fn link_lost(&mut self, n: usize, reason: LinkDownReason) {
        let up = self.nodes[n].link.as_ref().is_some_and(|e| e.up);
        self.drop_endpoint(n);
        let reason = if up {
            reason
        } else {
            LinkDownReason::ConnectFailed
        };
        self.feed(n, Event::LinkDown(reason));
        if self.plan.sticky && self.nodes[n].want_link {
            self.dial_again(n, 0);
        }
    }

    /// A pump that keeps looking for the peer until it is told to close does not wait for the
    /// engine.
    fn dial_again(&mut self, n: usize, wait: Time) {
        if self.nodes[n].link.is_some() || self.nodes[n].dialling.is_some() || !self.dials(n) {
            return;
        }
        self.network.conns += 1;
        let attempt = self.network.conns;
        self.nodes[n].dialling = Some(attempt);
        let delay = wait + 2 * self.net_delay();
        self.later(n, delay, NodeEvent::Dialled(attempt));
    }

    fn dials(&self, n: usize) -> bool {
        match self.plan.dialer {
            crate::plan::Dialer::Both => true,
            crate::plan::Dialer::Node(d) => d == n,
        }
    }
}
