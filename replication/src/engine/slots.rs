//! The fixed table of everything in flight, and lists through it.

use crate::api::{ClientError, Micros, RequestId};
use crate::buf::Buf;
use crate::mutation::{self, Mutation};
use alloc::vec::Vec;

/// Index of a slot.
pub(super) type SlotId = u32;
const NIL: SlotId = u32::MAX;

/// Whose request a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A local client's.
    Client,
    /// The peer's: a mirrored write, a flush, or resync data.
    Peer,
    /// The resync's, on its source.
    Resync,
    /// The engine's own: a flush before extents are cooled, and words to the peer.
    Meta,
    /// A client's, of the old content of a resync's target.
    Old,
    /// Nobody's: it was ended for good when its disk did not answer in time. The disk may still use its
    /// buffer, so that and the number stay reserved until it answers.
    Abandoned,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write,
    Discard,
    Zeroes {
        unmap: bool,
    },
    Flush,
    /// On the node that verifies: read, to be compared with the peer's.
    Verify,
    /// On the other node: read, to be compared with the digests that came.
    Compare,
    /// On a resync's target: a part of its bitmap for the source.
    Bitmap {
        last: bool,
    },
    /// On both sides of a resync: flush, then the target is UpToDate with this generation.
    SyncEnd {
        uuid: u64,
    },
    /// On a Primary without a good disk: it serves through the peer's, in this generation. On the peer: its disk stands in.
    DiskLost {
        uuid: u64,
    },
    /// For the peer only: the volume is pulled ahead of it.
    Ahead,
    /// For the peer only: what it acknowledged before must be durable there.
    PeerFlush,
    /// For this disk only: everything must be durable before all of it replaces the peer's copy.
    Prepare {
        number: u64,
    },
}

impl Op {
    /// Whether it only reads a range of the disk.
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Verify | Self::Compare)
    }
}

/// What is known of a run's blocks on the peer's disk, on the node that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// It was not asked: all are sent.
    None,
    /// The peer was asked.
    Asked,
    /// These differ, of which those in `left` have not been copied and those in `sent` are on their way.
    Differ { all: u32, left: u32, sent: u32 },
    /// The peer's disk could not read them.
    Unreadable,
    /// There was no memory.
    Busy,
}

/// Where the local half of a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    /// Held back by an earlier overlapping request, by the activity log or the superblock, or by the peer's window.
    Waiting,
    /// The disk works on it.
    Disk,
    /// Written; waits for a flush of the disk, or for the end of one.
    Flush,
    /// The peer comes first; then the disk, a resync's target.
    AfterPeer,
    /// Done, but the answer waits until the superblock is durable.
    Held,
    /// Done.
    Done,
    /// The disk failed.
    Failed,
}

/// Where the peer's half of a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    /// Was not sent.
    None,
    /// Sent and not answered; a payload must stay where it is.
    Sent,
    /// Answered.
    Done,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct Slot {
    pub owner: Owner,
    pub op: Op,
    pub fua: bool,
    /// Position of the volume in the engine's table.
    pub volume: usize,
    pub offset: u64,
    pub len: u32,
    pub buf: Option<Buf>,
    /// Digests of its blocks.
    pub digests: Option<Buf>,
    pub compare: Compare,
    /// When it was admitted.
    pub began: Micros,
    /// The client's number, or the peer's.
    pub request: RequestId,
    pub local: Local,
    pub remote: Remote,
    /// Belongs to a connection that is gone: finish it and tell nobody.
    pub orphan: bool,
    /// Entered the activity log, which it must leave.
    pub logged: bool,
    /// Of a resync's end on its target: it has taken effect.
    pub settled: bool,
    /// Its answer by the peer says that what was acknowledged before is durable there.
    pub tracked: bool,
    /// The disk has an operation under the slot's number, and may use its buffer.
    pub at_disk: bool,
    /// Since when, by the clock of [`super::Engine::stay_awake`].
    pub since: Micros,
    /// When the peer was asked for it.
    pub sent: Micros,
    /// Of a read that was answered by the peer while the disk hangs: the buffer that the disk has.
    pub lent: Option<Buf>,
    /// The peer, whose disk is good, has done it.
    pub acked: bool,
    /// The peer was told to do it durably.
    pub fua_there: bool,
    /// The disk has tried, and could not.
    pub refused: bool,
    /// Of a read: the disk could not, and what the peer sent is written in its place.
    pub repair: bool,
    /// Of a client's write: it was answered before the peer had it on its disk.
    pub answered: bool,
    /// The peer has it in its memory.
    pub received: bool,
    /// What the slot belongs to: on the Primary of what was sent, on the peer of what arrived. See `epochs`.
    pub epoch: u32,
    /// Of a connection that is gone, but is done nevertheless.
    pub outlives: bool,
    /// Of a resync's read: the disk, whose flush had failed, writes again what it has read.
    pub rewrites: bool,
    /// Does not keep others out of its range: a resync's data on a Primary, see `through`.
    pub unlocked: bool,
    /// It went to a disk, this node's or the peer's.
    pub tried: bool,
    /// The disk was at it while the peer was lost and came back: it is done again, by both.
    pub again: bool,
    /// It was under way when the present snapshot of its volume was taken, and belongs to the old content.
    pub before_snapshot: bool,
    /// Of a read of old content: the snapshot, bytes that were read, and those of the piece that the disk is at.
    pub old: u64,
    pub progress: u32,
    pub piece: u32,
    /// The end is decided.
    pub error: Option<ClientError>,
}

impl Slot {
    /// A request that has not begun.
    pub fn new(owner: Owner, op: Op, volume: usize, offset: u64, len: u32) -> Self {
        Self {
            owner,
            op,
            fua: false,
            volume,
            offset,
            len,
            buf: None,
            digests: None,
            compare: Compare::None,
            began: 0,
            request: 0,
            local: Local::Waiting,
            remote: Remote::None,
            orphan: false,
            logged: false,
            settled: false,
            tracked: false,
            at_disk: false,
            since: 0,
            sent: 0,
            lent: None,
            acked: false,
            fua_there: false,
            refused: false,
            repair: false,
            answered: false,
            received: false,
            epoch: 0,
            outlives: false,
            rewrites: false,
            unlocked: false,
            tried: false,
            again: false,
            before_snapshot: false,
            old: 0,
            progress: 0,
            piece: 0,
            error: None,
        }
    }

    /// Whether it changes what is on the disks.
    pub fn changes_data(&self) -> bool {
        matches!(self.op, Op::Write | Op::Discard | Op::Zeroes { .. })
            && self.owner != Owner::Resync
    }

    /// Whether the slot is about a range, and so keeps out overlapping ones (unless both read).
    pub fn locks_range(&self) -> bool {
        if self.owner == Owner::Resync && mutation::is(Mutation::ResyncNotLocked) {
            return false;
        }
        matches!(
            self.op,
            Op::Read | Op::Verify | Op::Compare | Op::Write | Op::Discard | Op::Zeroes { .. }
        ) && !self.unlocked
    }
}

#[derive(Debug)]
struct Entry {
    slot: Option<Slot>,
    /// Told apart from earlier users of the entry in the peer's answers.
    generation: u32,
    next: SlotId,
}

/// A first-in, first-out list through the table. A slot is in one list at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: SlotId,
    tail: SlotId,
}

impl List {
    pub const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
    };

    pub fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// The slot that [`Slots::pop`] would take.
    pub fn first(&self) -> Option<SlotId> {
        (self.head != NIL).then_some(self.head)
    }
}

/// The slots, allocated once.
#[derive(Debug)]
pub(super) struct Slots {
    entries: Vec<Entry>,
    free: List,
    live: usize,
}

impl Slots {
    pub fn new(count: usize) -> Self {
        let entries = (0..count).map(|_| Entry {
            slot: None,
            generation: 0,
            next: NIL,
        });
        let mut slots = Self {
            entries: entries.collect(),
            free: List::EMPTY,
            live: 0,
        };
        let mut free = List::EMPTY;
        for id in 0..count {
            slots.push(&mut free, id as SlotId);
        }
        slots.free = free;
        slots
    }

    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub fn live(&self) -> usize {
        self.live
    }

    /// Takes a free slot; the caller counts its own, so that there always is one.
    pub fn insert(&mut self, slot: Slot) -> SlotId {
        let mut free = self.free;
        let id = self.pop(&mut free);
        self.free = free;
        let Some(id) = id else {
            unreachable!("more requests admitted than slots");
        };
        self.live += 1;
        let entry = &mut self.entries[id as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.slot = Some(slot);
        id
    }

    pub fn remove(&mut self, id: SlotId) -> Slot {
        let Some(slot) = self.entries[id as usize].slot.take() else {
            unreachable!("slot {id} freed twice");
        };
        self.live -= 1;
        let mut free = self.free;
        self.push(&mut free, id);
        self.free = free;
        slot
    }

    /// Leaves an abandoned slot in the place of one that ended, since the disk still has its number.
    pub fn abandon(&mut self, id: SlotId, buf: Option<Buf>) -> Slot {
        let old = self.at(id);
        let (volume, offset, len) = (old.volume, old.offset, old.len);
        let left = Slot {
            buf,
            at_disk: true,
            since: old.since,
            local: Local::Failed,
            ..Slot::new(Owner::Abandoned, old.op, volume, offset, len)
        };
        core::mem::replace(old, left)
    }

    pub fn get(&self, id: SlotId) -> Option<&Slot> {
        self.entries.get(id as usize)?.slot.as_ref()
    }

    /// A slot that must be there.
    pub fn at(&mut self, id: SlotId) -> &mut Slot {
        match self.entries[id as usize].slot.as_mut() {
            Some(slot) => slot,
            None => unreachable!("slot {id} is free"),
        }
    }

    /// The slot's number on the wire.
    pub fn wire_id(&self, id: SlotId) -> u64 {
        u64::from(self.entries[id as usize].generation) << 32 | u64::from(id)
    }

    /// The live slot of a number on the wire.
    pub fn by_wire_id(&self, wire: u64) -> Option<SlotId> {
        let entry = self.entries.get((wire & 0xffff_ffff) as usize)?;
        let same = u64::from(entry.generation) == wire >> 32;
        let alive = entry.slot.is_some() && (same || mutation::is(Mutation::AcceptStaleAck));
        alive.then_some((wire & 0xffff_ffff) as SlotId)
    }

    pub fn push(&mut self, list: &mut List, id: SlotId) {
        self.entries[id as usize].next = NIL;
        if list.head == NIL {
            list.head = id;
        } else {
            self.entries[list.tail as usize].next = id;
        }
        list.tail = id;
    }

    pub fn pop(&mut self, list: &mut List) -> Option<SlotId> {
        if list.head == NIL {
            return None;
        }
        let id = list.head;
        list.head = self.entries[id as usize].next;
        Some(id)
    }
}
