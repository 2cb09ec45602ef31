//! `events`: what becomes of the node's states, as DRBD's `events2` tells it.
//!
//! [`Journal`] compares each look at the engine's [`Status`] with the one before and keeps what is different, numbered, in a ring
//! of fixed size. A [`Follower`] reads it line by line: first everything there is, then what happens. Each reader has one of its own.

mod object;
mod render;

#[cfg(test)]
mod tests;

pub use object::{FenceState, Holder, Object};
pub use render::{Format, LINE_BYTES_MAX};

use alloc::collections::VecDeque;
use core::net::SocketAddr;
use object::{Objects, objects};
use replication::api::{Micros, Name, Status};

/// Events that are kept; a reader that is further behind is told the state again.
pub const EVENTS_MAX: usize = 512;

/// How often the progress of a resync is looked at, in microseconds.
pub const FIGURES: Micros = 1_000_000;

/// What happened to an object; DRBD's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is there, as the reader comes.
    Exists,
    /// It has come into being.
    Create,
    /// Something about it is different.
    Change,
    /// It is gone.
    Destroy,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Create => "create",
            Self::Change => "change",
            Self::Destroy => "destroy",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its number: one more than that of the event before; the first one since boot has 1.
    pub sequence: u64,
    /// When it was seen, in microseconds since boot.
    pub at: Micros,
    /// What happened.
    pub kind: Kind,
    /// To what, with all that is known of it after that.
    pub object: Object,
}

/// A line for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Something that happened, or is there.
    Event(Event),
    /// The state is told to its end, by the node of this boot; what follows happened after it.
    End {
        /// The number of the last event that is in it.
        sequence: u64,
        /// When, in microseconds since boot.
        at: Micros,
    },
}

/// The reader's place was lost: so many events have happened since that the next one is not kept any more, or it is of another boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed;

/// The events since boot, as far as they are kept.
#[derive(Debug)]
pub struct Journal {
    names: Names,
    /// What there was at the last look.
    objects: Objects,
    /// The number of the last event.
    last: u64,
    events: VecDeque<Event>,
    /// When figures count next.
    figures_at: Micros,
}

/// What does not change while the node runs.
#[derive(Debug, Clone)]
struct Names {
    node: Name,
    peer: Name,
    resource: Name,
    local_address: SocketAddr,
    peer_address: SocketAddr,
    /// Another one at each boot.
    boot: u64,
}

impl Journal {
    /// A journal that begins with what there is now. The addresses are those of the replication link; `boot` is a random number, by
    /// which a reader notices that the numbers of events began anew. Allocates here and never again.
    #[must_use]
    pub fn new(status: &Status, local: SocketAddr, peer: SocketAddr, boot: u64) -> Self {
        Self {
            names: Names {
                node: status.node.clone(),
                peer: status.peer.clone(),
                resource: status.resource.clone(),
                local_address: local,
                peer_address: peer,
                boot,
            },
            objects: objects(status),
            last: 0,
            events: VecDeque::with_capacity(EVENTS_MAX),
            figures_at: 0,
        }
    }

    /// Notes what is different from the last look. `true`: something is.
    ///
    /// A resync's progress alone counts in steps of 5 % and once a second at most ([`FIGURES`]), or a short history
    /// would hold nothing else.
    pub fn observe(&mut self, now: Micros, status: &Status) -> bool {
        let before = self.last;
        let with_figures = now >= self.figures_at;
        if with_figures {
            self.figures_at = now + FIGURES;
        }
        let new = objects(status);
        let old = core::mem::take(&mut self.objects);
        for gone in &old {
            if !new.iter().any(|object| object.is(gone)) {
                self.note(now, Kind::Destroy, *gone);
            }
        }
        for mut object in new {
            match old.iter().find(|known| known.is(&object)) {
                None => self.note(now, Kind::Create, object),
                Some(known) if object.differs(known, with_figures) => {
                    self.note(now, Kind::Change, object);
                }
                // Figures are as they were when they last counted, or a step between two looks would be missed.
                Some(known) if !with_figures => object = *known,
                Some(_) => {}
            }
            // Cannot fail: as many as there are in `new`.
            let _fits = self.objects.push(object);
        }
        self.last != before
    }

    fn note(&mut self, at: Micros, kind: Kind, object: Object) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.last += 1;
        self.events.push_back(Event {
            sequence: self.last,
            at,
            kind,
            object,
        });
    }

    /// The number that numbers of events go with: another one at each boot.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.names.boot
    }

    /// The number of the last event; 0: none since boot.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// What has happened after the event with number `seen`, oldest first.
    ///
    /// # Errors
    /// [`Missed`]: not all of that is known.
    pub fn since(&self, seen: u64) -> Result<impl Iterator<Item = &Event>, Missed> {
        let kept = self.last - self.events.len() as u64;
        if seen < kept || seen > self.last {
            return Err(Missed);
        }
        // Cannot be cut: it is at most the ring's length.
        let skip = usize::try_from(seen - kept).unwrap_or(EVENTS_MAX);
        Ok(self.events.iter().skip(skip))
    }
}

/// A reader's place in the journal.
#[derive(Debug, Clone, Default)]
pub struct Follower {
    /// The number of the last event that it has seen, or that is in the state that it is being told; `None`: it knows nothing yet.
    seen: Option<u64>,
    /// What is still to be told of the state, last one first.
    state: Objects,
    /// The end of the state is to be told.
    end: bool,
}

impl Follower {
    /// A reader that knows everything up to the event with number `seen`.
    #[must_use]
    pub const fn after(seen: u64) -> Self {
        Self {
            seen: Some(seen),
            state: Objects::new(),
            end: false,
        }
    }

    /// The next line, if there is one now. One that has fallen too far behind begins anew with the state.
    pub fn next(&mut self, journal: &Journal, now: Micros) -> Option<Line> {
        if self.state.is_empty() && !self.end {
            let next = self.seen.map(|seen| Ok(journal.since(seen)?.next()));
            match next {
                Some(Ok(event)) => {
                    let event = *event?;
                    self.seen = Some(event.sequence);
                    return Some(Line::Event(event));
                }
                None | Some(Err(Missed)) => {
                    self.seen = Some(journal.last);
                    self.state = journal.objects.iter().rev().copied().collect();
                    self.end = true;
                }
            }
        }
        let sequence = self.seen.unwrap_or(0);
        Some(match self.state.pop() {
            Some(object) => Line::Event(Event {
                sequence,
                at: now,
                kind: Kind::Exists,
                object,
            }),
            None => {
                self.end = false;
                Line::End { sequence, at: now }
            }
        })
    }

    /// The number of the last event that is in what was read.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.unwrap_or(0)
    }
}
