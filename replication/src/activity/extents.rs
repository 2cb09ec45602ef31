//! The states of a volume's extents, and the lists that they are in.

use alloc::{vec, vec::Vec};

/// No extent.
const NIL: u32 = u32::MAX;

/// What the log knows of an extent. *Durable* means: its bit is set in the page that a crash would leave.
///
/// ```text
///            enter            commit begins          commit ends
///   Cold ------------> Wanted -------------> Adding -------------> Hot <--------+
///    ^                   ^  ^                  | commit failed      |           |
///    |                   |  +------------------+                    | cooling   | enter, or
///    |                   |                                          v begins    | flush failed
///    |                   |   commit ends                         Cooling -------+
///    |                   +---------------- Returning                |           |
///    |                   |                     ^ enter              | flushed   | enter
///    |  commit ends      |                     |  commit begins     v           |
///    +-------------------------------------- Removing <---------- Cooled -------+
///                  enter |                     | ^
///                        |       commit failed v | commit begins
///                        +------------------- Stale
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not in the log.
    Cold,
    /// To be set by the page's next commit.
    Wanted,
    /// Set by the commit under way.
    Adding,
    /// Durable.
    Hot,
    /// Durable; to leave when the flush under way succeeds.
    Cooling,
    /// Durable; cleared by the page's next commit.
    Cooled,
    /// Cleared by the commit under way: not durable any more.
    Removing,
    /// As `Removing`, and wanted again meanwhile.
    Returning,
    /// The commit that cleared it failed: the bit is on the disk, or is not.
    Stale,
}

impl State {
    /// Whether a write may be in flight: a crash at any moment finds the bit set.
    pub fn durable(self) -> bool {
        matches!(self, Self::Hot | Self::Cooling | Self::Cooled)
    }

    fn class(self) -> Class {
        match self {
            Self::Cold => Class::Cold,
            Self::Wanted | Self::Adding | Self::Returning => Class::Coming,
            Self::Hot | Self::Cooling => Class::Steady,
            Self::Cooled | Self::Removing | Self::Stale => Class::Leaving,
        }
    }
}

/// What extents are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Cold,
    /// Somebody waits, or waited, for it.
    Coming,
    Steady,
    Leaving,
}

/// A list of extents; an extent is in one list at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The extent that was put in first.
    pub fn oldest(&self) -> Option<u32> {
        (self.tail != NIL).then_some(self.tail)
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    /// Towards the head: put in later.
    newer: u32,
    /// Towards the tail: put in earlier.
    older: u32,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Requests in it, waiting ones included.
    users: u16,
    state: State,
    /// When the last user left, in ticks that wrap around.
    left: u8,
}

const FRESH: Extent = Extent {
    users: 0,
    state: State::Cold,
    left: 0,
};

const UNLINKED: Link = Link {
    newer: NIL,
    older: NIL,
};

/// All extents of a volume: 12 bytes each.
#[derive(Debug)]
pub(super) struct Extents {
    extents: Vec<Extent>,
    links: Vec<Link>,
    /// Extents by class.
    counts: [u32; 4],
    /// Extents that have users.
    busy: u32,
}

impl Extents {
    pub fn new(count: u32) -> Self {
        let mut counts = [0; 4];
        counts[Class::Cold as usize] = count;
        Self {
            extents: vec![FRESH; count as usize],
            links: vec![UNLINKED; count as usize],
            counts,
            busy: 0,
        }
    }

    /// As after `new`.
    pub fn reset(&mut self) {
        self.extents.fill(FRESH);
        self.counts = [0; 4];
        self.busy = 0;
        self.counts[Class::Cold as usize] = self.len();
    }

    /// Gets the memory for so many extents in all; answers whether there is as much.
    pub fn reserve(&mut self, count: u32) -> bool {
        let more = (count as usize).saturating_sub(self.extents.len());
        self.extents.try_reserve_exact(more).is_ok() && self.links.try_reserve_exact(more).is_ok()
    }

    /// So many extents in all, not less than before; the new ones are cold.
    pub fn grow(&mut self, count: u32) {
        self.counts[Class::Cold as usize] += count.saturating_sub(self.len());
        let count = self.extents.len().max(count as usize);
        self.extents.resize(count, FRESH);
        self.links.resize(count, UNLINKED);
    }

    /// Extents of the volume: not more than fit, since `new` takes them so.
    pub fn len(&self) -> u32 {
        self.extents.len() as u32
    }

    pub fn count(&self, class: Class) -> u32 {
        self.counts[class as usize]
    }

    pub fn state(&self, extent: u32) -> State {
        self.extents[extent as usize].state
    }

    pub fn set_state(&mut self, extent: u32, state: State) {
        let extent = &mut self.extents[extent as usize];
        self.counts[extent.state.class() as usize] -= 1;
        self.counts[state.class() as usize] += 1;
        extent.state = state;
    }

    pub fn busy(&self) -> u32 {
        self.busy
    }

    pub fn used(&self, extent: u32) -> bool {
        self.extents[extent as usize].users != 0
    }

    /// Counts one user more; answers whether it is the only one.
    pub fn join(&mut self, extent: u32) -> bool {
        let users = &mut self.extents[extent as usize].users;
        assert!(*users < u16::MAX, "more requests than an engine can hold");
        *users += 1;
        self.busy += u32::from(*users == 1);
        *users == 1
    }

    /// Counts one user less; answers whether it was the only one.
    pub fn part(&mut self, extent: u32) -> bool {
        let users = &mut self.extents[extent as usize].users;
        assert!(
            *users > 0,
            "a request left an extent that it had not entered"
        );
        *users -= 1;
        self.busy -= u32::from(*users == 0);
        *users == 0
    }

    pub fn left(&self, extent: u32) -> u8 {
        self.extents[extent as usize].left
    }

    pub fn set_left(&mut self, extent: u32, tick: u8) {
        self.extents[extent as usize].left = tick;
    }

    /// Puts in an extent as the newest.
    pub fn push(&mut self, list: &mut List, extent: u32) {
        self.links[extent as usize] = Link {
            newer: NIL,
            older: list.head,
        };
        match list.head {
            NIL => list.tail = extent,
            head => self.links[head as usize].newer = extent,
        }
        list.head = extent;
        list.len += 1;
    }

    /// Puts in an extent as the oldest.
    pub fn push_oldest(&mut self, list: &mut List, extent: u32) {
        self.links[extent as usize] = Link {
            newer: list.tail,
            older: NIL,
        };
        match list.tail {
            NIL => list.head = extent,
            tail => self.links[tail as usize].older = extent,
        }
        list.tail = extent;
        list.len += 1;
    }

    /// Takes an extent out of the list that it is in.
    pub fn remove(&mut self, list: &mut List, extent: u32) {
        let Link { newer, older } = self.links[extent as usize];
        match newer {
            NIL => list.head = older,
            newer => self.links[newer as usize].older = older,
        }
        match older {
            NIL => list.tail = newer,
            older => self.links[older as usize].newer = newer,
        }
        list.len -= 1;
    }

    /// Takes out the oldest.
    pub fn pop(&mut self, list: &mut List) -> Option<u32> {
        let extent = list.oldest()?;
        self.remove(list, extent);
        Some(extent)
    }

    /// Takes out the newest.
    pub fn pop_newest(&mut self, list: &mut List) -> Option<u32> {
        if list.head == NIL {
            return None;
        }
        let extent = list.head;
        self.remove(list, extent);
        Some(extent)
    }

    /// The list's extents, oldest first.
    pub fn iter(&self, list: &List) -> impl Iterator<Item = u32> + use<'_> {
        core::iter::successors(list.oldest(), |&extent| {
            match self.links[extent as usize].newer {
                NIL => None,
                newer => Some(newer),
            }
        })
    }
}
