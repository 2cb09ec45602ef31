//! What a monitoring system asks: `/metrics` in Prometheus' text format, and `/healthz`.
//!
//! Names and units follow Prometheus' conventions: base units (`_bytes`, `_seconds`), `_total` for what only grows since the
//! start. A state is a family with one sample for each state there is, 1 for the present one and 0 for the others, so that
//! alerts name states and not numbers. docs/HTTP.md lists the families.

mod health;
mod page;
#[cfg(test)]
mod tests;

pub use health::health;

use crate::status::{
    ClientPhase, DiskInfo, NicInfo, NodeInfo, connection_name, disk_state_name, policy_name,
    replication_name, role_name,
};
use core::fmt::{self, Write};
use page::{Page, volume};
use replication::api::{
    ConnectionState, DiskState, OwnFence, Progress, ReplicationState, Role, Status, VolumeStatus,
};
use replication::latency::{Histogram, Latencies};

/// What the document is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The engine's part.
    pub status: &'a Status,
    /// The node's.
    pub node: &'a NodeInfo<'a>,
    /// Disks in use.
    pub disks: &'a [DiskInfo<'a>],
    /// Network cards in use.
    pub nics: &'a [NicInfo<'a>],
    /// Of each volume, by its index.
    pub latencies: &'a [(u16, &'a Latencies)],
    /// Datagrams of the management network that were dropped; `None` if there are none.
    pub datagrams_dropped: Option<u64>,
    /// Answers of the web server, by code.
    pub http: &'a [(u16, u64)],
}

/// Bytes that [`write`] takes at most, for so many volumes.
#[must_use]
pub const fn bytes_max(volumes: usize) -> usize {
    (24 << 10) + volumes * (20 << 10)
}

const ROLES: [Role; 3] = [Role::Unknown, Role::Secondary, Role::Primary];
const CONNECTIONS: [ConnectionState; 5] = [
    ConnectionState::StandAlone,
    ConnectionState::Unconnected,
    ConnectionState::Connecting,
    ConnectionState::Handshake,
    ConnectionState::Connected,
];
const REPLICATIONS: [ReplicationState; 12] = [
    ReplicationState::Off,
    ReplicationState::Established,
    ReplicationState::WFBitMapS,
    ReplicationState::WFBitMapT,
    ReplicationState::SyncSource,
    ReplicationState::SyncTarget,
    ReplicationState::PausedSyncS,
    ReplicationState::PausedSyncT,
    ReplicationState::VerifyS,
    ReplicationState::VerifyT,
    ReplicationState::Ahead,
    ReplicationState::Behind,
];

/// Writes the document.
///
/// # Errors
/// Those of `out`.
pub fn write(sample: &Sample<'_>, out: &mut dyn Write) -> fmt::Result {
    let mut page = Page { out };
    node(&mut page, sample)?;
    pair(&mut page, sample.status)?;
    fencing(&mut page, sample.status)?;
    clients(&mut page, sample)?;
    volumes(&mut page, &sample.status.volumes)?;
    progress(&mut page, &sample.status.volumes)?;
    latencies(&mut page, sample.latencies)?;
    devices(&mut page, sample)
}

fn node(page: &mut Page<'_>, sample: &Sample<'_>) -> fmt::Result {
    let (status, node) = (sample.status, sample.node);
    page.gauge(
        "node_info",
        "What does not change while the node runs; always 1.",
    )?;
    let labels = format_args!(
        "version=\"{}\",node=\"{}\",peer=\"{}\",resource=\"{}\",protocol=\"{}\",fencing=\"{}\"",
        page::Escaped(node.version),
        status.node,
        status.peer,
        status.resource,
        status.protocol.letter(),
        policy_name(status.fencing_policy)
    );
    page.sample("node_info", labels, 1)?;
    page.gauge("uptime_seconds", "Time since the node started.")?;
    page.seconds("uptime_seconds", node.uptime)?;
    for (name, help, usage) in [
        ("memory", "the machine's memory", node.memory),
        (
            "buffers",
            "the pool of buffers for clients' and the peer's data",
            node.pool,
        ),
    ] {
        for (what, value) in [("used", usage.used), ("size", usage.total)] {
            let mut full: heapless::String<32> = heapless::String::new();
            write!(full, "{name}_{what}_bytes")?;
            let first = if what == "used" {
                "Part in use of"
            } else {
                "Size of"
            };
            page.family(&full, "gauge", format_args!("{first} {help}."))?;
            page.plain(&full, value)?;
        }
    }
    page.counter(
        "data_path_allocations_total",
        "How often the data path has allocated memory; it does so for connections and commands, not for requests.",
    )?;
    page.plain("data_path_allocations_total", node.allocations)?;
    page.flag(
        "crashed",
        "Whether a crash of this node is on record (crash show, crash clear).",
        node.crashed,
    )
}

fn pair(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    page.gauge(
        "role",
        "The role of this node, and of the peer as it last said.",
    )?;
    for (of, role) in [("self", status.role), ("peer", status.peer_role)] {
        for other in ROLES {
            let labels = format_args!("of=\"{of}\",role=\"{}\"", role_name(other));
            page.sample("role", labels, u64::from(other == role))?;
        }
    }
    page.gauge("connection_state", "The connection to the peer.")?;
    for state in CONNECTIONS {
        let labels = format_args!("state=\"{}\"", connection_name(state));
        page.sample(
            "connection_state",
            labels,
            u64::from(state == status.connection),
        )?;
    }
    page.flag("serving", "Whether clients are served.", status.serving)?;
    page.flag(
        "waiting",
        "Whether the node waits for something or was refused something; reason in /status says what.",
        !status.reason.is_empty(),
    )?;
    page.gauge(
        "suspended",
        "Whether clients' requests are held back for that reason.",
    )?;
    for (reason, held) in [
        ("user", status.suspended.user),
        ("no_data", status.suspended.no_data),
        ("fencing", status.suspended.fencing),
    ] {
        page.sample(
            "suspended",
            format_args!("reason=\"{reason}\""),
            held.into(),
        )?;
    }
    page.flag(
        "auto_promote",
        "Whether clients that wait are reason enough to become Primary.",
        status.auto_promote,
    )?;
    page.flag(
        "promotion_denied",
        "Whether the last promotion was denied, and the node neither was nor saw a Primary since.",
        status.denied.is_some(),
    )
}

fn fencing(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let fencing = &status.fencing;
    let record = &fencing.record;
    page.gauge("fence_state", "This node's fence of the peer.")?;
    let own = match record.own {
        OwnFence::None => "none",
        OwnFence::Requested(_) => "requested",
        OwnFence::Held(..) => "held",
        OwnFence::Releasing(_) => "releasing",
    };
    for state in ["none", "requested", "held", "releasing"] {
        page.sample(
            "fence_state",
            format_args!("state=\"{state}\""),
            u64::from(state == own),
        )?;
    }
    page.gauge("fence_episode", "The number of that fence; 0 without one.")?;
    page.plain("fence_episode", record.own.episode().unwrap_or(0))?;
    page.gauge(
        "fence_granted",
        "Whether that party has granted this node's fence, which is held.",
    )?;
    let (mut peer, mut arbiter) = (false, false);
    if let OwnFence::Held(_, by) = record.own {
        (peer, arbiter) = (by.peer, by.arbiter);
    }
    for (by, granted) in [("peer", peer), ("arbiter", arbiter)] {
        page.sample("fence_granted", format_args!("by=\"{by}\""), granted.into())?;
    }
    page.gauge(
        "fenced_by_episode",
        "The peer's episode by which this node is fenced; 0 if it is not.",
    )?;
    page.plain("fenced_by_episode", record.mark.unwrap_or(0))?;
    page.gauge(
        "fence_awaits",
        "Whether the worker of fences waits for that.",
    )?;
    for (what, waits) in [
        ("peer", fencing.awaits_peer),
        ("arbiter", fencing.awaits_arbiter),
        ("disks", fencing.saving),
    ] {
        page.sample(
            "fence_awaits",
            format_args!("what=\"{what}\""),
            waits.into(),
        )?;
    }
    page.flag(
        "fence_frozen",
        "Whether clients wait until the fence is decided.",
        fencing.frozen,
    )?;
    page.flag(
        "fence_overdue",
        "Whether they wait longer than fence-timeout.",
        fencing.overdue,
    )?;
    page.flag(
        "fence_promoting",
        "Whether a promotion waits for the fence.",
        fencing.promoting,
    )?;
    page.gauge(
        "fence_seen_episode",
        "The highest episode that this node has seen.",
    )?;
    page.plain("fence_seen_episode", record.seen)?;
    page.gauge(
        "fence_released_episode",
        "The peer's last episode that is known to have been given back.",
    )?;
    page.plain("fence_released_episode", record.released)
}

fn clients(page: &mut Page<'_>, sample: &Sample<'_>) -> fmt::Result {
    let clients = sample.node.clients;
    page.gauge("clients", "NBD connections, by where they stand.")?;
    for phase in [
        ClientPhase::Held,
        ClientPhase::Handshake,
        ClientPhase::Transmission,
    ] {
        let labels = format_args!("phase=\"{}\"", crate::status::phase_name(phase));
        let in_phase = clients.iter().filter(|client| client.phase == phase);
        page.sample("clients", labels, in_phase.count() as u64)?;
    }
    page.gauge(
        "clients_waiting",
        "Clients that are connected and not greeted, since this node does not serve.",
    )?;
    page.plain("clients_waiting", sample.status.waiting_clients.into())?;
    page.gauge(
        "requests_in_flight",
        "Requests of clients that are not answered yet.",
    )?;
    for of in &sample.status.volumes {
        let here = clients
            .iter()
            .filter(|client| client.volume == Some(of.index));
        let in_flight = here.map(|client| u64::from(client.in_flight)).sum();
        page.sample("requests_in_flight", volume!(of.index), in_flight)?;
    }
    Ok(())
}

/// A family of a number for each volume.
type OfVolume = (
    &'static str,
    &'static str,
    &'static str,
    fn(&VolumeStatus) -> u64,
);

const OF_VOLUMES: [OfVolume; 15] = [
    (
        "volume_size_bytes",
        "gauge",
        "Size; 0 while it is not known.",
        |v| v.size,
    ),
    (
        "volume_out_of_sync_bytes",
        "gauge",
        "What differs or may differ from the peer's copy.",
        |v| v.out_of_sync,
    ),
    (
        "volume_read_bytes_total",
        "counter",
        "What clients have read here.",
        |v| v.read_bytes,
    ),
    (
        "volume_written_bytes_total",
        "counter",
        "What clients have written here.",
        |v| v.written_bytes,
    ),
    (
        "volume_received_bytes_total",
        "counter",
        "What the peer's writes have brought here.",
        |v| v.received_bytes,
    ),
    (
        "volume_lag_bytes",
        "gauge",
        "What clients were answered for and the peer has not acknowledged (protocols A and B).",
        |v| v.lag_bytes,
    ),
    (
        "volume_activity_log_hot_extents",
        "gauge",
        "Extents of 4 MiB that the activity log holds hot.",
        |v| v.activity_hot.into(),
    ),
    (
        "volume_activity_log_limit_extents",
        "gauge",
        "Extents that it can hold hot; 0 without an activity log.",
        |v| v.activity_limit.into(),
    ),
    (
        "volume_resync_waiting",
        "gauge",
        "Whether a resync or verify waits for something; waits in /status says what.",
        |v| u64::from(!v.waits.is_empty()),
    ),
    (
        "volume_snapshot_used_bytes",
        "gauge",
        "Old content in the reserve for a resync's target.",
        |v| v.snapshot.map_or(0, |snapshot| snapshot.used),
    ),
    (
        "volume_snapshot_room_bytes",
        "gauge",
        "Room in that reserve; 0 without one in use.",
        |v| v.snapshot.map_or(0, |snapshot| snapshot.room),
    ),
    (
        "volume_verify_running",
        "gauge",
        "Whether a verify of this node runs.",
        |v| u64::from(v.verify.is_some_and(|verify| verify.running)),
    ),
    (
        "volume_verify_differing_bytes",
        "gauge",
        "What the last verify of this node, or the running one, has found to differ.",
        |v| v.verify.map_or(0, |verify| verify.differing_blocks * BLOCK),
    ),
    (
        "volume_verify_repaired_bytes",
        "gauge",
        "What of that was copied to the peer.",
        |v| v.verify.map_or(0, |verify| verify.repaired_blocks * BLOCK),
    ),
    (
        "volume_verify_unreadable_bytes",
        "gauge",
        "What it could not compare, since a disk could not read it.",
        |v| v.verify.map_or(0, |verify| verify.unreadable_bytes),
    ),
];

/// The block of a verify.
const BLOCK: u64 = 4096;

fn volumes(page: &mut Page<'_>, volumes: &[VolumeStatus]) -> fmt::Result {
    type Disk = fn(&VolumeStatus) -> DiskState;
    let disks: [(&str, &str, Disk); 2] = [
        ("volume_disk_state", "This node's disk.", |v| v.disk),
        ("volume_peer_disk_state", "The peer's disk.", |v| {
            v.peer_disk
        }),
    ];
    for (name, help, state) in disks {
        page.gauge(name, help)?;
        for of in volumes {
            for other in DiskState::ALL {
                let (index, word) = (of.index, disk_state_name(other));
                let labels = format_args!("volume=\"vol{index}\",state=\"{word}\"");
                page.sample(name, labels, u64::from(other == state(of)))?;
            }
        }
    }
    page.gauge("volume_replication_state", "What the replication does.")?;
    for of in volumes {
        for other in REPLICATIONS {
            let (index, word) = (of.index, replication_name(other));
            let labels = format_args!("volume=\"vol{index}\",state=\"{word}\"");
            let is = u64::from(other == of.replication);
            page.sample("volume_replication_state", labels, is)?;
        }
    }
    for (name, kind, help, value) in OF_VOLUMES {
        page.family(name, kind, format_args!("{help}"))?;
        for of in volumes {
            page.sample(name, volume!(of.index), value(of))?;
        }
    }
    Ok(())
}

/// Of a running resync or verify; which of them, the replication state says. No samples of volumes that have none.
fn progress(page: &mut Page<'_>, volumes: &[VolumeStatus]) -> fmt::Result {
    type Value = fn(&Progress) -> Option<u64>;
    let families: [(&str, &str, Value); 5] = [
        (
            "volume_resync_done_bytes",
            "What the running resync or verify has done.",
            |p| Some(p.done),
        ),
        (
            "volume_resync_size_bytes",
            "What it has to do, the done included.",
            |p| Some(p.total),
        ),
        (
            "volume_resync_rate_bytes_per_second",
            "How fast it is now.",
            |p| Some(p.rate_now),
        ),
        (
            "volume_resync_remaining_seconds",
            "Time that the rest takes at the rate of the last 18 s; not there while nothing moves.",
            |p| p.eta_seconds,
        ),
        (
            "volume_resync_stalled",
            "Whether nothing moves, although nothing is waited for.",
            |p| Some(p.stalled.into()),
        ),
    ];
    for (name, help, value) in families {
        page.gauge(name, help)?;
        for of in volumes {
            if let Some(value) = of.progress.as_ref().and_then(value) {
                page.sample(name, volume!(of.index), value)?;
            }
        }
    }
    Ok(())
}

fn latencies(page: &mut Page<'_>, latencies: &[(u16, &Latencies)]) -> fmt::Result {
    type Phase = fn(&Latencies) -> &Histogram;
    let families: [(&str, &str, Phase); 4] = [
        (
            "client_request_duration_seconds",
            "Requests of this node's clients, from their admission to the answer.",
            |l| &l.request,
        ),
        (
            "disk_request_duration_seconds",
            "Reads and writes of this node's disk, for clients, the peer and resyncs.",
            |l| &l.disk,
        ),
        (
            "disk_flush_duration_seconds",
            "Flushes of this node's disk.",
            |l| &l.flush,
        ),
        (
            "peer_request_duration_seconds",
            "What this node's clients want of the peer, from sending it to its answer.",
            |l| &l.peer,
        ),
    ];
    for (name, help, histogram) in families {
        page.family(name, "histogram", format_args!("{help}"))?;
        for (index, latencies) in latencies {
            page.histogram(name, *index, histogram(latencies))?;
        }
    }
    Ok(())
}

fn devices(page: &mut Page<'_>, sample: &Sample<'_>) -> fmt::Result {
    type OfDisk = (&'static str, &'static str, fn(&DiskInfo<'_>) -> u64);
    let families: [OfDisk; 3] = [
        (
            "disk_read_bytes_total",
            "What was read from the disk.",
            |d| d.read_bytes,
        ),
        (
            "disk_written_bytes_total",
            "What was written to the disk.",
            |d| d.written_bytes,
        ),
        (
            "disk_errors_total",
            "Requests that the disk has failed.",
            |d| d.errors,
        ),
    ];
    for (name, help, value) in families {
        page.counter(name, help)?;
        for disk in sample.disks {
            let Some(of) = disk.volume else { continue };
            let serial = page::Escaped(disk.serial);
            page.sample(
                name,
                format_args!("volume=\"vol{of}\",serial=\"{serial}\""),
                value(disk),
            )?;
        }
    }
    page.gauge("nic_up", "Whether the network card has a link.")?;
    for nic in sample.nics {
        page.sample(
            "nic_up",
            format_args!("nic=\"{}\"", nic.index),
            nic.link_up.into(),
        )?;
    }
    type OfNic = (&'static str, &'static str, fn(&NicInfo<'_>) -> u64);
    let families: [OfNic; 5] = [
        (
            "nic_received_bytes_total",
            "Bytes that the network card has received.",
            |n| n.received_bytes,
        ),
        (
            "nic_received_frames_total",
            "Frames that the network card has received.",
            |n| n.received_frames,
        ),
        (
            "nic_sent_bytes_total",
            "Bytes that the network card has sent.",
            |n| n.sent_bytes,
        ),
        (
            "nic_sent_frames_total",
            "Frames that the network card has sent.",
            |n| n.sent_frames,
        ),
        (
            "nic_dropped_frames_total",
            "Received frames that were dropped.",
            |n| n.dropped_frames,
        ),
    ];
    for (name, help, value) in families {
        page.counter(name, help)?;
        for nic in sample.nics {
            page.sample(name, format_args!("nic=\"{}\"", nic.index), value(nic))?;
        }
    }
    if let Some(dropped) = sample.datagrams_dropped {
        let name = "management_datagrams_dropped_total";
        page.counter(
            name,
            "Datagrams on the management network that were not believed.",
        )?;
        page.plain(name, dropped)?;
    }
    page.counter("http_responses_total", "Answers of this web server.")?;
    for (code, count) in sample.http {
        page.sample(
            "http_responses_total",
            format_args!("code=\"{code}\""),
            *count,
        )?;
    }
    Ok(())
}
