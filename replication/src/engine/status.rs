//! What an operator may ask.

use super::volume::Volume;
use super::{Engine, text};
use crate::activity::Figures;
use crate::api::{
    DiskState, MetadataKind, MetadataPlace, Micros, OwnFence, Progress, ReplicationState, Status,
    Text, VolumeStatus,
};
use crate::latency::Latencies;

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
            protocol: self.config.mirroring.protocol,
            reason: self.reason(now),
            open_clients: self.open_clients,
            serving: self.serving,
            suspended: self.suspended(),
            fencing_policy: self.config.fencing.policy,
            fencing: self.fence.status(),
            auto_promote: self.config.fencing.auto_promote,
            waiting_clients: self.auto.waiting,
            denied: self.auto.denied.clone(),
            volumes: (0..self.volumes.len())
                .map(|at| self.volume_status(at, now))
                .collect(),
        }
    }

    /// How long the requests of each volume take, and where, since the node started; by the volume's index.
    pub fn latencies(&self) -> impl Iterator<Item = (u16, &Latencies)> {
        self.volumes
            .iter()
            .map(|volume| (volume.config.index, &*volume.latencies))
    }

    /// A number that is another one, but for one case in 2^64, when a state in [`Engine::status`] is: whoever follows the states asks
    /// for this again and again, and for all of the status only then. Figures, such as bytes and progress, are not in it.
    #[must_use]
    pub fn states(&self) -> u64 {
        let fencing = self.fence.status();
        let suspended = self.suspended();
        let (own, number) = match fencing.record.own {
            OwnFence::None => (0, 0),
            OwnFence::Requested(number) => (1, number),
            OwnFence::Held(number, by) => (
                2 | u64::from(by.peer) << 2 | u64::from(by.arbiter) << 3,
                number,
            ),
            OwnFence::Releasing(number) => (4, number),
        };
        let flags = [
            self.serving,
            suspended.user,
            suspended.no_data,
            suspended.fencing,
            fencing.awaits_peer,
            fencing.awaits_arbiter,
            fencing.overdue,
        ];
        let flags = flags
            .iter()
            .fold(0, |all, &flag| all << 1 | u64::from(flag));
        let roles =
            (self.role as u64) << 16 | (self.peer_role as u64) << 8 | self.link.state as u64;
        let mut mark = mixed(0, flags << 24 | roles);
        mark = mixed(mark, own);
        mark = mixed(mark, number);
        // Episodes begin with 1.
        mark = mixed(mark, fencing.record.mark.unwrap_or(0));
        for (at, volume) in self.volumes.iter().enumerate() {
            let replication = replication(volume, self.is_paused(at)) as u64;
            let disks = (volume.disk as u64) << 8 | volume.peer_disk as u64;
            mark = mixed(mark, disks << 8 | replication);
            mark = mixed(mark, volume.size);
        }
        mark
    }

    fn volume_status(&self, at: usize, now: Micros) -> VolumeStatus {
        let waits = self.waits(at, now);
        let waits = waits.map_or_else(Text::new, |reason| text!("{reason}"));
        let volume = &self.volumes[at];
        volume_status(volume, replication(volume, self.is_paused(at)), waits, now)
    }
}

/// One more word into a sum that depends on all of them and their order.
const fn mixed(sum: u64, word: u64) -> u64 {
    // Odd, from the golden ratio: no word is lost in the product.
    let product = (sum.rotate_left(29) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ product >> 32
}

fn volume_status(
    volume: &Volume,
    replication: ReplicationState,
    waits: Text,
    now: Micros,
) -> VolumeStatus {
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
        replication,
        out_of_sync,
        progress: progress(volume, replication, now),
        waits,
        verify: volume.verify.report(),
        activity_hot: figures.hot,
        activity_limit: figures.limit,
        metadata: match (&volume.meta, volume.config.metadata) {
            (None, _) => MetadataKind::None,
            (_, MetadataPlace::Internal) => MetadataKind::Internal,
            (_, MetadataPlace::External { .. }) => MetadataKind::External,
        },
        snapshot: volume.snapshot_report(),
        lag_bytes: volume.lag.bytes,
        current_uuid: volume.gens.current,
        bitmap_uuid: volume.gens.bitmap,
        read_bytes: volume.read_bytes,
        written_bytes: volume.written_bytes,
        received_bytes: volume.received_bytes,
    }
}

/// The state by the name that people know: inside of the engine a paused resync is a resync.
fn replication(volume: &Volume, paused: bool) -> ReplicationState {
    match volume.replication {
        ReplicationState::SyncSource => {
            let uniting = volume.source.as_ref().is_some_and(|s| s.uniting.is_some());
            if uniting || volume.start_pending.is_some() {
                ReplicationState::WFBitMapS
            } else if paused || !volume.may_run {
                ReplicationState::PausedSyncS
            } else {
                ReplicationState::SyncSource
            }
        }
        ReplicationState::SyncTarget => {
            if volume.disk != DiskState::Inconsistent || volume.uniting_target() {
                ReplicationState::WFBitMapT
            } else if paused || volume.peer_waits {
                ReplicationState::PausedSyncT
            } else {
                ReplicationState::SyncTarget
            }
        }
        ReplicationState::Established if volume.verify.active => ReplicationState::VerifyS,
        ReplicationState::Established if volume.peer_verifies => ReplicationState::VerifyT,
        other => other,
    }
}

fn progress(volume: &Volume, replication: ReplicationState, now: Micros) -> Option<Progress> {
    if matches!(
        replication,
        ReplicationState::WFBitMapS | ReplicationState::WFBitMapT
    ) {
        // How much there is to do nobody knows yet.
        return None;
    }
    let mut progress = volume.progress.clone()?;
    progress.update(now, volume.left());
    let report = progress.report();
    Some(Progress {
        done: report.total.saturating_sub(report.left),
        total: report.total,
        rate_now: report.rate_3s,
        rate_18s: report.rate_18s,
        rate_avg: report.rate_whole,
        eta_seconds: report.eta,
        stalled: report.stalled,
    })
}
