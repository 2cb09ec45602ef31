//! What a seed decides once, before the run: shape of the pair, timing, temperament of its world.

use crate::disk::Discard;
use crate::fault::Fates;
use crate::growth::Small;
use crate::places::Places;
use crate::rng::Rng;
use crate::stamp::SECTOR;
use crate::world::Time;
use replication::api::{
    FencingConfig, Mirroring, OnCongestion, OnIoError, OnNoData, Protocol, ResyncConfig,
    ResyncLimits, SnapshotPolicy, Timers, Trouble,
};
use replication::ondisk::{Layout, PAGE};
use replication::wire::MAX_PAYLOAD;

/// One replicated volume.
#[derive(Debug, Clone, Copy)]
pub struct VolumePlan {
    /// The sectors that clients use.
    pub places: Places,
    /// Smallest unit of a request, in bytes.
    pub block_size: u32,
    /// Whether its metadata has a disk of its own.
    pub external: bool,
    /// Pages of 4 KiB that the disk with the metadata has more than needed.
    pub slack: u64,
    /// The volume whose resync goes first.
    pub resync_after: Option<u16>,
    /// It is small at first, and grows.
    pub small: Option<Small>,
    /// What each node does for the old content of a resync's target; off unless a run is one with snapshots.
    pub snapshot: [SnapshotPolicy; 2],
    /// Pages that are set aside for that.
    pub reserve: u64,
}

impl VolumePlan {
    /// Bytes of the volume.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.places.volume() as u64 * SECTOR
    }

    /// Bytes that are set aside for a snapshot.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve * PAGE as u64
    }

    /// Bytes of the disk that holds its data, and of the one for its metadata if that is another.
    #[must_use]
    pub fn disks(&self) -> (u64, Option<u64>) {
        let area = Layout::area_bytes_for(self.bytes()) + (self.slack + self.reserve) * PAGE as u64;
        if self.external {
            return (self.bytes(), Some(area.max(SMALLEST)));
        }
        let fits = |pages: &u64| {
            let bytes = self.bytes() + area + pages * PAGE as u64;
            bytes >= SMALLEST
                && Layout::internal(bytes, Some(self.bytes()))
                    .and_then(|layout| layout.with_reserve(self.reserve_bytes()))
                    .is_ok_and(|layout| layout.volume_bytes == self.bytes())
        };
        // Large volumes begin and end at round numbers.
        let more = (0..1000).find(fits).unwrap_or(0);
        (self.bytes() + area + more * PAGE as u64, None)
    }
}

/// Bytes of the smallest disk: what is looked at before metadata is created.
const SMALLEST: u64 = 64 << 10;
/// Sectors of an extent of the activity log.
const EXTENT: usize = 8192;

/// A small volume, or (seldom, since it is slow) one of several extents.
fn places(rng: &mut Rng) -> Places {
    if rng.one_in(16) {
        let island = rng.pick(&[16, 32, 64]);
        return Places::islands(rng.range(2, 5) as usize, island, EXTENT);
    }
    Places::all(8 * rng.pick(&[2, 5, 16, 16, 33, 64, 128]))
}

/// Half of the seeds by protocol C; of the others half with limits that are soon reached.
fn mirroring(rng: &mut Rng) -> Mirroring {
    let protocol = rng.pick(&[Protocol::C, Protocol::C, Protocol::A, Protocol::B]);
    let policies: &[OnCongestion] = match protocol {
        Protocol::A => &[
            OnCongestion::Block,
            OnCongestion::PullAhead,
            OnCongestion::PullAhead,
            OnCongestion::Disconnect,
        ],
        Protocol::B => &[OnCongestion::Block, OnCongestion::Disconnect],
        Protocol::C => &[
            OnCongestion::Block,
            OnCongestion::Block,
            OnCongestion::Block,
            OnCongestion::Disconnect,
        ],
    };
    Mirroring {
        protocol,
        on_congestion: rng.pick(policies),
        congestion_fill: rng.pick(&[16 << 10, 64 << 10, 64 << 10, 2 << 20]),
        congestion_extents: rng.pick(&[None, None, None, Some(1), Some(2)]),
    }
}

/// Who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialer {
    /// The node with this index; the other only listens.
    Node(usize),
    /// Both.
    Both,
}

/// What the disks hold at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Both disks are blank.
    Blank,
    /// One node's disks hold data, the other's are blank.
    DataOn(usize),
}

/// Everything fixed for a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The volumes.
    pub volumes: Vec<VolumePlan>,
    /// The engines' times.
    pub timers: Timers,
    /// What the engines do about failed disks.
    pub trouble: Trouble,
    /// One-way delay of the network, in microseconds.
    pub net_delay: (Time, Time),
    /// Duration of a disk read or write.
    pub disk_delay: (Time, Time),
    /// Duration of a flush.
    pub flush_delay: (Time, Time),
    /// Bytes a direction of the connection takes before its sender must wait.
    pub window: usize,
    /// Pages of each node's pool.
    pub pool_pages: u32,
    /// Client requests an engine takes at once.
    pub max_requests: u16,
    /// Number of clients.
    pub clients: usize,
    /// Requests a client has outstanding at most; 0: clients do nothing by themselves.
    pub depth: usize,
    /// Whether clients send what was unanswered again after reconnecting, as QEMU does.
    pub retries: bool,
    /// What each node's disks do with a discard.
    pub discard: [Discard; 2],
    /// Who dials.
    pub dialer: Dialer,
    /// Whether a pump looks for the peer until it is told to close; else until an attempt or the
    /// connection ends, when the engine must ask again.
    pub sticky: bool,
    /// Whether a new incoming connection replaces a standing one (else it is refused).
    pub replace_link: bool,
    /// What is on the disks at first.
    pub start: Start,
    /// Sectors that a disk writes wholly or not at all: 1 or 8.
    pub atom: usize,
    /// Factor of all pauses of clients, operator and fate: a slow world sees what engines do when they are idle.
    pub pace: u64,
    /// What breaks.
    pub fates: Fates,
    /// How each node brings the other in sync.
    pub resync: [ResyncConfig; 2],
    /// When writes are answered.
    pub mirroring: Mirroring,
    /// What is done when the peer is lost; dont-care unless a run is one with fencing.
    pub fencing: FencingConfig,
    /// Whether the operator may force a node whose peer has newer data.
    pub reckless: bool,
    /// Mean time between the operator's thoughts; 0: there is none.
    pub operator_gap: Time,
}

impl Plan {
    /// The plan of a random run.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let volume = |rng: &mut Rng| VolumePlan {
            places: places(rng),
            block_size: rng.pick(&[512, 512, 4096]),
            external: rng.percent(30),
            slack: rng.pick(&[0, 1, 7]),
            resync_after: None,
            small: None,
            snapshot: [SnapshotPolicy::Off; 2],
            reserve: 0,
        };
        let resync = |rng: &mut Rng| ResyncConfig {
            limits: ResyncLimits {
                min_rate: rng.pick(&[None, None, Some(64 << 10)]),
                max_rate: rng.pick(&[None, None, None, Some(16 << 20)]),
            },
            csums: rng.percent(40),
            rs_discard: rng.percent(80),
            max_parallel: rng.pick(&[None, None, Some(1)]),
        };
        let chained = rng.percent(20);
        let pace = rng.pick(&[1, 1, 1, 1, 8, 30]);
        let timeout = rng.pick(&[100_000, 300_000, 1_000_000]);
        let dialer = rng.pick(&[Dialer::Node(0), Dialer::Node(1), Dialer::Both]);
        let net = rng.pick(&[30, 200, 1_000, 5_000]);
        let net_delay = (net, (net * rng.pick(&[1, 2, 8])).min(timeout / 10).max(net));
        // The largest frame passes well within the timeout: a network that cannot do that needs a longer one.
        let window = 4 * u64::from(MAX_PAYLOAD) * net_delay.1 / timeout;
        let disk = rng.pick(&[20, 150, 1_500]);
        let discard = |rng: &mut Rng| {
            if rng.percent(65) {
                Discard::Zeroes
            } else {
                Discard::Ignore
            }
        };
        let mut plan = Self {
            volumes: (0..rng.pick(&[1, 1, 2, 3]))
                .map(|n: u16| VolumePlan {
                    resync_after: n.checked_sub(1).filter(|_| chained),
                    ..volume(rng)
                })
                .collect(),
            timers: Timers {
                timeout,
                ping_interval: timeout / 3,
                connect_interval: rng.pick(&[20_000, 100_000, 400_000]),
            },
            trouble: Trouble {
                on_io_error: if rng.one_in(12) {
                    OnIoError::PassOn
                } else {
                    OnIoError::Detach
                },
                on_no_data: if rng.one_in(8) {
                    OnNoData::IoError
                } else {
                    OnNoData::SuspendIo
                },
                disk_timeout: rng.pick(&[0, timeout / 2, timeout, timeout * 3]),
            },
            net_delay,
            disk_delay: (disk, disk * rng.pick(&[2, 10])),
            flush_delay: (disk * 2, disk * rng.pick(&[4, 20])),
            window: rng.pick(&[6_000, 40_000, 300_000]).max(window as usize),
            pool_pages: rng.pick(&[512, 512, 1024]),
            max_requests: rng.pick(&[64, 256]),
            clients: rng.pick(&[1, 2, 3]),
            depth: rng.pick(&[1, 4, 12, 30]),
            retries: rng.coin(),
            discard: [discard(rng), discard(rng)],
            dialer,
            sticky: rng.percent(70) || dialer == Dialer::Both,
            replace_link: rng.coin(),
            start: rng.pick(&[
                Start::Blank,
                Start::Blank,
                Start::DataOn(0),
                Start::DataOn(1),
            ]),
            atom: rng.pick(&[1, 1, 8]),
            resync: [resync(rng), resync(rng)],
            pace,
            fates: Fates::draw(rng, pace),
            reckless: rng.percent(20),
            operator_gap: rng.pick(&[20_000, 100_000]) * pace.min(8),
            mirroring: mirroring(rng),
            fencing: FencingConfig::default(),
        };
        if rng.one_in(10) {
            let extents = rng.range(3, 5) as usize;
            plan.let_grow(extents, rng.range(2, extents as u64 - 1) as usize);
        }
        plan
    }

    /// A calm world for a scripted scenario: one blank volume of `blocks` blocks of 4 KiB, no
    /// clients, faults or operator of its own.
    #[must_use]
    pub fn scripted(blocks: usize) -> Self {
        Self {
            volumes: vec![VolumePlan {
                places: Places::all(blocks * 8),
                block_size: 512,
                external: false,
                slack: 0,
                resync_after: None,
                small: None,
                snapshot: [SnapshotPolicy::Off; 2],
                reserve: 0,
            }],
            timers: Timers {
                timeout: 300_000,
                ping_interval: 100_000,
                connect_interval: 50_000,
            },
            trouble: Trouble::default(),
            net_delay: (100, 200),
            disk_delay: (50, 200),
            flush_delay: (100, 400),
            window: 300_000,
            pool_pages: 512,
            max_requests: 64,
            clients: 2,
            depth: 0,
            retries: false,
            discard: [Discard::Zeroes; 2],
            dialer: Dialer::Node(0),
            sticky: true,
            replace_link: false,
            start: Start::Blank,
            atom: 1,
            pace: 1,
            fates: Fates::none(),
            resync: [ResyncConfig::default(); 2],
            reckless: false,
            operator_gap: 0,
            mirroring: Mirroring::default(),
            fencing: FencingConfig::default(),
        }
    }

    /// A calm world whose volume has 8 MiB less the metadata at first, and 20 MiB when it has grown.
    #[must_use]
    pub fn growing() -> Self {
        let mut plan = Self::scripted(16);
        plan.let_grow(5, 2);
        plan
    }

    /// The first volume grows from so many extents to more.
    fn let_grow(&mut self, extents: usize, first: usize) {
        let (places, small) = Small::of(extents, first);
        self.volumes[0] = VolumePlan {
            places,
            external: false,
            slack: 0,
            small: Some(small),
            ..self.volumes[0]
        };
    }

    /// Whether what was metadata is compared: not if resyncs may pass over what is a discard for one disk.
    #[must_use]
    pub fn compares_scars(&self) -> bool {
        !self.discards_differ()
    }

    /// Whether a discard may leave the two replicas different for good.
    #[must_use]
    pub fn discards_differ(&self) -> bool {
        self.discard[0] != self.discard[1]
    }
}
