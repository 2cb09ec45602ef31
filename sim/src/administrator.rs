//! What `--fencing` adds around the arbiter: an administrator who has nodes promoted by PROMOTE, clients that wait where nobody
//! serves them, and handlers, which take their time and do not always agree.
//!
//! All of it is drawn from a stream of random numbers of its own. An administrator's command is a session of its own, as in the
//! daemon: no answer to an earlier one reaches it, and what is meant for an earlier life of a node does not either.

use crate::record::Id;
use crate::rng::Rng;
use crate::schedule::{NodeEvent, Occurrence};
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::{Time, World};
use fencing::notifier::NO_EXIT_CODE;
use fencing::{Ended, Promoter, Step};
use replication::api::{Answer, FencingConfig, Party, Request};
use std::collections::BTreeMap;

/// Something of it that happens.
#[derive(Debug, Clone)]
pub enum Errand {
    /// The administrator, and clients that wait, have their turn.
    Turn,
    /// The command with this number asks again.
    Again(u32),
    /// An answer reaches it.
    Answered(u32, Answer),
    /// A handler ends: of a node, in a life of it, for an event.
    Handler(usize, u32, u64),
}

/// A PROMOTE that has no end yet.
#[derive(Debug)]
struct Asking {
    node: usize,
    promoter: Promoter,
    begun: Time,
    until: Time,
}

/// What is remembered of it.
#[derive(Debug)]
pub struct Administrator {
    rng: Rng,
    /// Things drawn so far.
    wishes: u32,
    /// Commands so far; the last one may be under way.
    commands: u32,
    asking: Option<Asking>,
    /// Exit codes of handlers, and since when they have ended.
    handlers: BTreeMap<(usize, u32, u64), (u8, Time)>,
    /// Clients that wait at each node.
    waiting: [u32; 2],
    /// When each node last began to serve.
    served: [Time; 2],
}

/// The plan's part of it, from its own stream.
pub(crate) fn draw(seed: u64, timeout: Time, config: &mut FencingConfig) {
    let mut rng = Rng::new(seed ^ 0x6861_6e64_6c65);
    config.auto_promote = rng.percent(35);
    config.promote_at_loss = config.auto_promote && rng.coin();
    let patience = timeout * rng.pick(&[2, 6]);
    config.notify = (config.arbiter && rng.percent(30)).then_some(patience);
}

impl Administrator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x61_646d_696e),
            wishes: 0,
            commands: 0,
            asking: None,
            handlers: BTreeMap::new(),
            waiting: [0; 2],
            served: [0; 2],
        }
    }

    /// Chance for one datagram: when it arrives, perhaps twice, perhaps never.
    fn delays(&mut self, calm: bool, timeout: Time) -> Vec<Time> {
        if calm {
            return vec![50 + self.rng.below(timeout / 50)];
        }
        if self.rng.percent(15) {
            return Vec::new();
        }
        let slow = if self.rng.percent(85) {
            timeout / 50
        } else {
            3 * timeout
        };
        let copies = 1 + u64::from(self.rng.percent(10));
        let rng = &mut self.rng;
        (0..copies).map(|_| 50 + rng.below(slow.max(1))).collect()
    }
}

impl World {
    /// Has the administrator and his like begin.
    pub(crate) fn with_administrator(&mut self, seed: u64) {
        self.administrator = Some(Administrator::new(seed));
        let first = self.plan.timers.timeout;
        self.errand(first, Errand::Turn);
    }

    fn errand(&mut self, delay: Time, what: Errand) {
        let at = self.now + delay;
        self.schedule.push(at, Occurrence::Errand(what));
    }

    /// When datagrams between a node and the arbiter arrive that are none of the fence worker's.
    fn ways(&mut self, n: usize) -> Vec<Time> {
        let timeout = self.plan.timers.timeout;
        let calm = self.healing;
        if self.arbiter_unreachable(n) {
            return Vec::new();
        }
        let administrator = self.administrator.as_mut();
        administrator.map_or(Vec::new(), |a| a.delays(calm, timeout))
    }

    pub(crate) fn run_errand(&mut self, what: Errand) {
        match what {
            Errand::Turn => self.administrator_turn(),
            Errand::Again(number) => self.promote_again(number),
            Errand::Answered(number, answer) => self.promote_answered(number, &answer),
            Errand::Handler(n, boot, event) => self.handler_ended(n, boot, event),
        }
    }

    fn administrator_turn(&mut self) {
        let timeout = self.plan.timers.timeout;
        let Some(administrator) = &mut self.administrator else {
            return;
        };
        if self.healing {
            return self.clients_wait(0, 0, 1, 0);
        }
        let rng = &mut administrator.rng;
        let next = rng.range(timeout / 2, 10 * timeout);
        let (n, clients) = (rng.index(2), rng.below(3) as u32);
        let waits = self.plan.fencing.auto_promote && rng.coin();
        let limit = timeout * rng.pick(&[2, 6, 20]);
        administrator.wishes += 1;
        let wish = administrator.wishes;
        let idle = administrator.asking.is_none();
        self.errand(next, Errand::Turn);
        if !self.nodes[n].runs() {
            return;
        }
        if waits {
            if self.allows(Id::Errand(wish), "clients: wait to be served", n) {
                let other = self.administrator.as_ref().map_or(0, |a| a.waiting[1 - n]);
                self.clients_wait(n, clients, 1 - n, other);
            }
        } else if idle && self.allows(Id::Errand(wish), "administrator: PROMOTE", n) {
            self.stats.count(Kind::Promote);
            let begun = self.now;
            if let Some(administrator) = &mut self.administrator {
                administrator.commands += 1;
                administrator.asking = Some(Asking {
                    node: n,
                    promoter: Promoter::new(),
                    begun,
                    until: begun + limit,
                });
                let number = administrator.commands;
                self.promote_again(number);
            }
        }
    }

    /// So many clients wait at the one node, and at the other.
    fn clients_wait(&mut self, n: usize, clients: u32, other: usize, others: u32) {
        for (n, clients) in [(n, clients), (other, others)] {
            let Some(administrator) = &mut self.administrator else {
                return;
            };
            if administrator.waiting[n] != clients {
                administrator.waiting[n] = clients;
                self.later(n, 0, NodeEvent::WaitingClients(clients));
            }
        }
    }

    /// A node begins to serve, or refuses to: nobody waits there any more.
    pub(crate) fn nobody_waits(&mut self, n: usize, serves: bool) {
        let now = self.now;
        let Some(administrator) = &mut self.administrator else {
            return;
        };
        if serves {
            administrator.served[n] = now;
        }
        let others = administrator.waiting[1 - n];
        self.clients_wait(n, 0, 1 - n, others);
    }

    /// A node starts anew: whoever waited there has lost the connection.
    pub(crate) fn nobody_waits_yet(&mut self, n: usize) {
        if let Some(administrator) = &mut self.administrator {
            administrator.waiting[n] = 0;
        }
    }

    fn promote_again(&mut self, number: u32) {
        let (now, timeout) = (self.now, self.plan.timers.timeout);
        let Some(administrator) = &mut self.administrator else {
            return;
        };
        if administrator.commands != number {
            return;
        }
        let Some(asking) = &mut administrator.asking else {
            return;
        };
        if now >= asking.until {
            administrator.asking = None;
            return;
        }
        let (n, question) = (asking.node, asking.promoter.question());
        // Made for a timeout of seconds.
        let pause = asking.promoter.pause().as_micros() as Time * timeout / 6_000_000;
        self.errand(pause.max(100), Errand::Again(number));
        self.ask_to_promote(n, number, question);
    }

    fn ask_to_promote(&mut self, n: usize, number: u32, question: Request) {
        for delay in self.ways(n) {
            self.later(n, delay, NodeEvent::Asked(Party::Arbiter, question, number));
        }
    }

    /// A node is about to hear of it: if it sets about it, that is the administrator's will. A word at its console may not be
    /// carried out yet.
    pub(crate) fn told_to_promote(&mut self, n: usize) {
        self.oracle.forced[n].get_or_insert(false);
    }

    /// A node answers the arbiter.
    pub(crate) fn answers_arbiter(&mut self, n: usize, number: u32, answer: &Answer) {
        for delay in self.ways(n) {
            self.errand(delay, Errand::Answered(number, answer.clone()));
        }
    }

    fn promote_answered(&mut self, number: u32, answer: &Answer) {
        let Some(administrator) = &mut self.administrator else {
            return;
        };
        let Some(asking) = &mut administrator.asking else {
            return;
        };
        if administrator.commands != number {
            return;
        }
        match asking.promoter.answer(answer) {
            Step::Wait => {}
            Step::Ask => {
                let (n, question) = (asking.node, asking.promoter.question());
                self.ask_to_promote(n, number, question);
            }
            Step::Ended(ended) => {
                let (n, begun) = (asking.node, asking.begun);
                let served = administrator.served[n];
                administrator.asking = None;
                self.trace.line(self.now, "ADMIN", || {
                    format!("PROMOTE {}: {ended:?}", letter(n))
                });
                match ended {
                    Ended::Primary if served < begun => {
                        let detail = format!("node {} has not served since", letter(n));
                        self.fail("who says that it became Primary did", detail);
                    }
                    Ended::Primary => self.stats.count(Kind::Promoted),
                    Ended::Denied(_) => self.stats.count(Kind::PromoteDenied),
                    Ended::AlreadyPrimary | Ended::Undecided | Ended::NoAnswer => {}
                }
            }
        }
    }

    /// A node tells the arbiter of an event, the first time or again.
    pub(crate) fn notified(&mut self, n: usize, boot: u32, number: u64) {
        let (now, timeout, healing) = (self.now, self.plan.timers.timeout, self.healing);
        let Some(administrator) = &mut self.administrator else {
            return;
        };
        let key = (n, boot, number);
        match administrator.handlers.get(&key) {
            // It runs.
            Some((_, ends)) if now < *ends => {}
            Some((code, _)) => {
                let code = *code;
                self.say_handled(n, boot, number, code);
            }
            None => {
                let rng = &mut administrator.rng;
                let (agrees, late) = (rng.percent(80), rng.percent(30));
                let code = match (agrees || healing, rng.one_in(3)) {
                    (true, _) => 0,
                    (false, false) => 1,
                    (false, true) => NO_EXIT_CODE,
                };
                let takes = if late && !healing {
                    rng.below(8 * timeout)
                } else {
                    rng.below(timeout / 10)
                };
                administrator.handlers.insert(key, (code, now + takes));
                self.stats.count(Kind::Handlers);
                self.errand(takes, Errand::Handler(n, boot, number));
            }
        }
    }

    fn handler_ended(&mut self, n: usize, boot: u32, number: u64) {
        let administrator = self.administrator.as_ref();
        let known = administrator.and_then(|a| a.handlers.get(&(n, boot, number)));
        if let Some((code, _)) = known.copied() {
            self.say_handled(n, boot, number, code);
        }
    }

    fn say_handled(&mut self, n: usize, boot: u32, number: u64, code: u8) {
        for delay in self.ways(n) {
            let answer = Answer::Handled { number, code };
            let what = NodeEvent::Answered(Party::Arbiter, answer);
            let occurrence = Occurrence::Node {
                node: n,
                boot,
                what,
            };
            self.schedule.push(self.now + delay, occurrence);
        }
    }
}
