//! Who decides about one resource: a thread that takes one question after the other, stores what follows, runs the handler
//! that belongs to it, and answers.
//!
//! A handler of a fence runs before the fence is stored, one of an unfence likewise: what is stored was carried out, and what
//! was not stored is asked again. Only a fence by the operator's word is stored first, for that node goes on in any case.

use crate::config::Pair;
use crate::environment::{Occasion, environment};
use crate::handler::{Ended, Handler};
use crate::log;
use crate::server::Server;
use crate::store::{Entry, Error, Turn};
use fencing::arbiter::{Arbiter, fenced_by_exit_code};
use fencing::notifier::NO_EXIT_CODE;
use fencing::{Answer, Episode, Name, Refusal, Request};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::desk::Job;

/// How often an entry may be changed by others while a question is decided.
const ROUNDS: u32 = 8;
/// A handler that did not fence the peer is not run again before this, however often the node asks.
const HANDLER_PAUSE: Duration = Duration::from_secs(10);
/// Events of one node whose outcome is remembered, in case it is asked for again.
const EVENTS_MAX: usize = 64;

/// A fence that a handler did not bring about.
struct Failed {
    node: usize,
    episode: Episode,
    why: Refusal,
    at: Instant,
}

/// An event that was dealt with.
struct Known {
    session: u64,
    number: u64,
    code: u8,
}

pub struct Worker<'a> {
    server: &'a Server<'a>,
    pair: &'a Pair,
    failed: Option<Failed>,
    events: [VecDeque<Known>; 2],
}

/// The turn among arbiters, given back in any case.
struct Held<'a> {
    server: &'a Server<'a>,
    turn: Option<Turn>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.server.store.end_turn(turn);
        }
    }
}

impl<'a> Worker<'a> {
    pub const fn new(server: &'a Server<'a>, pair: &'a Pair) -> Self {
        Self {
            server,
            pair,
            failed: None,
            events: [VecDeque::new(), VecDeque::new()],
        }
    }

    /// Answers a question. `None`: it is not answered, and asked again.
    pub fn answer(&mut self, job: &Job) -> Option<Answer> {
        let answer = match job.request {
            Request::Notify { .. } => self.event(job),
            _ => self.decide(job),
        };
        answer.unwrap_or_else(|error| {
            let resource = &self.pair.resource;
            log!("resource {resource}: nothing was stored, and nothing granted: {error}");
            // Who wanted a fence is told. Who gives one back asks again.
            match job.request {
                Request::Fence { episode, .. } => Some(Answer::Refused {
                    episode,
                    why: Refusal::NotStored,
                }),
                _ => None,
            }
        })
    }

    /// Whether the node is of the resource that is known here.
    fn same_resource(&self, job: &Job, entry: &Entry) -> bool {
        let same = job.identity == 0 || entry.identity == 0 || job.identity == entry.identity;
        if !same {
            let (resource, node) = (&self.pair.resource, &self.pair.nodes[job.node]);
            log!(
                "resource {resource}: node {node} is of another resource of this name (it is {:016x}, known is {:016x}): \
                 give one another name, or 'forget {resource} --yes' if the old one is gone",
                job.identity,
                entry.identity
            );
        }
        same
    }

    fn decide(&mut self, job: &Job) -> Result<Option<Answer>, Error> {
        let (resource, node) = (&self.pair.resource, &self.pair.nodes[job.node]);
        let mut held = Held {
            server: self.server,
            turn: None,
        };
        let mut carried_out = false;
        for _ in 0..ROUNDS {
            let (entry, version) = self.server.store.load(resource)?;
            let arbiter = entry.arbiter()?;
            if !self.same_resource(job, &entry) {
                return Ok(match job.request {
                    Request::Fence { episode, .. } => Some(Answer::Refused {
                        episode,
                        why: Refusal::OtherResource,
                    }),
                    _ => None,
                });
            }
            let Some(verdict) = arbiter.ask(node, job.request) else {
                return Ok(None);
            };
            let known = match entry.identity {
                0 => job.identity,
                known => known,
            };
            let next = Entry::new(known, &verdict.next);
            if let Answer::Refused { episode, why } = &verdict.answer {
                log!(
                    "resource {resource}: refused FENCE {node} {episode}: {}",
                    words(why)
                );
            }
            if next == entry {
                return Ok(Some(verdict.answer));
            }
            let occasion = occasion(job.request, &arbiter, &verdict.next)
                .filter(|occasion| self.pair.handlers.contains_key(occasion.name()));
            let force = matches!(job.request, Request::Fence { force: true, .. });
            if let Some(occasion) = occasion
                && !force
                && !carried_out
            {
                if let Some(answer) = self.failed_lately(job) {
                    return Ok(Some(answer));
                }
                if held.turn.is_none() {
                    held.turn = self.turn(occasion)?;
                    if held.turn.is_none() {
                        return Ok(None);
                    }
                    // What was read may be older than the turn.
                    continue;
                }
                if let Some(answer) = self.carry_out(job, occasion) {
                    return Ok(Some(answer));
                }
                carried_out = true;
            }
            let line = line(job.request, node, &arbiter, &verdict.next, known);
            let turn = held.turn.as_ref();
            if self
                .server
                .store
                .swap(resource, &version, &next, &line, turn)?
            {
                log!("resource {resource}: {line}");
                if let Some(occasion) = occasion
                    && force
                {
                    held.turn = self.turn(occasion).unwrap_or_default();
                    // The operator has decided; its word is told for the log.
                    let _ = self.carry_out(job, occasion);
                }
                return Ok(Some(verdict.answer));
            }
        }
        Err("the entry was changed by others again and again, or the turn was lost".into())
    }

    /// The turn among arbiters.
    fn turn(&self, occasion: Occasion) -> Result<Option<Turn>, Error> {
        let resource = &self.pair.resource;
        let turn = self
            .server
            .store
            .turn(resource, self.pair.handler_timeout)?;
        if turn.is_none() {
            let name = occasion.name();
            log!(
                "resource {resource}: {name} waits: another arbiter runs a handler of this resource"
            );
        }
        Ok(turn)
    }

    /// What a fence that failed a moment ago is answered with.
    fn failed_lately(&self, job: &Job) -> Option<Answer> {
        let failed = self.failed.as_ref()?;
        let Request::Fence { episode, .. } = job.request else {
            return None;
        };
        let same = failed.node == job.node && failed.episode == episode;
        (same && failed.at.elapsed() < HANDLER_PAUSE).then(|| Answer::Refused {
            episode,
            why: failed.why.clone(),
        })
    }

    /// Runs the handler of a fence or unfence. An answer: the peer is not fenced.
    fn carry_out(&mut self, job: &Job, occasion: Occasion) -> Option<Answer> {
        let code = self.run(job.node, occasion);
        let Occasion::Fence {
            episode,
            up_to_date,
        } = occasion
        else {
            // DRBD takes no notice of how it ends, either: what is left in place keeps somebody from
            // becoming Primary, and lets nobody.
            return None;
        };
        let why = fenced_by_exit_code(code, up_to_date).err()?;
        let (resource, node) = (&self.pair.resource, &self.pair.nodes[job.node]);
        let what = match code {
            0 => {
                "exit code 0 does not say that the peer is fenced: a fence-peer handler says so by 3 to 7"
            }
            5 => "the peer was not reached, and not all of this node's disks are UpToDate",
            6 => "the peer is Primary, says the handler",
            _ => "the handler did not fence the peer",
        };
        log!("resource {resource}: refused FENCE {node} {episode}: {what}");
        self.failed = Some(Failed {
            node: job.node,
            episode,
            why: why.clone(),
            at: Instant::now(),
        });
        Some(Answer::Refused { episode, why })
    }

    /// Runs the handler of an event, once.
    fn event(&mut self, job: &Job) -> Result<Option<Answer>, Error> {
        let Request::Notify {
            number,
            event,
            volume,
        } = job.request
        else {
            return Ok(None);
        };
        let session = job.ticket.session();
        let same = |known: &&Known| (known.session, known.number) == (session, number);
        if let Some(known) = self.events[job.node].iter().find(same) {
            let code = known.code;
            return Ok(Some(Answer::Handled { number, code }));
        }
        let (entry, _) = self.server.store.load(&self.pair.resource)?;
        if !self.same_resource(job, &entry) {
            return Ok(None);
        }
        let occasion = Occasion::Event { event, volume };
        let mut code = 0;
        if self.pair.handlers.contains_key(event.name()) {
            let Some(turn) = self.turn(occasion)? else {
                return Ok(None);
            };
            let _held = Held {
                server: self.server,
                turn: Some(turn),
            };
            code = self.run(job.node, occasion);
        }
        let events = &mut self.events[job.node];
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(Known {
            session,
            number,
            code,
        });
        Ok(Some(Answer::Handled { number, code }))
    }

    /// Runs a handler that is configured; its exit code.
    fn run(&self, node: usize, occasion: Occasion) -> u8 {
        let (resource, name) = (&self.pair.resource, occasion.name());
        let Some(command) = self.pair.handlers.get(name) else {
            return NO_EXIT_CODE;
        };
        let asker = &self.pair.nodes[node];
        let of = match occasion {
            Occasion::Event {
                volume: Some(volume),
                ..
            } => format!(", volume {volume}"),
            Occasion::Fence { episode, .. } | Occasion::Unfence { episode } => {
                format!(", episode {episode}")
            }
            Occasion::Event { .. } => String::new(),
        };
        log!("resource {resource}: {name} for {asker}{of}: running {command:?}");
        let handler = Handler {
            command,
            environment: environment(self.pair, node, occasion),
            limit: self.pair.handler_timeout,
            lock: &self.server.config.lock(resource),
        };
        let run = match handler.run() {
            Ok(run) => run,
            Err(error) => {
                log!("resource {resource}: {name}: {error}");
                return NO_EXIT_CODE;
            }
        };
        for line in &run.said {
            log!("resource {resource}: {name}: | {line}");
        }
        if run.cut() {
            log!(
                "resource {resource}: {name}: | ... it printed {} bytes",
                run.printed
            );
        }
        let took = run.took.as_secs_f32();
        match run.ended {
            Ended::Exit(code) => {
                log!("resource {resource}: {name}: exit code {code} after {took:.1} s");
                code
            }
            Ended::Signal(signal) => {
                log!("resource {resource}: {name}: ended by signal {signal} after {took:.1} s");
                NO_EXIT_CODE
            }
            Ended::TimedOut => {
                let limit = handler.limit.as_secs();
                log!(
                    "resource {resource}: {name}: killed, since it took more than handler-timeout = {limit}"
                );
                NO_EXIT_CODE
            }
        }
    }
}

/// Which handler a change calls for.
fn occasion(request: Request, before: &Arbiter, after: &Arbiter) -> Option<Occasion> {
    let changed = before.holder != after.holder;
    match request {
        Request::Fence {
            episode,
            up_to_date,
            ..
        } if changed => Some(Occasion::Fence {
            episode,
            up_to_date,
        }),
        Request::Unfence { episode, .. } if changed => Some(Occasion::Unfence { episode }),
        _ => None,
    }
}

/// The journal's line.
fn line(request: Request, node: &Name, before: &Arbiter, after: &Arbiter, identity: u64) -> String {
    match request {
        Request::Fence { episode, .. } if before.holder != after.holder => {
            format!("FENCE {node} {episode}")
        }
        Request::Unfence { episode, .. } if before.holder != after.holder => {
            format!("UNFENCE {node} {episode}")
        }
        Request::Unfence { episode, .. } => format!("OVER {node} {episode}"),
        Request::Fence { .. }
        | Request::Query
        | Request::Outdate { .. }
        | Request::Promote { .. }
        | Request::Notify { .. } => format!("IDENTITY {node} {identity:016x}"),
    }
}

fn words(why: &Refusal) -> String {
    match why {
        Refusal::Held { holder, episode } => format!("{holder} holds it by episode {episode}"),
        Refusal::Stale { last } => format!("numbers up to {last} were used"),
        Refusal::Future => {
            "its number lies implausibly far ahead of all that were used; is its metadata damaged?"
                .into()
        }
        other => format!("{other:?}"),
    }
}
