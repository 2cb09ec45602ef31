//! A session's requests in progress, and the numbers under which the engine knows their pieces.

use super::chains::Chain;
use super::proto::Errno;
use alloc::vec::Vec;
use heapless::Deque;
use replication::api::RequestId;
use replication::buf::Buf;

/// Requests of one session in progress at most: the bits of a mask (QEMU has 16, nbdcopy 64 in
/// flight).
pub(super) const REQUESTS: usize = u64::BITS as usize;
/// Parts of reads of one session at most: the bits of a mask.
pub(super) const PARTS: usize = u64::BITS as usize;

/// Which piece of which session an engine request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub slot: u16,
    /// Distinguishes the sessions that used the slot one after another.
    pub generation: u32,
    pub piece: Piece,
}

/// The piece of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// An operation of the request with this index.
    Request(u8),
    /// The read part with this index.
    Part(u8),
}

impl Ticket {
    pub(super) fn id(self) -> RequestId {
        let piece = match self.piece {
            Piece::Request(index) => u64::from(index),
            Piece::Part(index) => 1 << 15 | u64::from(index),
        };
        u64::from(self.generation) << 32 | u64::from(self.slot) << 16 | piece
    }

    pub(super) fn from_id(id: RequestId) -> Self {
        let index = id as u8;
        Self {
            slot: (id >> 16) as u16,
            generation: (id >> 32) as u32,
            piece: if id & 1 << 15 != 0 {
                Piece::Part(index)
            } else {
                Piece::Request(index)
            },
        }
    }
}

/// How a read's data must be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Structured: a chunk per part, in any order.
    Chunks,
    /// Structured with DF: one chunk, so the parts follow each other in order.
    OneChunk,
    /// A simple reply: header, then the parts in order.
    Simple,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read(Layout),
    Write,
    Trim,
    Zeroes {
        unmap: bool,
    },
    Flush,
    Status,
    /// Answered with a simple reply and no more ado: CACHE, and whatever is malformed.
    Nothing,
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct Request {
    pub kind: Kind,
    pub cookie: u64,
    pub offset: u64,
    /// Bytes; also of a flush, where it is 1: one operation.
    pub len: u32,
    /// Bytes handed to the engine so far.
    pub issued: u32,
    /// Bytes of data sent so far (reads).
    pub sent: u32,
    /// Operations in the engine (of a read: parts that exist in any state).
    pub pending: u32,
    /// Durable before the answer.
    pub fua: bool,
    /// A flush is to follow when everything else has completed.
    pub flush_due: bool,
    /// Waits in a queue to be issued (further).
    pub queued: bool,
    /// What went wrong first, and where when the engine said so.
    pub error: Option<(Errno, Option<u64>)>,
    /// A write's payload that has not gone to the engine.
    pub payload: Chain,
}

/// A piece of a read.
#[derive(Debug)]
pub(super) struct Part {
    pub request: u8,
    /// Bytes from the request's start.
    pub at: u32,
    pub len: u32,
    /// Bytes of pool memory.
    pub capacity: u32,
    /// The data, when the engine has delivered it.
    pub buf: Option<Buf>,
}

/// Places for as many values as a mask has bits.
#[derive(Debug)]
struct Slots<T> {
    places: Vec<Option<T>>,
    /// A bit for each place that is taken.
    used: u64,
}

impl<T> Slots<T> {
    fn new() -> Self {
        Self {
            places: (0..u64::BITS).map(|_| None).collect(),
            used: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.used == u64::MAX
    }

    /// Stores a value in the lowest free place; the caller has checked that there is one.
    fn insert(&mut self, value: T) -> u8 {
        debug_assert!(!self.is_full());
        let at = self.used.trailing_ones() as u8;
        self.places[usize::from(at)] = Some(value);
        self.used |= 1 << at;
        at
    }

    fn get(&self, at: u8) -> Option<&T> {
        self.places.get(usize::from(at))?.as_ref()
    }

    fn get_mut(&mut self, at: u8) -> Option<&mut T> {
        self.places.get_mut(usize::from(at))?.as_mut()
    }

    fn remove(&mut self, at: u8) -> Option<T> {
        let value = self.places.get_mut(usize::from(at))?.take();
        self.used &= !(1 << at);
        value
    }

    /// The highest place that is taken.
    fn last(&self) -> Option<u8> {
        self.used.checked_ilog2().map(|bit| bit as u8)
    }
}

/// Fixed-size tables of both.
#[derive(Debug)]
pub(super) struct Table {
    requests: Slots<Request>,
    parts: Slots<Part>,
    /// A bit for each part that the engine has delivered.
    delivered: u64,
    /// Where the search for a part to send begins.
    turn: u32,
    /// Reads with parts to be issued, in order of arrival.
    pub reads: Deque<u8, REQUESTS>,
    /// Other requests with operations to be issued, in order of arrival.
    pub ops: Deque<u8, REQUESTS>,
    /// Requests whose closing reply can be sent.
    pub ready: Deque<u8, REQUESTS>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            requests: Slots::new(),
            parts: Slots::new(),
            delivered: 0,
            turn: 0,
            reads: Deque::new(),
            ops: Deque::new(),
            ready: Deque::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.requests.is_full()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.used == 0
    }

    /// Requests that are not answered in full.
    pub(super) fn len(&self) -> usize {
        self.requests.used.count_ones() as usize
    }

    /// Whether every request only waits for its reply to be sent.
    pub(super) fn is_settled(&self) -> bool {
        let open = |r: &Request| r.pending > 0 || r.queued || !r.payload.is_empty();
        !self.requests.places.iter().flatten().any(open)
    }

    /// Stores a request; the caller has looked at [`Table::is_full`].
    pub(super) fn insert(&mut self, request: Request) -> u8 {
        self.requests.insert(request)
    }

    pub(super) fn get(&mut self, at: u8) -> Option<&mut Request> {
        self.requests.get_mut(at)
    }

    pub(super) fn remove(&mut self, at: u8) -> Option<Request> {
        self.requests.remove(at)
    }

    pub(super) fn parts_full(&self) -> bool {
        self.parts.is_full()
    }

    /// Stores a part; the caller has looked at [`Table::parts_full`].
    pub(super) fn insert_part(&mut self, part: Part) -> u8 {
        self.parts.insert(part)
    }

    pub(super) fn part(&mut self, at: u8) -> Option<&mut Part> {
        self.parts.get_mut(at)
    }

    pub(super) fn remove_part(&mut self, at: u8) -> Option<Part> {
        let part = self.parts.remove(at)?;
        self.delivered &= !(1 << at);
        self.turn = (u32::from(at) + 1) % PARTS as u32;
        Some(part)
    }

    /// Stores what the engine delivered for a part.
    pub(super) fn deliver(&mut self, at: u8, buf: Option<Buf>) {
        if let (Some(part), Some(buf)) = (self.parts.get_mut(at), buf) {
            part.buf = Some(buf);
            self.delivered |= 1 << at;
        }
    }

    /// The index of a delivered part for which `wanted` holds. The search begins behind the part
    /// that left last, so that every part has its turn.
    pub(super) fn find_part(&self, wanted: impl Fn(u8, &Part, &Request) -> bool) -> Option<u8> {
        let mut left = self.delivered.rotate_right(self.turn);
        while left != 0 {
            let at = ((left.trailing_zeros() + self.turn) % PARTS as u32) as u8;
            let part = self.parts.get(at);
            let request = part.and_then(|p| self.requests.get(p.request));
            if let (Some(part), Some(request)) = (part, request)
                && wanted(at, part, request)
            {
                return Some(at);
            }
            left &= left - 1;
        }
        None
    }

    /// Empties the queues.
    pub(super) fn clear_queues(&mut self) {
        self.reads.clear();
        self.ops.clear();
        self.ready.clear();
    }

    /// Takes out any request; to empty the table.
    pub(super) fn pop_request(&mut self) -> Option<Request> {
        self.remove(self.requests.last()?)
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        REQUESTS * size_of::<Option<Request>>() + PARTS * size_of::<Option<Part>>()
    }

    /// Takes out any part; to empty the table.
    pub(super) fn pop_part(&mut self) -> Option<Part> {
        self.remove_part(self.parts.last()?)
    }
}

/// Puts `index` at the end of `queue`. A request is in each queue at most once, so that none of
/// them can overflow.
pub(super) fn enqueue(queue: &mut Deque<u8, REQUESTS>, index: u8) {
    let fits = queue.push_back(index).is_ok();
    debug_assert!(fits, "a request was queued twice");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tickets_survive_the_engine(slot: u16, generation: u32, index: u8, part: bool) {
            let piece = if part { Piece::Part(index) } else { Piece::Request(index) };
            let ticket = Ticket { slot, generation, piece };
            prop_assert_eq!(Ticket::from_id(ticket.id()), ticket);
        }
    }
}
