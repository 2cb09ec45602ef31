//! The queue of what happens next, in simulated time; ties keep their order of insertion.

use crate::administrator::Errand;
use crate::management::Question;
use crate::world::Time;
use replication::api::{Answer, Command, CommandId, DiskToken, LinkDownReason, Party, Request};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Something that happens to the world.
#[derive(Debug, Clone)]
pub enum Occurrence {
    /// To a node in one of its lives (`boot`): waits while the node is paused, is void after.
    Node {
        /// Which.
        node: usize,
        /// The life it belongs to.
        boot: u32,
        /// What.
        what: NodeEvent,
    },
    /// A client gets its turn.
    Client(usize),
    /// Something around the arbiter.
    Errand(Errand),
    /// A message reaches the arbiter.
    Question(Question),
    /// The operator looks at the nodes.
    Operator,
    /// The fault with this number is due.
    Fault(u32),
    /// A fault's end.
    Recover(Recovery),
    /// A copy of a node's disks is kept, as somebody might put it into a drawer.
    Copy(usize),
}

/// Something that happens to a node.
#[derive(Debug, Clone)]
pub enum NodeEvent {
    /// A disk operation is done.
    DiskDone {
        /// Position among the node's disks.
        disk: usize,
        /// The operation.
        token: DiskToken,
    },
    /// The engine's timer; void unless it is the latest set.
    Tick(u64),
    /// Time to put the next frame onto the wire.
    Depart(u64),
    /// Time to take the next bytes from the wire.
    Arrive(u64),
    /// An attempt to dial ends.
    Dialled(u64),
    /// The connection stands, as this node sees it.
    LinkUp(u64),
    /// The connection ended, as this node sees it; with `drain` after what is still on the wire.
    LinkGone {
        /// The connection.
        conn: u64,
        /// FIN rather than RST.
        drain: bool,
    },
    /// Tell the engine that its link is down (the pump has dropped it before).
    LinkDown(LinkDownReason),
    /// The operator's command arrives.
    Command(CommandId, Command),
    /// A question comes in out of band, with the number under which it is answered.
    Asked(Party, Request, u32),
    /// An answer comes in out of band.
    Answered(Party, Answer),
    /// So many clients wait to be served.
    WaitingClients(u32),
    /// The number of connected clients changed.
    OpenClients,
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Both directions of the network pass again.
    Network,
    /// The connection is reset once more; who learns of it.
    Reset([bool; 2]),
    /// The node reads its connection again.
    Reader(usize),
    /// The node boots.
    Boot(usize),
    /// The node runs on.
    Resume {
        /// Which.
        node: usize,
        /// Whether its clock went on meanwhile.
        clock_ran: bool,
    },
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    what: Occurrence,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap yields its greatest: the earliest time, the lowest number.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Schedule {
    heap: BinaryHeap<Entry>,
    number: u64,
}

impl Schedule {
    /// Adds something for the time `at`.
    pub fn push(&mut self, at: Time, what: Occurrence) {
        self.number += 1;
        self.heap.push(Entry {
            at,
            number: self.number,
            what,
        });
    }

    /// Takes what is next.
    pub fn pop(&mut self) -> Option<(Time, Occurrence)> {
        self.heap.pop().map(|e| (e.at, e.what))
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|e| e.at)
    }
}
