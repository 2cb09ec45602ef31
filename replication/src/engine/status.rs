//! What an operator may ask.

use super::Engine;
use super::volume::Volume;
use crate::activity::Figures;
use crate::api::{
    MetadataKind, MetadataPlace, Micros, Progress, ReplicationState, Status, Text, VolumeStatus,
};

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
            suspended: self.suspended(),
            volumes: self.volumes.iter().map(|v| volume_status(v, now)).collect(),
        }
    }
}

fn volume_status(volume: &Volume, now: Micros) -> VolumeStatus {
    let out_of_sync = match volume.replication {
        ReplicationState::SyncTarget => volume.sync_left,
        _ => volume.dirty.dirty_bytes(),
    };
    let meta = volume.meta.as_ref();
    let figures = meta.map_or_else(Figures::default, |meta| meta.log.figures());
    VolumeStatus {
        index: volume.config.index,
        size: volume.size,
        disk: volume.disk,
        peer_disk: volume.peer_disk,
        replication: volume.replication,
        out_of_sync,
        progress: progress(volume, out_of_sync, now),
        waits: Text::new(),
        activity_hot: figures.hot,
        activity_limit: figures.limit,
        metadata: match (&volume.meta, volume.config.metadata) {
            (None, _) => MetadataKind::None,
            (_, MetadataPlace::Internal) => MetadataKind::Internal,
            (_, MetadataPlace::External { .. }) => MetadataKind::External,
        },
        lag_bytes: 0,
        current_uuid: volume.gens.current,
        bitmap_uuid: volume.gens.bitmap,
        read_bytes: volume.read_bytes,
        written_bytes: volume.written_bytes,
        received_bytes: volume.received_bytes,
    }
}

fn progress(volume: &Volume, left: u64, now: Micros) -> Option<Progress> {
    let total = volume.sync_total;
    let syncing = matches!(
        volume.replication,
        ReplicationState::SyncSource | ReplicationState::SyncTarget
    );
    if total == 0 || !syncing {
        return None;
    }
    let done = total.saturating_sub(left);
    let elapsed = now.saturating_sub(volume.sync_started).max(1);
    let rate = u128::from(done) * 1_000_000 / u128::from(elapsed);
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    Some(Progress {
        done,
        total,
        rate_now: rate,
        rate_avg: rate,
        eta_seconds: (rate > 0).then(|| left.div_ceil(rate.max(1))),
        stalled: false,
    })
}
