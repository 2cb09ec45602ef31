//! `/healthz`: whether this node does its duty.

use crate::status::disk_state_name;
use core::fmt::{self, Write};
use replication::api::{ConnectionState, DiskState, Status};

/// Writes `ok`, or what is wrong with this node, a line each; answers whether all is well. A peer that is lost is not this node's
/// trouble as long as it is looked for: then a word says so behind the `ok`.
///
/// # Errors
/// Those of `out`.
pub fn health(status: &Status, out: &mut dyn Write) -> Result<bool, fmt::Error> {
    let mut well = true;
    for volume in &status.volumes {
        if volume.disk != DiskState::UpToDate {
            well = false;
            let state = disk_state_name(volume.disk);
            writeln!(out, "vol{}: this node's disk is {state}", volume.index)?;
        }
    }
    let held = [
        (status.suspended.user, "by suspend-io"),
        (status.suspended.no_data, "since no node has good data"),
        (
            status.suspended.fencing,
            "until it is decided whether this node may go on alone",
        ),
    ];
    for (_, why) in held.iter().filter(|(held, _)| *held) {
        well = false;
        writeln!(out, "clients' requests are held back {why}")?;
    }
    if status.connection == ConnectionState::StandAlone {
        well = false;
        writeln!(out, "StandAlone: this node does not look for its peer")?;
    }
    if !well {
        if !status.reason.is_empty() {
            writeln!(out, "{}", status.reason)?;
        }
    } else if status.connection == ConnectionState::Connected {
        writeln!(out, "ok")?;
    } else {
        writeln!(out, "ok, without the peer")?;
    }
    Ok(well)
}
