//! The kinds of faults, and their drawing.
//!
//! Every seed enables a random subset of the kinds, each with its own weight ("swarm testing": a
//! world in which everything happens at once hides what a rarer mixture shows). The n-th fault of
//! a seed follows from the seed and n alone, so the shrinker can leave some out and the others stay.

use crate::rng::Rng;
use crate::world::Time;

macro_rules! faults {
    ($($kind:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names say it, see Fault::name")]
        pub enum Fault { $($kind,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The kind in words.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

faults! {
    LinkCut = "link: cut both ways",
    LinkOneWay = "link: cut one way",
    LinkHalfOpen = "link: half-open",
    LinkReset = "link: reset",
    LinkSlow = "link: slow",
    LinkClog = "link: clogged for a moment",
    LinkReaderStops = "link: reader stops",
    LinkFlap = "link: reset several times in a row",
    LinkDropKind = "link: reset instead of one frame of a kind",
    LinkDropsKind = "link: reset instead of every frame of a kind, for a while",
    LinkTruncated = "link: ends in the middle of a frame",
    LinkCorrupt = "link: corrupted frame",
    LinkOtherVersion = "link: peer of another version",
    PowerCut = "node: power cut, unflushed writes lost in part",
    SitePowerCut = "node: power cut of both",
    Kill = "node: killed, disk cache kept",
    CrashAtAction = "node: crash between two actions of one step",
    CrashAtBoot = "node: crash while it starts",
    CrashInHandshake = "node: crash in a handshake",
    CrashAtResyncStart = "node: crash as a resync begins",
    CrashAtResyncEnd = "node: crash as a resync ends",
    CrashAtRole = "node: crash as its role changes",
    CrashAtCooling = "node: crash as extents cool",
    CrashAtSave = "node: crash between the two copies of a superblock",
    Pause = "node: paused, its clock too",
    PauseClockRuns = "node: paused, its clock goes on",
    ClockJump = "node: clock jumps",
    DiskSlow = "disk: slow",
    DiskHang = "disk: hangs",
    DiskErrors = "disk: input/output errors",
    FlushFails = "disk: flush fails, then succeeds",
    DiskGone = "disk: gone until the next boot",
    LatentSector = "disk: sector that cannot be read until it is written",
    BitRot = "disk: bit rot",
    BitmapRot = "disk: bit rot of marks while the node is off",
    MetaMisread = "disk: read of log or marks returns another place",
    WriteLost = "disk: write acknowledged and forgotten",
    WriteMisdirected = "disk: write lands in another place",
    ReadMisdirected = "disk: read returns another place",
    ReadStale = "disk: read returns old content",
    BlankDisk = "disk: replaced by a blank one",
    OldDisk = "disk: replaced by an old copy of itself",
}

impl Fault {
    /// Whether it takes content from a disk or makes it lie: drawn in few seeds, since the oracle
    /// must excuse what no mirror without checksums of data could mend.
    #[must_use]
    pub fn spoils(self) -> bool {
        self.breaks_disk() || self.lies()
    }

    /// Whether the disk answers with errors.
    #[must_use]
    pub fn breaks_disk(self) -> bool {
        matches!(
            self,
            Self::DiskErrors | Self::FlushFails | Self::DiskGone | Self::LatentSector
        )
    }

    /// Whether metadata may not be what was saved last, other than by a lie about data.
    #[must_use]
    pub fn damages_metadata(self) -> bool {
        matches!(
            self,
            Self::BitmapRot | Self::MetaMisread | Self::BlankDisk | Self::OldDisk
        )
    }

    /// Whether it strikes at a chosen point rather than anywhere: such faults make long chains of crashes, in which little
    /// else happens, so not every seed has them.
    #[must_use]
    pub fn is_special(self) -> bool {
        self.at_a_moment()
            || matches!(
                self,
                Self::LinkClog
                    | Self::LinkFlap
                    | Self::LinkDropsKind
                    | Self::BitmapRot
                    | Self::MetaMisread
            )
    }

    /// Whether it is a crash that waits until the node gets to a certain point ([`crate::moment`]); counted when it strikes.
    #[must_use]
    pub fn at_a_moment(self) -> bool {
        matches!(
            self,
            Self::CrashInHandshake
                | Self::CrashAtResyncStart
                | Self::CrashAtResyncEnd
                | Self::CrashAtRole
                | Self::CrashAtCooling
                | Self::CrashAtSave
        )
    }

    /// Whether the disk says that all is well and it is not.
    #[must_use]
    pub fn lies(self) -> bool {
        matches!(
            self,
            Self::BitRot
                | Self::WriteLost
                | Self::WriteMisdirected
                | Self::ReadMisdirected
                | Self::ReadStale
        )
    }
}

/// One seed of so many draws special faults.
const SPECIAL_SEEDS: u64 = 4;
/// Their choice has numbers of its own, so that seeds without them are what they are whatever kinds there are.
const SPECIAL: u64 = 0x7370_6563;

/// The faults a seed draws from.
#[derive(Debug, Clone)]
pub struct Fates {
    seed: u64,
    /// Mean time between faults; 0: there are none.
    pub gap: Time,
    /// What may happen, and how likely against the others.
    pub weights: Vec<(Fault, u64)>,
}

/// One fault of a seed, before it strikes.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// What.
    pub fault: Fault,
    /// Where.
    pub node: usize,
    /// Time until the next one.
    pub gap: Time,
    /// Everything else about it.
    pub rng: Rng,
}

impl Fates {
    /// A world without faults.
    #[must_use]
    pub fn none() -> Self {
        Self {
            seed: 0,
            gap: 0,
            weights: Vec::new(),
        }
    }

    /// What a random seed has in store, in a world of that pace (1: the fastest).
    #[must_use]
    pub fn draw(rng: &mut Rng, pace: Time) -> Self {
        let chance = rng.pick(&[15, 35, 60, 90]);
        let (errors, lies) = (rng.percent(15), rng.percent(20));
        let mut weights = Vec::new();
        for &fault in Fault::ALL.iter().filter(|fault| !fault.is_special()) {
            let weight = rng.pick(&[1, 2, 2, 4, 12]);
            let enabled = rng.percent(chance);
            let allowed = (errors || !fault.breaks_disk()) && (lies || !fault.lies());
            if enabled && allowed {
                weights.push((fault, weight));
            }
        }
        let seed = rng.next();
        let mut special = Rng::new(seed ^ SPECIAL);
        if special.one_in(SPECIAL_SEEDS) {
            let chance = special.pick(&[20, 50, 80]);
            for &fault in Fault::ALL.iter().filter(|fault| fault.is_special()) {
                let weight = special.pick(&[1, 2, 4, 12]);
                if special.percent(chance) {
                    weights.push((fault, weight));
                }
            }
        }
        Self {
            seed,
            gap: rng.pick(&[30_000, 100_000, 300_000, 1_000_000]) * pace,
            weights,
        }
    }

    /// The n-th fault; `None` if there are none.
    #[must_use]
    pub fn nth(&self, n: u32) -> Option<Drawn> {
        let total: u64 = self.weights.iter().map(|w| w.1).sum();
        if total == 0 || self.gap == 0 {
            return None;
        }
        let mut rng = Rng::new(self.seed.wrapping_add(u64::from(n)));
        let mut at = rng.below(total);
        let found = self.weights.iter().find(|(_, weight)| {
            let mine = at < *weight;
            at = at.saturating_sub(*weight);
            mine
        });
        Some(Drawn {
            fault: found?.0,
            node: rng.index(2),
            gap: rng.range(self.gap / 10, self.gap * 2),
            rng,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_in_what_they_enable() {
        let mut seen = vec![0; Fault::ALL.len()];
        for seed in 0..500 {
            let fates = Fates::draw(&mut Rng::new(seed), 1);
            for (fault, _) in fates.weights {
                seen[fault as usize] += 1;
            }
        }
        assert!(seen.iter().all(|&n| n > 5 && n < 450), "{seen:?}");
    }

    #[test]
    fn a_fault_follows_from_its_number_alone() {
        let fates = Fates::draw(&mut Rng::new(7), 1);
        let tell = |n| fates.nth(n).map(|d| (d.fault, d.node, d.gap));
        let forward: Vec<_> = (0..50).map(tell).collect();
        let backward: Vec<_> = (0..50).rev().map(tell).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        let first = forward[0];
        assert!(forward.iter().any(|d| *d != first));
    }
}
