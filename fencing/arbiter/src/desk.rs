//! The questions about one resource that wait for its worker.
//!
//! A node asks again until it is answered, so a question is in here once, by its latest repetition: that is the one which
//! is answered.

use fencing::datagram::Ticket;
use fencing::{Episode, Request};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Questions that may wait: more than two nodes can have at once.
const WAITING_MAX: usize = 64;
/// A question that was not repeated for so long, because a handler ran before it, is nobody's any more. Whoever still
/// wants it asks again.
const STALE: Duration = Duration::from_secs(15);

/// A question.
#[derive(Debug, Clone)]
pub struct Job {
    /// The pair's node that asks, 0 or 1.
    pub node: usize,
    pub request: Request,
    pub identity: u64,
    pub ticket: Ticket,
    pub from: SocketAddr,
    pub came: Instant,
}

impl Job {
    /// Whether it is the same question, asked again.
    fn repeats(&self, other: &Self) -> bool {
        let same = self.node == other.node && self.request == other.request;
        // Events are numbered anew in each session.
        let events = matches!(self.request, Request::Notify { .. });
        same && (!events || self.ticket.session() == other.ticket.session())
    }

    /// Whether the other one, of the same node, is not wanted any more: a node has one fence at a time.
    fn replaces(&self, other: &Self) -> bool {
        let older = |episode: Episode| match other.request {
            Request::Fence { episode: other, .. } => other <= episode,
            _ => false,
        };
        self.node == other.node
            && match self.request {
                Request::Fence { episode, .. } | Request::Unfence { episode, .. } => older(episode),
                _ => false,
            }
    }

    const fn urgent(&self) -> bool {
        !matches!(self.request, Request::Notify { .. })
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    running: Option<Job>,
}

#[derive(Default)]
pub struct Desk {
    queue: Mutex<Queue>,
    came: Condvar,
}

impl Desk {
    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a question. `false`: too many wait.
    pub fn put(&self, job: Job) -> bool {
        let mut queue = self.locked();
        let Queue { waiting, running } = &mut *queue;
        let known = running.iter_mut().chain(waiting.iter_mut());
        if let Some(known) = known.into_iter().find(|known| job.repeats(known)) {
            *known = job;
            return true;
        }
        waiting.retain(|other| !job.replaces(other));
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push_back(job);
        self.came.notify_one();
        true
    }

    /// The next one to be decided; waits for one. What a fence needs goes before what is only told.
    pub fn take(&self) -> Job {
        let mut queue = self.locked();
        loop {
            queue.waiting.retain(|job| job.came.elapsed() < STALE);
            let at = queue.waiting.iter().position(Job::urgent).unwrap_or(0);
            if let Some(job) = queue.waiting.remove(at) {
                queue.running = Some(job.clone());
                return job;
            }
            queue = self
                .came
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// It is decided: its latest repetition.
    pub fn done(&self) -> Option<Job> {
        self.locked().running.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fencing::datagram::{Channel, DATAGRAM_MAX, Ends, Key, Received};
    use fencing::{Event, Name};

    fn name(text: &str) -> Name {
        Name::try_from(text).unwrap()
    }

    /// A node that has asked before, and tickets of what it asks now.
    struct Node {
        channel: Channel,
        arbiter: Channel,
    }

    impl Node {
        fn new(session: u64) -> Self {
            let channel = |here: &str, there: &str, session| {
                let ends = Ends {
                    resource: name("r0"),
                    identity: 0,
                    here: name(here),
                    there: name(there),
                };
                Channel::new(ends, Key::new(b"secret", &name("r0")), session)
            };
            Self {
                channel: channel("a", "arbiter", session),
                arbiter: channel("arbiter", "a", 1),
            }
        }

        fn ask(&mut self, request: Request) -> Job {
            let mut out = [0; DATAGRAM_MAX];
            let ticket = loop {
                let len = self.channel.ask(request, &mut out);
                match self.arbiter.receive(&out[..len]) {
                    Ok(Received::Request(_, ticket)) => break ticket,
                    Ok(Received::SayAgain(ticket)) => {
                        let len = self.arbiter.again(ticket, 5, &mut out);
                        self.channel.receive(&out[..len]).unwrap();
                    }
                    other => panic!("{other:?}"),
                }
            };
            Job {
                node: 0,
                request,
                identity: 0,
                ticket,
                from: "127.0.0.1:1".parse().unwrap(),
                came: Instant::now(),
            }
        }
    }

    fn fence(episode: Episode) -> Request {
        Request::Fence {
            episode,
            vouched: 0,
            released: 0,
            up_to_date: true,
            force: false,
        }
    }

    fn notify(number: u64) -> Request {
        Request::Notify {
            number,
            event: Event::SplitBrain,
            volume: None,
        }
    }

    #[test]
    fn a_question_is_there_once_and_its_last_repetition_is_answered() {
        let desk = Desk::default();
        let mut node = Node::new(7);
        assert!(desk.put(node.ask(fence(1))));
        assert!(desk.put(node.ask(fence(1))));
        assert_eq!(desk.take().request, fence(1));
        let last = node.ask(fence(1));
        let ticket = last.ticket;
        assert!(desk.put(last));
        assert_eq!(desk.done().unwrap().ticket, ticket);
        assert!(desk.locked().waiting.is_empty());
    }

    #[test]
    fn a_fence_that_is_given_up_before_its_turn_is_not_run() {
        let desk = Desk::default();
        let mut node = Node::new(7);
        desk.put(node.ask(fence(1)));
        desk.put(node.ask(fence(2)));
        desk.put(node.ask(Request::Unfence {
            episode: 2,
            vouched: 0,
        }));
        desk.put(node.ask(fence(3)));
        assert_eq!(
            desk.take().request,
            Request::Unfence {
                episode: 2,
                vouched: 0
            }
        );
        assert_eq!(desk.take().request, fence(3));
        // Nor one whose node has fallen silent.
        let mut old = node.ask(fence(4));
        old.came -= STALE;
        desk.put(old);
        desk.put(node.ask(Request::Query));
        assert_eq!(desk.take().request, Request::Query);
        assert!(desk.locked().waiting.is_empty());
    }

    #[test]
    fn fences_go_before_events_and_events_of_another_life_are_others() {
        let desk = Desk::default();
        desk.put(Node::new(7).ask(notify(1)));
        desk.put(Node::new(8).ask(notify(1)));
        desk.put(Node::new(8).ask(fence(1)));
        assert_eq!(desk.take().request, fence(1));
        assert_eq!(desk.take().ticket.session(), 7);
        assert_eq!(desk.take().ticket.session(), 8);
        let mut node = Node::new(9);
        let taken = (1..).take_while(|&number| desk.put(node.ask(notify(number))));
        assert_eq!(taken.count(), WAITING_MAX);
    }
}
