//! `status` and `version` for people.

use super::{
    NodeInfo, Refusal, connection_name, disk_state_name, metadata_name, permille, phase_name,
    replication_name, role_name,
};
use crate::text::wrapped;
use crate::units::{Size, Span};
use core::fmt::{self, Write};
use replication::api::{
    DiskState, MetadataKind, Progress, SnapshotReport, SnapshotStage, Status, VerifyReport,
    VolumeStatus,
};

/// Characters of the progress bar.
const BAR_COLUMNS: u16 = 20;

/// What further lines about a volume begin with.
const INDENT: &str = "        ";

/// Writes the answer to `status`.
///
/// # Errors
/// Those of `out`.
pub fn text(status: &Status, node: &NodeInfo<'_>, out: &mut dyn Write) -> fmt::Result {
    let (me, peer) = (&status.node, &status.peer);
    let mine = worst(status, |volume| volume.disk);
    let theirs = worst(status, |volume| volume.peer_disk);
    writeln!(
        out,
        "{me}: {}/{}  {peer}: {}/{}  protocol {}",
        role_name(status.role),
        disk_state_name(mine),
        role_name(status.peer_role),
        disk_state_name(theirs),
        status.protocol.letter()
    )?;
    let serving = if status.serving {
        "serving"
    } else {
        "not serving"
    };
    writeln!(
        out,
        "resource {}  connection: {}  clients: {} ({serving})  up {}",
        status.resource,
        connection_name(status.connection),
        status.open_clients,
        Span(node.uptime)
    )?;
    if !status.reason.is_empty() {
        wrapped("", "! ", &status.reason, out)?;
    }
    super::fence::line(status, out)?;
    super::promotion::lines(status, node.uptime, out)?;
    suspended(status, out)?;
    if node.crashed {
        let text = "this node has crashed; 'crash show' tells how, 'crash clear' forgets it";
        wrapped("", "! ", text, out)?;
    }
    writeln!(
        out,
        "\n{:<7} {:>10}  {:<13} {:<13} {:<12} {:>11}",
        "volume", "size", "disk", "peer disk", "replication", "out of sync"
    )?;
    for volume in &status.volumes {
        self::volume(volume, out)?;
    }
    if !node.clients.is_empty() {
        writeln!(out)?;
        clients(node, out)?;
    }
    writeln!(
        out,
        "\nmemory {} of {}, buffers {} of {}",
        Size(node.memory.used),
        Size(node.memory.total),
        Size(node.pool.used),
        Size(node.pool.total)
    )
}

/// The worst state of any volume's disk, which is the node's.
fn worst(status: &Status, of: impl Fn(&VolumeStatus) -> DiskState) -> DiskState {
    let states = status.volumes.iter().map(of);
    states.min().unwrap_or(DiskState::Diskless)
}

/// Why clients get no answers, and what to do.
fn suspended(status: &Status, out: &mut dyn Write) -> fmt::Result {
    let reasons = [
        (
            status.suspended.user,
            "clients' requests are held back by 'suspend-io'; 'resume-io' lets them go on",
        ),
        (
            status.suspended.no_data,
            "clients' requests wait, since neither node has good data: attach a good disk, \
             connect to a peer that has one, or have them fail with 'resume-io'",
        ),
        (
            status.suspended.fencing,
            "clients' requests wait until it is decided whether this node may go on without its peer; \
             if the peer is surely off, 'resume-io' lets them go on",
        ),
    ];
    let mut holding = reasons.iter().filter(|(holds, _)| *holds);
    holding.try_for_each(|(_, text)| wrapped("", "! ", text, out))
}

fn volume(volume: &VolumeStatus, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "vol{:<4} {:>10}  {:<13} {:<13} {:<12} {:>11}",
        volume.index,
        Size(volume.size),
        disk_state_name(volume.disk),
        disk_state_name(volume.peer_disk),
        replication_name(volume.replication),
        Size(volume.out_of_sync)
    )?;
    if let Some(progress) = &volume.progress {
        self::progress(progress, out)?;
    }
    if !volume.waits.is_empty() {
        wrapped(INDENT, "waits: ", &volume.waits, out)?;
    } else if volume.progress.is_some_and(|progress| progress.stalled) {
        writeln!(
            out,
            "{INDENT}STALLED: nothing moves, and nothing is waited for; see 'log'"
        )?;
    }
    if let Some(report) = &volume.verify {
        verified(report, out)?;
    }
    match volume.current_uuid {
        0 => write!(out, "{INDENT}generation: none known")?,
        current => write!(out, "{INDENT}generation {current:016X}")?,
    }
    match volume.bitmap_uuid {
        0 => writeln!(out)?,
        bitmap => writeln!(out, ", peer left at {bitmap:016X}")?,
    }
    match volume.metadata {
        MetadataKind::None => {}
        kind => write!(out, "{INDENT}metadata {}", metadata_name(kind))?,
    }
    match (volume.metadata, volume.activity_limit) {
        (MetadataKind::None, _) => {}
        (_, 0) => writeln!(out)?,
        (_, limit) => writeln!(
            out,
            ", activity log {} of {limit} extents",
            volume.activity_hot
        )?,
    }
    if let Some(report) = &volume.snapshot {
        snapshot(report, out)?;
    }
    if volume.lag_bytes > 0 {
        writeln!(out, "{INDENT}the peer lags by {}", Size(volume.lag_bytes))?;
    }
    writeln!(
        out,
        "{INDENT}clients read {}, wrote {}; from peer {}",
        Size(volume.read_bytes),
        Size(volume.written_bytes),
        Size(volume.received_bytes)
    )
}

/// What the reserve for the old content of a resync's target is at.
fn snapshot(report: &SnapshotReport, out: &mut dyn Write) -> fmt::Result {
    let (used, room) = (Size(report.used), Size(report.room));
    match report.stage {
        SnapshotStage::Empty => writeln!(out, "{INDENT}snapshot: none, reserve of {room}"),
        SnapshotStage::Held => writeln!(
            out,
            "{INDENT}snapshot before-resync: held, reserve {used} of {room}"
        ),
        SnapshotStage::Stuck => writeln!(
            out,
            "{INDENT}snapshot before-resync: held, stuck, reserve {used} of {room}"
        ),
        SnapshotStage::RollingBack => writeln!(out, "{INDENT}snapshot: being rolled back, {used}"),
        SnapshotStage::RolledBack => {
            writeln!(out, "{INDENT}snapshot: the disk was rolled back to it")
        }
    }
}

/// What the last verify of this node has found.
fn verified(report: &VerifyReport, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{INDENT}verify: {} compared, ", Size(report.compared))?;
    match (report.differing_blocks, report.repaired_blocks) {
        (0, _) => write!(out, "no difference")?,
        (blocks, 0) => write!(out, "{blocks} blocks differ")?,
        (blocks, repaired) if blocks == repaired => write!(out, "{blocks} blocks repaired")?,
        (blocks, repaired) => write!(out, "{blocks} blocks differ, {repaired} repaired")?,
    }
    if report.unreadable_bytes > 0 {
        write!(out, ", {} unreadable", Size(report.unreadable_bytes))?;
    }
    if report.running || report.finished {
        return writeln!(out);
    }
    writeln!(out, "\n{INDENT}verify: stopped at byte {}", report.position)
}

/// ```text
/// [=========>..........] 48.8%  500 MiB of 1 GiB, 42s left
/// 12.5 MiB/s now, 11 MiB/s over 18s, 10 MiB/s on average
/// ```
fn progress(progress: &Progress, out: &mut dyn Write) -> fmt::Result {
    let permille = permille(progress);
    let filled = permille * BAR_COLUMNS / 1000;
    write!(out, "{INDENT}[")?;
    for column in 0..BAR_COLUMNS {
        out.write_char(match column {
            c if c < filled => '=',
            c if c == filled => '>',
            _ => '.',
        })?;
    }
    write!(
        out,
        "] {}.{}%  {} of {}",
        permille / 10,
        permille % 10,
        Size(progress.done),
        Size(progress.total)
    )?;
    match progress.eta_seconds {
        Some(seconds) => writeln!(out, ", {} left", Eta(seconds))?,
        None => writeln!(out)?,
    }
    match (progress.rate_now, progress.done) {
        (0, 0) => writeln!(out, "{INDENT}nothing moved yet"),
        (now, _) => writeln!(
            out,
            "{INDENT}{}/s now, {}/s over 18s, {}/s on average",
            Size(now),
            Size(progress.rate_18s),
            Size(progress.rate_avg)
        ),
    }
}

/// A number of seconds that are only expected: rougher the more they are, and never wide.
struct Eta(u64);

impl fmt::Display for Eta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 86_400;
        match self.0 {
            ..DAY => Span(self.0 * 1_000_000).fmt(f),
            seconds if seconds < 100 * DAY => {
                write!(f, "{}d {}h", seconds / DAY, seconds % DAY / 3_600)
            }
            _ => f.write_str("over 99d"),
        }
    }
}

fn clients(node: &NodeInfo<'_>, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "{:<22} {:<6} {:<12} {:>9} {:>11} {:>11}",
        "client", "volume", "phase", "in flight", "read", "written"
    )?;
    for client in node.clients {
        let mut volume: heapless::String<8> = heapless::String::new();
        match client.volume {
            // Cannot fail: a u16 has five digits at most.
            Some(index) => write!(volume, "vol{index}")?,
            None => volume.write_char('-')?,
        }
        let mut address: heapless::String<48> = heapless::String::new();
        write!(crate::text::Truncating(&mut address), "{}", client.address)?;
        writeln!(
            out,
            "{address:<22} {volume:<6} {:<12} {:>9} {:>11} {:>11}",
            phase_name(client.phase),
            client.in_flight,
            Size(client.read_bytes),
            Size(client.written_bytes)
        )?;
    }
    Ok(())
}

/// Writes the answer to `status` of a node that serves nothing.
///
/// # Errors
/// Those of `out`.
pub fn refused_text(refusal: Refusal<'_>, out: &mut dyn Write) -> fmt::Result {
    let what = match refusal {
        Refusal::Config(_) => "its configuration was refused",
        Refusal::Devices(_) => "it could not start",
    };
    writeln!(
        out,
        "this node serves nothing: {what}; correct it and boot again"
    )?;
    match refusal {
        Refusal::Config(errors) => writeln!(out, "{errors}"),
        Refusal::Devices(problems) => problems
            .iter()
            .try_for_each(|problem| writeln!(out, "{problem}")),
    }
}

/// Writes the answer to `version`: of the appliance, the commit it was built from, and the peer protocol it speaks.
///
/// # Errors
/// Those of `out`.
pub fn version(appliance: &str, revision: &str, protocol: u32, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "Palisade {appliance} ({revision}), peer protocol {protocol}"
    )
}
