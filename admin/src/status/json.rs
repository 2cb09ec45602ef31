//! `status --json`.

use super::fence::state_name;
use super::{
    NodeInfo, Refusal, Usage, connection_name, disk_state_name, metadata_name, permille,
    phase_name, policy_name, replication_name, role_name,
};
use crate::json::Json;
use core::fmt::{self, Write};
use replication::api::{
    Grantors, OwnFence, Progress, ReplicationState, SnapshotReport, SnapshotStage, Status,
    VerifyReport, VolumeStatus,
};

/// The number in the field `schema`: raised when a field goes away or changes its meaning.
pub const SCHEMA: u32 = 1;

/// Writes the answer to `status --json`: one line, printable ASCII.
///
/// # Errors
/// Those of `out`.
pub fn json(status: &Status, node: &NodeInfo<'_>, out: &mut dyn Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.object(None, |json| {
        json.number("schema", SCHEMA.into())?;
        json.string("version", node.version)?;
        json.number("uptime_us", node.uptime)?;
        json.string("node", &status.node)?;
        json.string("peer", &status.peer)?;
        json.string("resource", &status.resource)?;
        json.string("role", role_name(status.role))?;
        json.string("peer_role", role_name(status.peer_role))?;
        json.string("connection", connection_name(status.connection))?;
        json.string(
            "protocol",
            status.protocol.letter().encode_utf8(&mut [0; 4]),
        )?;
        json.string("reason", &status.reason)?;
        json.bool("serving", status.serving)?;
        json.object(Some("suspended"), |json| {
            json.bool("user", status.suspended.user)?;
            json.bool("no_data", status.suspended.no_data)?;
            json.bool("fencing", status.suspended.fencing)
        })?;
        fencing(json, status)?;
        super::promotion::json(json, status, node.uptime)?;
        json.number("open_clients", status.open_clients.into())?;
        json.array("volumes", &status.volumes, volume)?;
        json.array("clients", node.clients, |json, client| {
            let mut address: heapless::String<64> = heapless::String::new();
            write!(crate::text::Truncating(&mut address), "{}", client.address)?;
            json.string("address", &address)?;
            json.string("phase", phase_name(client.phase))?;
            json.optional("volume", client.volume.map(u64::from))?;
            json.number("in_flight", client.in_flight.into())?;
            json.number("read_bytes", client.read_bytes)?;
            json.number("written_bytes", client.written_bytes)?;
            json.number("connected_us", client.connected_for)
        })?;
        usage(json, "memory", node.memory)?;
        usage(json, "buffers", node.pool)?;
        json.number("allocations", node.allocations)?;
        json.bool("crashed", node.crashed)
    })?;
    out.write_char('\n')
}

/// Writes the answer to `status --json` of a node that serves nothing: the same first fields,
/// `serving` false, and what is wrong in `config_errors` or `device_errors`.
///
/// # Errors
/// Those of `out`.
pub fn refused_json(refusal: Refusal<'_>, node: &NodeInfo<'_>, out: &mut dyn Write) -> fmt::Result {
    let (problems, sentences) = match refusal {
        Refusal::Config(errors) => (errors.problems(), &[][..]),
        Refusal::Devices(sentences) => (&[][..], sentences),
    };
    let mut json = Json::new(out);
    json.object(None, |json| {
        json.number("schema", SCHEMA.into())?;
        json.string("version", node.version)?;
        json.number("uptime_us", node.uptime)?;
        json.bool("serving", false)?;
        json.array("config_errors", problems, |json, problem| {
            json.raw("line", format_args!("{}", problem.line))?;
            json.raw("column", format_args!("{}", problem.column))?;
            json.string("message", &problem.message)
        })?;
        json.array("device_errors", sentences, |json, sentence| {
            json.string("message", sentence)
        })
    })?;
    out.write_char('\n')
}

fn volume(json: &mut Json<'_>, volume: &VolumeStatus) -> fmt::Result {
    json.number("index", volume.index.into())?;
    json.number("size", volume.size)?;
    json.string("disk", disk_state_name(volume.disk))?;
    json.string("peer_disk", disk_state_name(volume.peer_disk))?;
    json.string("replication", replication_name(volume.replication))?;
    json.number("out_of_sync", volume.out_of_sync)?;
    let verifying = matches!(
        volume.replication,
        ReplicationState::VerifyS | ReplicationState::VerifyT
    );
    let progress = volume.progress.as_ref();
    self::progress(json, "resync", progress.filter(|_| !verifying))?;
    self::progress(json, "verify", progress.filter(|_| verifying))?;
    json.string("waits", &volume.waits)?;
    verified(json, volume.verify.as_ref())?;
    json.string("metadata", metadata_name(volume.metadata))?;
    json.object(Some("activity"), |json| {
        json.number("hot", volume.activity_hot.into())?;
        json.number("limit", volume.activity_limit.into())
    })?;
    snapshot(json, volume.snapshot.as_ref())?;
    json.number("lag", volume.lag_bytes)?;
    // Identifiers are 64 bits: more than a JSON number is safe for in many readers.
    json.raw(
        "current_uuid",
        format_args!("\"{:016X}\"", volume.current_uuid),
    )?;
    json.raw(
        "bitmap_uuid",
        format_args!("\"{:016X}\"", volume.bitmap_uuid),
    )?;
    json.number("read_bytes", volume.read_bytes)?;
    json.number("written_bytes", volume.written_bytes)?;
    json.number("received_bytes", volume.received_bytes)
}

fn fencing(json: &mut Json<'_>, status: &Status) -> fmt::Result {
    let fencing = &status.fencing;
    let record = &fencing.record;
    json.object(Some("fencing"), |json| {
        json.string("policy", policy_name(status.fencing_policy))?;
        json.optional("episode", record.own.episode())?;
        json.string("state", state_name(record.own))?;
        let by = match record.own {
            OwnFence::Held(_, by) => by,
            OwnFence::None | OwnFence::Requested(_) | OwnFence::Releasing(_) => Grantors::default(),
        };
        json.object(Some("granted"), |json| {
            json.bool("peer", by.peer)?;
            json.bool("arbiter", by.arbiter)
        })?;
        json.optional("fenced_by", record.mark)?;
        json.object(Some("waits"), |json| {
            json.bool("peer", fencing.awaits_peer)?;
            json.bool("arbiter", fencing.awaits_arbiter)?;
            json.bool("disks", fencing.saving)
        })?;
        json.bool("frozen", fencing.frozen)?;
        json.bool("overdue", fencing.overdue)?;
        json.bool("promoting", fencing.promoting)?;
        json.number("seen", record.seen)?;
        json.number("released", record.released)
    })
}

fn snapshot(json: &mut Json<'_>, report: Option<&SnapshotReport>) -> fmt::Result {
    let Some(report) = report else {
        return json.raw("snapshot", format_args!("null"));
    };
    let state = match report.stage {
        SnapshotStage::Empty => "none",
        SnapshotStage::Held => "held",
        SnapshotStage::Stuck => "stuck",
        SnapshotStage::RollingBack => "rolling-back",
        SnapshotStage::RolledBack => "rolled-back",
    };
    json.object(Some("snapshot"), |json| {
        json.string("state", state)?;
        json.number("used", report.used)?;
        json.number("room", report.room)
    })
}

fn verified(json: &mut Json<'_>, report: Option<&VerifyReport>) -> fmt::Result {
    let Some(report) = report else {
        return json.raw("verified", format_args!("null"));
    };
    json.object(Some("verified"), |json| {
        json.bool("running", report.running)?;
        json.bool("finished", report.finished)?;
        json.number("position", report.position)?;
        json.number("compared", report.compared)?;
        json.number("differing_blocks", report.differing_blocks)?;
        json.number("repaired_blocks", report.repaired_blocks)?;
        json.number("unreadable_bytes", report.unreadable_bytes)
    })
}

fn progress(json: &mut Json<'_>, key: &str, progress: Option<&Progress>) -> fmt::Result {
    let Some(progress) = progress else {
        return json.raw(key, format_args!("null"));
    };
    let permille = permille(progress);
    json.object(Some(key), |json| {
        json.number("done", progress.done)?;
        json.number("total", progress.total)?;
        json.raw(
            "percent",
            format_args!("{}.{}", permille / 10, permille % 10),
        )?;
        json.number("rate", progress.rate_now)?;
        json.number("rate_18s", progress.rate_18s)?;
        json.number("rate_avg", progress.rate_avg)?;
        json.optional("eta_s", progress.eta_seconds)?;
        json.bool("stalled", progress.stalled)
    })
}

fn usage(json: &mut Json<'_>, key: &str, usage: Usage) -> fmt::Result {
    json.object(Some(key), |json| {
        json.number("used", usage.used)?;
        json.number("total", usage.total)
    })
}
