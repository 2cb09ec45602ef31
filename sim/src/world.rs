//! One simulated run: the pair, its network, clients, operator and fate.

use crate::administrator::Administrator;
use crate::client::Client;
use crate::disk::Content;
use crate::foretelling::Foretelling;
use crate::management::Management;
use crate::mutation::Mutation;
use crate::network::Network;
use crate::node::Node;
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::plan::{Plan, Start};
use crate::record::{self, Entry, Id, Only};
use crate::request::Request;
use crate::rng::Rng;
use crate::schedule::{NodeEvent, Occurrence, Recovery, Schedule};
use crate::snapshots::Snapshots;
use crate::stamp;
use crate::stats::{Kind, Stats};
use crate::trace::{Trace, letter};
use replication::api::{Action, Command, Event, LinkDownReason};
use std::collections::BTreeMap;

/// Microseconds of simulated time.
pub type Time = u64;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, in words.
    pub rule: &'static str,
    /// What was seen, where and when.
    pub detail: String,
}

/// The whole simulated world.
#[derive(Debug)]
pub struct World {
    /// What the seed decided.
    pub plan: Plan,
    /// Simulated time.
    pub now: Time,
    /// What was drawn and what came of it.
    pub stats: Stats,
    pub(crate) rng: Rng,
    pub(crate) schedule: Schedule,
    pub(crate) nodes: [Node; 2],
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) requests: BTreeMap<u64, Request>,
    /// Counts submissions and answers: the oracle's exact "before".
    pub(crate) order: u64,
    pub(crate) operator: Operator,
    pub(crate) oracle: Oracle,
    pub(crate) foretelling: Foretelling,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Trace,
    /// What is kept of what the seed draws.
    pub(crate) only: Only,
    pub(crate) whims: u32,
    pub(crate) resets: u32,
    /// Faults and clients' new requests have ended.
    pub(crate) healing: bool,
    pub(crate) actions: Vec<Action>,
    /// Only with a fencing policy.
    pub(crate) management: Option<Management>,
    /// Only with a fencing policy that is drawn, and an arbiter.
    pub(crate) administrator: Option<Administrator>,
    /// Only in a run with snapshots.
    pub(crate) snapshots: Option<Snapshots>,
}

impl World {
    /// A world without power; nothing is scheduled but what `plan` wants drawn.
    #[must_use]
    pub fn new(seed: u64, plan: Plan, mutation: Option<Mutation>, trace: Trace) -> Self {
        let mut rng = Rng::new(seed ^ 0x77_6f72_6c64);
        let content = Content::default();
        let mut nodes = [0, 1].map(|n| Node::new(n, &plan, &content));
        if let Start::DataOn(n) = plan.start {
            for (v, disk) in nodes[n].disks.iter_mut().enumerate() {
                let used = |s| plan.volumes.get(v).is_some_and(|p| p.uses_at_first(s));
                for sector in (0..disk.current().len()).filter(|s| used(*s)) {
                    if rng.percent(70) {
                        disk.set(sector, stamp::stamp(200, 1, v, sector));
                    }
                }
            }
        }
        let oracle = Oracle::new(&plan, &nodes);
        let clients = (0..plan.clients).map(Client::new).collect();
        let mut world = Self {
            now: 0,
            stats: Stats::default(),
            rng,
            schedule: Schedule::default(),
            nodes,
            network: Network {
                slowness: 1,
                ..Network::default()
            },
            clients,
            requests: BTreeMap::new(),
            order: 0,
            operator: Operator::default(),
            oracle,
            foretelling: Foretelling::default(),
            mutation,
            violation: None,
            trace,
            only: None,
            whims: 0,
            resets: 0,
            healing: false,
            actions: Vec::new(),
            management: None,
            administrator: None,
            snapshots: None,
            plan,
        };
        let lively = if world.plan.depth > 0 {
            world.clients.len()
        } else {
            0
        };
        for c in 0..lively {
            world.schedule.push(1000, Occurrence::Client(c));
        }
        if world.plan.operator_gap > 0 {
            world.schedule.push(5000, Occurrence::Operator);
        }
        if let Some(first) = world.plan.fates.nth(0) {
            world.schedule.push(first.gap, Occurrence::Fault(0));
            for n in 0..2 {
                let at = world.rng.range(0, 3_000_000);
                world.schedule.push(at, Occurrence::Copy(n));
            }
        }
        record::begin();
        world
    }

    /// The broken rule, if any.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Records a broken rule; the first one counts.
    pub(crate) fn fail(&mut self, rule: &'static str, detail: String) {
        if self.violation.is_none() {
            self.trace
                .line(self.now, "!!", || format!("VIOLATED: {rule}: {detail}"));
            self.violation = Some(Violation { rule, detail });
        }
    }

    /// Whether something drawn takes place; if so it is recorded.
    pub(crate) fn allows(&mut self, id: Id, what: &'static str, place: usize) -> bool {
        if self.only.as_ref().is_some_and(|only| !only.contains(&id)) {
            return false;
        }
        let at = self.now;
        let entry = Entry {
            id,
            at,
            what,
            place,
        };
        record::note(entry);
        self.trace.line(at, "DRAWN", || entry.words());
        true
    }

    /// What happens to a node, for the trace.
    pub(crate) fn say_fault(&self, n: usize, what: &str) {
        self.trace
            .line(self.now, "FAULT", || format!("node {}: {what}", letter(n)));
    }

    /// A disk lied about these sectors of data: what they hold is not judged until the end.
    pub(crate) fn spoil(&mut self, volume: usize, sectors: std::ops::Range<usize>) {
        for sector in sectors {
            if self.oracle.spoiled[volume].insert(sector) {
                self.stats.count(Kind::Scrubbed);
            }
        }
    }

    /// Schedules something for a node in its present life.
    pub(crate) fn later(&mut self, node: usize, delay: Time, what: NodeEvent) {
        self.later_in(self.nodes[node].boot, node, delay, what);
    }

    /// The same, in this life of the node only.
    pub(crate) fn later_in(&mut self, boot: u32, node: usize, delay: Time, what: NodeEvent) {
        self.schedule
            .push(self.now + delay, Occurrence::Node { node, boot, what });
    }

    /// The next number in the order of submissions and answers.
    pub(crate) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Does the next thing; `false` when nothing is left to happen or a rule was broken.
    pub fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some((at, what)) = self.schedule.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        self.stats.count(Kind::Steps);
        match what {
            Occurrence::Node { node, boot, what } => {
                if boot != self.nodes[node].boot {
                    return true;
                }
                if self.nodes[node].paused_since.is_some() {
                    self.nodes[node]
                        .deferred
                        .push(Occurrence::Node { node, boot, what });
                } else {
                    self.node_event(node, what);
                }
            }
            Occurrence::Client(c) => self.client_turn(c),
            Occurrence::Errand(errand) => self.run_errand(errand),
            Occurrence::Question(question) => self.question(question),
            Occurrence::Operator => self.operator_turn(),
            Occurrence::Fault(number) => self.fault_turn(number),
            Occurrence::Copy(n) => {
                self.take_copies(n);
                let next = self.now + self.rng.range(1_000_000, 10_000_000);
                self.schedule.push(next, Occurrence::Copy(n));
            }
            Occurrence::Recover(recovery) => self.recover(recovery),
        }
        self.violation.is_none()
    }

    fn node_event(&mut self, n: usize, what: NodeEvent) {
        match what {
            NodeEvent::DiskDone { disk, token } => self.disk_done(n, disk, token),
            NodeEvent::Tick(number) => {
                if self.nodes[n].tick == number {
                    self.nodes[n].tick_at = None;
                    self.feed(n, Event::Tick);
                }
            }
            NodeEvent::Depart(conn) => self.depart(n, conn),
            NodeEvent::Arrive(conn) => self.arrive(n, conn),
            NodeEvent::Dialled(attempt) => self.dialled(n, attempt),
            NodeEvent::LinkUp(conn) => self.link_up(n, conn),
            NodeEvent::LinkGone { conn, drain } => self.link_gone(n, conn, drain),
            NodeEvent::LinkDown(reason) => {
                if reason == LinkDownReason::Requested {
                    self.nodes[n].closing = false;
                } else if self.nodes[n].link.is_some() {
                    // The attempt failed, but the peer's own has succeeded meanwhile.
                    return;
                }
                self.feed(n, Event::LinkDown(reason));
            }
            NodeEvent::Command(id, command) => {
                self.trace
                    .line(self.now, letter(n), || format!("command {command:?}"));
                self.oracle.commanded(n, command);
                self.fencing_word(command);
                if matches!(command, Command::CreateMd { .. }) {
                    self.fencing_forgotten(n);
                    self.fencing_begins_anew(n);
                }
                self.feed(n, Event::Command { id, command });
            }
            NodeEvent::Asked(from, request, token) => {
                self.foretelling.stirs += 1;
                if matches!(request, replication::api::Request::Promote { nonce: 1.. }) {
                    self.told_to_promote(n);
                }
                let event = Event::Asked {
                    from,
                    token,
                    request,
                };
                self.feed(n, event);
            }
            NodeEvent::Answered(from, answer) => {
                self.foretelling.stirs += 1;
                self.feed(n, Event::Answered { from, answer });
            }
            NodeEvent::WaitingClients(clients) => {
                self.foretelling.stirs += 1;
                self.feed(n, Event::WaitingClients(clients));
            }
            NodeEvent::OpenClients => {
                let open = self.clients.iter().filter(|c| c.node == Some(n)).count() as u32;
                self.feed(n, Event::OpenClients(open));
            }
        }
    }

    /// Boots a node that has no power.
    pub fn boot(&mut self, n: usize) {
        if self.nodes[n].engine.is_some() {
            return;
        }
        let seed = self.rng.next();
        self.trace.line(self.now, letter(n), || "boots".into());
        self.foretelling.stirs += 1;
        self.nodes[n].power_on(n, self.now, seed, &self.plan);
        self.oracle.booted(n);
        self.nobody_waits_yet(n);
        self.drain(n);
        self.resettle();
    }

    /// Ends what a fault began.
    pub(crate) fn recover(&mut self, recovery: Recovery) {
        match recovery {
            Recovery::Network => {
                self.network.blocked = [false; 2];
                self.network.slowness = 1;
                self.resettle();
            }
            Recovery::Reset(informed) => {
                if !self.healing {
                    self.reset_link(informed);
                }
            }
            Recovery::Reader(n) => {
                self.nodes[n].reader_stalled = false;
                self.kick(n);
            }
            Recovery::Boot(n) => self.boot(n),
            Recovery::Resume { node, clock_ran } => self.resume(node, clock_ran),
        }
    }

    /// Lets a paused node run on.
    pub fn resume(&mut self, n: usize, clock_ran: bool) {
        let node = &mut self.nodes[n];
        let Some(since) = node.paused_since.take() else {
            return;
        };
        if !clock_ran {
            let gone = self.now - since;
            node.clock_base += gone;
            // The timer in the queue, or among what was deferred, is early by as much.
            node.tick_at = None;
            node.tick += 1;
        }
        self.trace.line(self.now, letter(n), || "resumes".into());
        for what in std::mem::take(&mut self.nodes[n].deferred) {
            self.schedule.push(self.now, what);
        }
        let timeout = self.nodes[n].engine.as_ref().and_then(|e| e.poll_timeout());
        if !clock_ran {
            self.set_tick(n, timeout);
        }
        self.resettle();
    }
}
