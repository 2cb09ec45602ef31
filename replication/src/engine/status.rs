//! What an operator may ask.

use super::Engine;
use super::volume::Volume;
use crate::api::{Micros, ReplicationState, Status, VolumeStatus};

impl Engine {
    /// Everything an operator may ask.
    #[must_use]
    pub fn status(&self, now: Micros) -> Status {
        Status {
            node: self.config.node.clone(),
            peer: self.config.peer.clone(),
            resource: self.config.resource.clone(),
            role: self.role,
            peer_role: self.peer_role,
            connection: self.link.state,
            reason: self.reason(now),
            open_clients: self.open_clients,
            serving: self.serving,
            volumes: self.volumes.iter().map(|v| volume_status(v, now)).collect(),
        }
    }
}

fn volume_status(volume: &Volume, now: Micros) -> VolumeStatus {
    let out_of_sync = match volume.replication {
        ReplicationState::SyncTarget => volume.sync_left,
        _ => volume.dirty.dirty_bytes(),
    };
    let done = volume.sync_total.saturating_sub(out_of_sync);
    let elapsed = now.saturating_sub(volume.sync_started).max(1);
    VolumeStatus {
        index: volume.config.index,
        size: volume.config.size,
        disk: volume.disk,
        peer_disk: volume.peer_disk,
        replication: volume.replication,
        out_of_sync,
        resync_total: volume.sync_total,
        resync_rate: u64::try_from(u128::from(done) * 1_000_000 / u128::from(elapsed))
            .unwrap_or(u64::MAX),
        current_uuid: volume.current,
        bitmap_uuid: volume.bitmap_uuid,
        read_bytes: volume.read_bytes,
        written_bytes: volume.written_bytes,
        received_bytes: volume.received_bytes,
    }
}
