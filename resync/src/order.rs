//! Which volumes may resync now, and why the others wait.
//!
//! A volume's resync waits while an operator of either node has paused it, while the volume that it is to
//! follow (`resync-after`) is not in sync, and while as many others run as may
//! (`max-parallel-resyncs`). Among those that may run, the one with the lowest index goes first, and
//! one that runs is not stopped in favour of another.

use crate::controller::Held;
use alloc::vec::Vec;
use core::fmt;

/// Why a resync, or the next part of it, waits. The text is for people, and is shown as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// `pause-sync` on this node.
    PausedHere,
    /// `pause-sync` on the peer.
    PausedOnPeer,
    /// On the target: the source's configuration lets other volumes go first.
    SourceWaits,
    /// Another volume goes first.
    After {
        /// The other volume's index.
        volume: u16,
    },
    /// As many other volumes as may are in resync.
    Parallel {
        /// How many may be at once.
        limit: u16,
    },
    /// No buffer is free.
    NoMemory,
    /// The source cannot read a block; it is tried again.
    UnreadableHere {
        /// Where it is, in bytes.
        offset: u64,
    },
    /// The target cannot write (or, to compare, read) a block; it is tried again.
    FailedOnPeer {
        /// Where it is, in bytes.
        offset: u64,
    },
    /// The operator's `c-max-rate` is reached.
    MaxRate,
    /// Clients need the disks or the link.
    Clients,
    /// As many runs as the path takes are on their way.
    InFlight,
    /// Other volumes' runs are all that may be on their way.
    Share,
    /// On the target: nothing has come from the source for long.
    SourceSilent {
        /// Milliseconds since the last block.
        ms: u64,
    },
    /// A write of a client to the same range goes first.
    Range,
    /// What was written is being made durable on the disks.
    Flush,
    /// The bitmaps are being exchanged.
    Bitmap,
    /// A disk has not answered for long.
    DiskBusy {
        /// Milliseconds since the oldest request.
        ms: u64,
    },
    /// The peer has not answered for long.
    PeerBusy {
        /// Milliseconds since the oldest request.
        ms: u64,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PausedHere => {
                f.write_str("paused by an operator on this node; resume-sync ends it")
            }
            Self::PausedOnPeer => {
                f.write_str("paused by an operator on the peer; resume-sync there ends it")
            }
            Self::SourceWaits => f.write_str(
                "waits for another volume's resync on the peer, which is the source; see 'status' there",
            ),
            Self::After { volume } => {
                write!(f, "waits until vol{volume} is in sync (resync-after)")
            }
            Self::Parallel { limit } => write!(
                f,
                "waits for another volume's resync: {limit} at once may run (max-parallel-resyncs)"
            ),
            Self::NoMemory => f.write_str("waits for memory: all buffers are in use"),
            Self::UnreadableHere { offset } => write!(
                f,
                "this node's disk cannot read the block at byte {offset}; tried again each second"
            ),
            Self::FailedOnPeer { offset } => write!(
                f,
                "the peer's disk cannot do the block at byte {offset}; tried again each second"
            ),
            Self::MaxRate => f.write_str("held to c-max-rate"),
            Self::Clients => f.write_str("yields to clients"),
            Self::InFlight => f.write_str("waits for answers to what was sent"),
            Self::Share => f.write_str("waits while other volumes use all that may be under way"),
            Self::SourceSilent { ms } => write!(
                f,
                "no block has come for {ms} ms; 'status' on the peer, the source, says why"
            ),
            Self::Range => f.write_str("waits for a client's write to the same blocks"),
            Self::Flush => f.write_str("waits for the disks to flush"),
            Self::Bitmap => f.write_str("waits for the exchange of bitmaps"),
            Self::DiskBusy { ms } => write!(f, "this node's disk has not answered for {ms} ms"),
            Self::PeerBusy { ms } => write!(f, "the peer has not answered for {ms} ms"),
        }
    }
}

impl From<Held> for WaitReason {
    fn from(held: Held) -> Self {
        match held {
            Held::MaxRate => Self::MaxRate,
            Held::Clients => Self::Clients,
        }
    }
}

/// Why an order of volumes is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderError {
    /// `resync-after` names a volume that does not exist.
    Unknown {
        /// The volume that should wait.
        volume: u16,
        /// The one it should wait for.
        after: u16,
    },
    /// Volumes wait for each other in a circle, so that none would ever begin.
    Circle {
        /// One of them.
        volume: u16,
    },
    /// Two volumes have one index.
    Twice {
        /// That index.
        volume: u16,
    },
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { volume, after } => write!(
                f,
                "resync-after of vol{volume} names vol{after}, which does not exist; \
                 name an existing volume or remove it"
            ),
            Self::Circle { volume } => write!(
                f,
                "resync-after of vol{volume} leads back to vol{volume}: none of these volumes \
                 would ever resync; remove one of them"
            ),
            Self::Twice { volume } => write!(f, "there are two volumes with the index {volume}"),
        }
    }
}

impl core::error::Error for OrderError {}

/// Where a volume stands, for the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    /// In sync with the peer.
    #[default]
    None,
    /// Not in sync, and no resync can begin: the peer or a disk is missing. Volumes that are to follow
    /// it do not wait for it: that could be for ever.
    Blocked,
    /// A resync is due, or runs.
    Resync,
}

#[derive(Debug)]
struct Entry {
    index: u16,
    /// Position of the volume that goes first.
    after: Option<usize>,
    need: Need,
    running: bool,
    paused_here: bool,
    paused_on_peer: bool,
}

/// The order of the volumes of a connection. Volumes are named by their index.
#[derive(Debug)]
pub struct Order {
    entries: Vec<Entry>,
    limit: Option<u16>,
}

impl Order {
    /// An order of the volumes `(index, resync-after)`, of which at most `limit` may resync at once
    /// (`None`, and zero: any number). All memory is allocated here.
    ///
    /// # Errors
    /// [`OrderError`]
    pub fn new(volumes: &[(u16, Option<u16>)], limit: Option<u16>) -> Result<Self, OrderError> {
        let place = |index: u16| volumes.iter().position(|(other, _)| *other == index);
        let mut entries = Vec::with_capacity(volumes.len());
        for (at, (volume, after)) in volumes.iter().copied().enumerate() {
            if place(volume) != Some(at) {
                return Err(OrderError::Twice { volume });
            }
            let unknown = |after| OrderError::Unknown { volume, after };
            entries.push(Entry {
                index: volume,
                after: after
                    .map(|after| place(after).ok_or(unknown(after)))
                    .transpose()?,
                need: Need::None,
                running: false,
                paused_here: false,
                paused_on_peer: false,
            });
        }
        for (start, entry) in entries.iter().enumerate() {
            // Each circle is found from one of its own volumes.
            let returns = core::iter::successors(entry.after, |at| entries[*at].after);
            if returns.take(entries.len()).any(|at| at == start) {
                return Err(OrderError::Circle {
                    volume: entry.index,
                });
            }
        }
        Ok(Self {
            entries,
            limit: limit.filter(|limit| *limit > 0),
        })
    }

    fn entry(&mut self, index: u16) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.index == index)
    }

    /// So many volumes may resync at once from now on (all of them without a limit, or with one of zero).
    pub fn set_limit(&mut self, limit: Option<u16>) {
        self.limit = limit.filter(|limit| *limit > 0);
        self.settle();
    }

    /// A volume's need has changed.
    pub fn set_need(&mut self, index: u16, need: Need) {
        if let Some(entry) = self.entry(index) {
            entry.need = need;
            self.settle();
        }
    }

    /// An operator has paused a volume on this node, or ended that.
    pub fn set_paused_here(&mut self, index: u16, paused: bool) {
        if let Some(entry) = self.entry(index) {
            entry.paused_here = paused;
            self.settle();
        }
    }

    /// An operator has paused a volume on the peer, or ended that.
    pub fn set_paused_on_peer(&mut self, index: u16, paused: bool) {
        if let Some(entry) = self.entry(index) {
            entry.paused_on_peer = paused;
            self.settle();
        }
    }

    /// Whether an operator of this node has paused a volume: what the peer is to be told.
    #[must_use]
    pub fn is_paused_here(&self, index: u16) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.index == index && entry.paused_here)
    }

    /// Whether a volume's resync may run now.
    #[must_use]
    pub fn may_run(&self, index: u16) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.index == index && entry.running)
    }

    /// Why a volume whose resync is due may not run. `None` if it may, or if none is due.
    #[must_use]
    pub fn waits(&self, index: u16) -> Option<WaitReason> {
        let entry = self.entries.iter().find(|entry| entry.index == index)?;
        if entry.need != Need::Resync || entry.running {
            return None;
        }
        let limit = self.limit.unwrap_or(0);
        Some(
            self.held_back(entry)
                .unwrap_or(WaitReason::Parallel { limit }),
        )
    }

    /// What keeps a volume back, other than the number of volumes.
    fn held_back(&self, entry: &Entry) -> Option<WaitReason> {
        if entry.paused_here {
            return Some(WaitReason::PausedHere);
        }
        if entry.paused_on_peer {
            return Some(WaitReason::PausedOnPeer);
        }
        let before = core::iter::successors(entry.after, |at| self.entries[*at].after);
        let mut before = before.map(|at| &self.entries[at]);
        before
            .find(|other| other.need == Need::Resync)
            .map(|other| WaitReason::After {
                volume: other.index,
            })
    }

    /// Decides who runs. Those that do, and may go on, come first.
    fn settle(&mut self) {
        let mut free = self.limit.unwrap_or(u16::MAX);
        for running in [true, false] {
            let mut next = 0;
            while let Some(at) = self.lowest(next, running) {
                next = u32::from(self.entries[at].index) + 1;
                let entry = &self.entries[at];
                let able = entry.need == Need::Resync && self.held_back(entry).is_none();
                self.entries[at].running = able && free > 0;
                free -= u16::from(able && free > 0);
            }
        }
    }

    /// The volume of the lowest index from `from` on that runs, or does not.
    fn lowest(&self, from: u32, running: bool) -> Option<usize> {
        let entries = self.entries.iter().enumerate();
        let fits = entries.filter(|(_, e)| u32::from(e.index) >= from && e.running == running);
        fits.min_by_key(|(_, e)| e.index).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn running(order: &Order) -> Vec<u16> {
        (0..10).filter(|index| order.may_run(*index)).collect()
    }

    #[test]
    fn another_limit_counts_at_once() {
        let mut order = Order::new(&[(0, None), (1, None), (2, None)], Some(3)).unwrap();
        for index in 0..3 {
            order.set_need(index, Need::Resync);
        }
        order.set_limit(Some(1));
        assert_eq!(
            [0, 1, 2].map(|index| order.may_run(index)),
            [true, false, false]
        );
        assert_eq!(order.waits(2), Some(WaitReason::Parallel { limit: 1 }));
        order.set_limit(Some(0));
        assert_eq!([0, 1, 2].map(|index| order.may_run(index)), [true; 3]);
    }

    #[test]
    fn all_run_at_once_unless_told_otherwise() {
        for limit in [None, Some(0)] {
            let mut order = Order::new(&[(0, None), (3, None), (7, None)], limit).unwrap();
            for index in [7, 0, 3, 9] {
                order.set_need(index, Need::Resync);
            }
            assert_eq!(running(&order), [0, 3, 7]);
            assert_eq!((order.waits(3), order.waits(9)), (None, None));
        }
    }

    #[test]
    fn a_volume_follows_those_before_it_as_long_as_they_can_go_on() {
        let mut order = Order::new(&[(0, None), (1, Some(0)), (2, Some(1))], None).unwrap();
        order.set_need(0, Need::Resync);
        order.set_need(2, Need::Resync);
        assert_eq!(running(&order), [0]);
        // Volume 1, in between, is in sync; the one before that counts as well.
        assert_eq!(order.waits(2), Some(WaitReason::After { volume: 0 }));
        order.set_need(1, Need::Resync);
        assert_eq!(order.waits(2), Some(WaitReason::After { volume: 1 }));
        order.set_need(0, Need::None);
        assert_eq!(running(&order), [1]);
        order.set_paused_here(1, true);
        assert_eq!(running(&order), []);
        assert_eq!(order.waits(1), Some(WaitReason::PausedHere));
        // Its disk is gone: nobody knows for how long.
        order.set_need(1, Need::Blocked);
        assert_eq!(running(&order), [2]);
        order.set_paused_here(1, false);
        order.set_need(1, Need::Resync);
        assert_eq!(running(&order), [1], "the order holds when it comes back");
    }

    #[test]
    fn one_that_runs_is_not_stopped_for_another() {
        let mut order = Order::new(&[(0, None), (1, None), (2, None)], Some(1)).unwrap();
        order.set_need(2, Need::Resync);
        order.set_need(0, Need::Resync);
        order.set_need(1, Need::Resync);
        assert_eq!(running(&order), [2]);
        assert_eq!(order.waits(0), Some(WaitReason::Parallel { limit: 1 }));
        order.set_need(2, Need::None);
        assert_eq!(running(&order), [0]);
        order.set_paused_on_peer(0, true);
        assert_eq!(running(&order), [1]);
        assert_eq!(order.waits(0), Some(WaitReason::PausedOnPeer));
        order.set_paused_on_peer(0, false);
        assert_eq!(running(&order), [1]);
        assert!(!order.is_paused_here(0));
    }

    #[test]
    fn orders_that_cannot_be_are_refused() {
        let order = |volumes: &[(u16, Option<u16>)]| Order::new(volumes, None).map(|_| ());
        assert_eq!(
            order(&[(0, Some(4))]),
            Err(OrderError::Unknown {
                volume: 0,
                after: 4
            })
        );
        assert_eq!(
            order(&[(5, Some(5))]),
            Err(OrderError::Circle { volume: 5 })
        );
        // Volume 0 waits for a circle that it is not part of.
        let circle = [(0, Some(1)), (1, Some(2)), (2, Some(1))];
        assert_eq!(order(&circle), Err(OrderError::Circle { volume: 1 }));
        assert_eq!(
            order(&[(1, None), (1, None)]),
            Err(OrderError::Twice { volume: 1 })
        );
    }

    #[test]
    fn every_reason_reads_as_a_sentence() {
        let text = WaitReason::After { volume: 3 }.to_string();
        assert_eq!(text, "waits until vol3 is in sync (resync-after)");
        let text = WaitReason::from(Held::Clients).to_string();
        assert_eq!(text, "yields to clients");
        let text = WaitReason::DiskBusy { ms: 1200 }.to_string();
        assert_eq!(text, "this node's disk has not answered for 1200 ms");
    }

    proptest! {
        /// Whatever happens in whatever order: the limit holds, whoever does not run says why, nobody waits
        /// without need, and nobody overtakes the one it follows.
        #[test]
        fn somebody_always_runs(
            after in proptest::collection::vec(proptest::option::of(0u16..8), 8),
            limit in proptest::option::of(1u16..4),
            events in proptest::collection::vec((0u16..8, 0u8..7), 1..60),
        ) {
            // Only earlier ones, so that there is no circle.
            let volumes: Vec<_> = (0u16..8)
                .zip(after)
                .map(|(index, after)| (index, after.filter(|after| *after < index)))
                .collect();
            let mut order = Order::new(&volumes, limit).unwrap();
            let mut need = [Need::None; 8];
            let mut paused = [[false; 2]; 8];
            for (index, event) in events {
                let at = usize::from(index);
                let before = running(&order);
                match event {
                    0..3 => {
                        need[at] = [Need::None, Need::Blocked, Need::Resync][usize::from(event)];
                        order.set_need(index, need[at]);
                    }
                    3 | 4 => {
                        paused[at][0] = event == 3;
                        order.set_paused_here(index, paused[at][0]);
                    }
                    _ => {
                        paused[at][1] = event == 5;
                        order.set_paused_on_peer(index, paused[at][1]);
                    }
                }
                let run = running(&order);
                prop_assert!(run.len() <= usize::from(limit.unwrap_or(8)));
                let mut able = 0;
                for (index, _) in &volumes {
                    let at = usize::from(*index);
                    let mut behind = false;
                    let mut walk = volumes[at].1;
                    while let Some(other) = walk {
                        behind |= need[usize::from(other)] == Need::Resync;
                        walk = volumes[usize::from(other)].1;
                    }
                    let free = need[at] == Need::Resync && paused[at] == [false; 2] && !behind;
                    able += usize::from(free);
                    prop_assert!(free || !run.contains(index));
                    prop_assert_eq!(
                        order.waits(*index).is_some(),
                        need[at] == Need::Resync && !run.contains(index)
                    );
                    prop_assert!(run.contains(index) || !free || !before.contains(index));
                }
                prop_assert_eq!(run.len(), able.min(usize::from(limit.unwrap_or(8))));
            }
        }
    }
}
