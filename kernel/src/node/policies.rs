//! The configuration's policies as the engine and the link take them.

use admin::config::{self, Config};
use replication::api::{
    FencingConfig, Micros, Mirroring, OnCongestion, OnIoError, OnNoData, OnTimeout, Policy,
    Protocol, ResyncConfig, ResyncLimits, SnapshotPolicy, Trouble,
};
use replication::engine::Tuning;
use replication::lineage::{AfterSb0Pri, AfterSb1Pri, AfterSb2Pri, Order, Policies, RrConflict};
use replication::secure::{Integrity, Security};

/// How resyncs from this node go about.
pub fn resync(config: &Config) -> ResyncConfig {
    let chosen = &config.resync;
    ResyncConfig {
        limits: ResyncLimits {
            min_rate: Some(chosen.c_min_rate),
            max_rate: chosen.c_max_rate,
        },
        csums: chosen.csums,
        rs_discard: chosen.rs_discard,
        max_parallel: Some(chosen.max_parallel),
    }
}

/// What is done for the old content of a resync's target.
pub fn snapshot(volume: &config::Volume) -> SnapshotPolicy {
    match volume.snapshot {
        config::SnapshotPolicy::Off => SnapshotPolicy::Off,
        config::SnapshotPolicy::BestEffort => SnapshotPolicy::BestEffort,
        config::SnapshotPolicy::Required => SnapshotPolicy::Required,
    }
}

/// When clients' writes are answered, and what happens if the peer falls behind.
pub fn mirroring(config: &Config) -> Mirroring {
    let chosen = &config.replication;
    Mirroring {
        protocol: match config.resource.protocol {
            config::Protocol::A => Protocol::A,
            config::Protocol::B => Protocol::B,
            config::Protocol::C => Protocol::C,
        },
        on_congestion: match chosen.on_congestion {
            config::OnCongestion::Block => OnCongestion::Block,
            config::OnCongestion::PullAhead => OnCongestion::PullAhead,
            config::OnCongestion::Disconnect => OnCongestion::Disconnect,
        },
        congestion_fill: chosen.congestion_fill,
        congestion_extents: chosen.congestion_extents,
    }
}

/// A peer answers on the management network within milliseconds, or as soon as its disk has stored the answer. A failover waits
/// so long for a dead one.
const PEER_WAIT: Micros = 1_000_000;
/// Longer than an answer takes that has to be stored first.
const RETRY: Micros = 250_000;

/// What to do about a lost peer, and who is asked.
pub fn fencing(config: &Config) -> FencingConfig {
    let chosen = &config.resource;
    let management = config.management.as_ref();
    FencingConfig {
        policy: match chosen.fencing {
            config::Fencing::DontCare => Policy::DontCare,
            config::Fencing::ResourceOnly => Policy::ResourceOnly,
            config::Fencing::ResourceAndStonith => Policy::ResourceAndStonith,
        },
        peer_endpoint: management.is_some_and(|management| management.peer.is_some()),
        arbiter: management.is_some_and(|management| management.arbiter.is_some()),
        on_timeout: match chosen.on_fence_timeout {
            config::OnFenceTimeout::KeepFrozen => OnTimeout::KeepFrozen,
            config::OnFenceTimeout::StepDown => OnTimeout::StepDown,
        },
        timeout: chosen.fence_timeout,
        peer_wait: PEER_WAIT,
        retry: RETRY,
        auto_promote: chosen.auto_promote,
        notify: management
            .filter(|management| management.notify && management.arbiter.is_some())
            .map(|management| management.notify_timeout),
        // The floating address is nowhere then, so no client reaches the standby.
        promote_at_loss: chosen.auto_promote && config.export.floating_address.is_some(),
    }
}

/// What to do about a split brain.
pub fn split_brain(config: &Config) -> Policies {
    let chosen = &config.resource.split_brain;
    let first = config.node.name.as_str().min(config.peer.name.as_str());
    Policies {
        after_sb_0pri: match &chosen.after_sb_0pri {
            config::AfterSb0Pri::Disconnect => AfterSb0Pri::Disconnect,
            config::AfterSb0Pri::DiscardYoungerPrimary => AfterSb0Pri::DiscardYoungerPrimary,
            config::AfterSb0Pri::DiscardOlderPrimary => AfterSb0Pri::DiscardOlderPrimary,
            config::AfterSb0Pri::DiscardZeroChanges => AfterSb0Pri::DiscardZeroChanges,
            config::AfterSb0Pri::DiscardLeastChanges => AfterSb0Pri::DiscardLeastChanges,
            config::AfterSb0Pri::DiscardNode(name) if name.as_str() == first => {
                AfterSb0Pri::DiscardNode(Order::First)
            }
            config::AfterSb0Pri::DiscardNode(_) => AfterSb0Pri::DiscardNode(Order::Second),
        },
        after_sb_1pri: match chosen.after_sb_1pri {
            config::AfterSb1Pri::Disconnect => AfterSb1Pri::Disconnect,
            config::AfterSb1Pri::Consensus => AfterSb1Pri::Consensus,
            config::AfterSb1Pri::Violently => AfterSb1Pri::Violently,
            config::AfterSb1Pri::DiscardSecondary => AfterSb1Pri::DiscardSecondary,
            config::AfterSb1Pri::CallPriLost => AfterSb1Pri::CallPriLost,
        },
        after_sb_2pri: match chosen.after_sb_2pri {
            config::AfterSb2Pri::Disconnect => AfterSb2Pri::Disconnect,
            config::AfterSb2Pri::Violently => AfterSb2Pri::Violently,
            config::AfterSb2Pri::CallPriLost => AfterSb2Pri::CallPriLost,
        },
        rr_conflict: match chosen.rr_conflict {
            config::RrConflict::Disconnect => RrConflict::Disconnect,
            config::RrConflict::Violently => RrConflict::Violently,
            config::RrConflict::CallPriLost => RrConflict::CallPriLost,
        },
        always_asbp: chosen.always_asbp,
    }
}

/// What to do when disks fail.
pub fn trouble(config: &Config) -> Trouble {
    Trouble {
        on_io_error: match config.disk.on_io_error {
            config::OnIoError::Detach => OnIoError::Detach,
            config::OnIoError::PassOn => OnIoError::PassOn,
        },
        on_no_data: match config.resource.on_no_data {
            config::OnNoData::SuspendIo => OnNoData::SuspendIo,
            config::OnNoData::IoError => OnNoData::IoError,
        },
        disk_timeout: config.disk.timeout.unwrap_or(0),
    }
}

/// What of all this may become different while the node runs.
pub fn tuning(config: &Config) -> Tuning {
    let (mirroring, fencing) = (mirroring(config), fencing(config));
    Tuning {
        timers: config.timers(),
        policies: split_brain(config),
        trouble: trouble(config),
        resync: resync(config),
        on_congestion: mirroring.on_congestion,
        congestion_fill: mirroring.congestion_fill,
        congestion_extents: mirroring.congestion_extents,
        fence_timeout: fencing.timeout,
        auto_promote: fencing.auto_promote,
        promote_at_loss: fencing.promote_at_loss,
    }
}

/// What is demanded of the peer and of the connection to it.
///
/// # Errors
///
/// What is wrong with the secret; the configuration's own checks leave nothing.
pub fn security(config: &Config) -> Result<Security, alloc::string::String> {
    let integrity = match config.peer.integrity {
        config::Integrity::Crc32c => Integrity::Crc32c,
        config::Integrity::Aes256Gcm => Integrity::Aes256Gcm,
        config::Integrity::ChaCha20Poly1305 => Integrity::ChaCha20Poly1305,
    };
    let secret = config.peer.secret.as_ref().map(|secret| secret.as_bytes());
    Security::new(integrity, secret, &config.resource.name)
        .map_err(|error| alloc::format!("peer: {error}"))
}
