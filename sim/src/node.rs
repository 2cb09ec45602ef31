//! A simulated appliance: an engine, its memory and disks, its end of the connection.

use crate::disk::{Content, Disk, Shape};
use crate::moment::Appointment;
use crate::network::Endpoint;
use crate::places::Places;
use crate::plan::Plan;
use crate::schedule::Occurrence;
use crate::stamp::{SECTOR, Value};
use crate::trace::letter;
use crate::world::Time;
use replication::api::{EngineConfig, MetadataPlace, Name, VolumeConfig};
use replication::buf::{Pool, VecMemory};
use replication::engine::Engine;
use replication::lineage::Policies;
use std::fmt;
use std::ops::Range;

/// One of the two nodes.
pub struct Node {
    /// The engine; `None` while the node is without power.
    pub(crate) engine: Option<Engine>,
    pub(crate) pool: Pool,
    pub(crate) memory: VecMemory,
    /// The volumes' disks, then for each volume the disk of its metadata (without sectors where that lies
    /// on the volume's own).
    pub(crate) disks: Vec<Disk>,
    /// Bytes of the volumes' disks as the node sees them.
    pub(crate) disk_bytes: Vec<u64>,
    /// What clients were told of each volume's size.
    pub(crate) told: Vec<u64>,
    /// Counts the node's lives: what was meant for an earlier one is void.
    pub(crate) boot: u32,
    /// World time minus this is the node's own clock.
    pub(crate) clock_base: Time,
    pub(crate) paused_since: Option<Time>,
    /// What happened while the node was paused.
    pub(crate) deferred: Vec<Occurrence>,
    pub(crate) tick: u64,
    pub(crate) tick_at: Option<Time>,
    /// Whether clients are let in.
    pub(crate) serving: bool,
    pub(crate) link: Option<Endpoint>,
    pub(crate) want_link: bool,
    /// The engine waits for the report of a link that it closed.
    pub(crate) closing: bool,
    pub(crate) dialling: Option<u64>,
    pub(crate) reader_stalled: bool,
    /// Actions until the node crashes in the middle of a step, and whether its disks lose power too.
    pub(crate) crash_after: Option<(u64, bool)>,
    /// A crash that waits for its moment.
    pub(crate) crash_when: Option<Appointment>,
    /// The same, counted from the next boot.
    pub(crate) crash_at_boot: Option<(u64, bool)>,
    /// The next frame received is damaged, at a place that follows from this.
    pub(crate) garbles: Option<u64>,
    /// Instead of the next frame of this kind the connection ends.
    pub(crate) drops_kind: Option<u8>,
    /// The same with every frame of this kind, until then.
    pub(crate) drops_kind_until: Option<(u8, Time)>,
    /// The next frame sent is cut short by the connection's end.
    pub(crate) truncates: bool,
    /// Its peer takes it for another release until then.
    pub(crate) other_version_until: Time,
    /// How far its clock has jumped ahead in this life.
    pub(crate) clock_ahead: Time,
    pub(crate) disk_slow_until: Time,
    /// When the last operation that was begun meanwhile is done.
    pub(crate) disk_late_until: Time,
    pub(crate) disk_hangs_until: Time,
    pub(crate) disk_fails_until: Time,
    /// Its disks as they were some time ago.
    pub(crate) copies: Vec<Vec<Value>>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// A node without power, its disks blank.
    #[must_use]
    pub fn new(index: usize, plan: &Plan, content: &Content) -> Self {
        let disk = |volume: usize, places: Places, bytes: u64, scar: Range<usize>| {
            let shape = Shape {
                volume,
                places,
                meta: (bytes / SECTOR) as usize - places.volume(),
                scar: (scar.start, scar.end),
                discard: plan.discard[index],
                atom: plan.atom,
            };
            Disk::new(shape, content.clone())
        };
        let volumes = plan.volumes.iter().enumerate();
        let data = volumes
            .clone()
            .map(|(i, v)| disk(i, v.places, v.disks().0, v.scar()));
        let meta = volumes.map(|(i, v)| disk(i, Places::all(0), v.disks().1.unwrap_or(0), 0..0));
        let disks: Vec<Disk> = data.chain(meta).collect();
        Self {
            copies: disks.iter().map(Disk::snapshot).collect(),
            disks,
            disk_bytes: plan.volumes.iter().map(|v| v.at_first().1).collect(),
            told: vec![0; plan.volumes.len()],
            engine: None,
            pool: Pool::new(plan.pool_pages),
            memory: VecMemory::new(plan.pool_pages),
            boot: 0,
            clock_base: 0,
            paused_since: None,
            deferred: Vec::new(),
            tick: 0,
            tick_at: None,
            serving: false,
            link: None,
            want_link: false,
            closing: false,
            dialling: None,
            reader_stalled: false,
            crash_after: None,
            crash_when: None,
            crash_at_boot: None,
            garbles: None,
            drops_kind: None,
            drops_kind_until: None,
            truncates: false,
            other_version_until: 0,
            clock_ahead: 0,
            disk_slow_until: 0,
            disk_late_until: 0,
            disk_hangs_until: 0,
            disk_fails_until: 0,
        }
    }

    /// Whether it has power and is not paused.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.engine.is_some() && self.paused_since.is_none()
    }

    /// Gives it power: a fresh engine that knows nothing.
    pub(crate) fn power_on(&mut self, index: usize, now: Time, seed: u64, plan: &Plan) {
        self.boot += 1;
        self.pool = Pool::new(plan.pool_pages);
        self.clock_base = now;
        self.clock_ahead = 0;
        self.tick_at = None;
        self.crash_after = self.crash_at_boot.take();
        self.told.fill(0);
        self.engine = Some(Engine::new(0, config(index, seed, plan, &self.disk_bytes)));
    }

    /// Takes its power: everything in memory is gone. The disks are the caller's business.
    pub(crate) fn power_off(&mut self) {
        self.engine = None;
        self.boot += 1;
        self.paused_since = None;
        self.deferred.clear();
        self.tick_at = None;
        self.serving = false;
        self.link = None;
        self.want_link = false;
        self.closing = false;
        self.dialling = None;
        self.reader_stalled = false;
        self.crash_after = None;
        self.garbles = None;
        self.drops_kind = None;
        self.drops_kind_until = None;
        self.truncates = false;
    }

    /// What this node's own clock shows at the world's time.
    pub(crate) fn local(&self, now: Time) -> Time {
        now - self.clock_base + self.clock_ahead
    }

    /// The world's time when this node's clock will show `local`.
    pub(crate) fn world_time(&self, local: Time) -> Time {
        local
            .saturating_sub(self.clock_ahead)
            .saturating_add(self.clock_base)
    }
}

/// A name that is known to fit.
fn name(text: &str) -> Name {
    let mut name = Name::new();
    for c in text.chars() {
        let _ = name.push(c);
    }
    name
}

fn config(index: usize, seed: u64, plan: &Plan, disks: &[u64]) -> EngineConfig {
    let mut volumes = heapless::Vec::new();
    for (i, v) in plan.volumes.iter().enumerate() {
        let volume = VolumeConfig {
            index: i as u16,
            block_size: v.block_size,
            disk_bytes: disks[i],
            metadata: match v.disks().1 {
                None => MetadataPlace::Internal,
                Some(disk_bytes) => MetadataPlace::External { disk_bytes },
            },
            size_limit: Some(v.at_first().0),
            can_discard: plan.discard[index] == crate::disk::Discard::Zeroes,
            can_write_zeroes: true,
            resync_after: v.resync_after,
            snapshot: v.snapshot[index],
            snapshot_reserve: v.reserve_bytes(),
        };
        let _ = volumes.push(volume);
    }
    EngineConfig {
        node: name(letter(index)),
        peer: name(letter(1 - index)),
        resource: name("r0"),
        volumes,
        timers: plan.timers,
        policies: Policies::default(),
        trouble: plan.trouble,
        resync: plan.resync[index],
        mirroring: plan.mirroring,
        fencing: plan.fencing,
        seed,
        max_requests: plan.max_requests,
    }
}
