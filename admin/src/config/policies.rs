//! The sections of policies: `[resource]`, `[replication]`, `[resync]` and `[disk]`.

use super::reader::{At, Reader};
use super::schema::{MIN, S, port, required_section, to_u16};
use super::{
    AfterSb0Pri, AfterSb1Pri, AfterSb2Pri, DiskPolicy, Fencing, OnCongestion, OnFenceTimeout,
    OnIoError, OnNoData, Protocol, REPLICATION_PORT, Replication, Resource, ResyncPolicy,
    RrConflict, SplitBrain, value,
};
use core::ops::{Range, RangeInclusive};
use replication::api::{MAX_VOLUMES, Micros};
use toml::de::DeTable;

/// The upper limit: as much as the largest payload pool should ever hold for one peer. The lower
/// one: a few requests.
const CONGESTION_FILL: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Below, an arbiter that stores on a slow disk is too late; above, nobody waits.
const FENCE_TIMEOUT: RangeInclusive<Micros> = S..=10 * MIN;
/// An arbiter that is restarted is back by then, and the default patience of NBD clients is longer.
const FENCE_TIMEOUT_DEFAULT: Micros = 30 * S;
/// More than an activity log has.
const CONGESTION_EXTENTS: RangeInclusive<u32> = 1..=65_536;
/// Two full windows of a long link (100 Mbit/s, 80 ms), and little beside the smallest pool.
const CONGESTION_FILL_DEFAULT: u64 = 2 << 20;
/// The upper limits of rates only catch slips of the pen.
const C_MIN_RATE: RangeInclusive<u64> = 0..=1 << 40;
/// Slow enough for one spinning disk, and a TiB is in sync within three days of full load.
const C_MIN_RATE_DEFAULT: u64 = 4 << 20;
const C_MAX_RATE: RangeInclusive<u64> = 64 << 10..=1 << 40;
const DISK_TIMEOUT: RangeInclusive<Micros> = S..=10 * MIN;
/// What hosts give a disk for one command before they reset it: a disk that is slower does not
/// come back by itself, and clients should not freeze for longer.
const DISK_TIMEOUT_DEFAULT: Micros = 30 * S;
/// Enough to keep the link busy while one disk seeks; the first volumes are safe earlier than if
/// all of them shared it.
const MAX_PARALLEL_DEFAULT: u32 = 4;

/// `[resource]` with the places of what the cross checks look at.
pub(super) struct ResourceDraft {
    /// `None` if it has no sound name.
    pub(super) resource: Option<Resource>,
    pub(super) protocol: Protocol,
    pub(super) fencing: At<Fencing>,
    pub(super) after_sb_0pri: At<AfterSb0Pri>,
    pub(super) after_sb_2pri: At<AfterSb2Pri>,
    pub(super) rr_conflict: RrConflict,
}

/// `[replication]` with the places of what the cross checks look at.
pub(super) struct ReplicationDraft {
    pub(super) replication: Replication,
    pub(super) port: Range<usize>,
    pub(super) on_congestion: Range<usize>,
}

/// `[resync]` with the places of what the cross checks look at.
pub(super) struct ResyncDraft {
    pub(super) resync: ResyncPolicy,
    pub(super) c_min_rate: Range<usize>,
    pub(super) c_max_rate: Range<usize>,
}

pub(super) fn read_resource<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> ResourceDraft {
    let known = &[
        "name",
        "protocol",
        "fencing",
        "fence-timeout",
        "on-fence-timeout",
        "auto-promote",
        "after-sb-0pri",
        "after-sb-1pri",
        "after-sb-2pri",
        "always-asbp",
        "rr-conflict",
        "on-no-data",
    ];
    let section = required_section(reader, root, "resource", known);
    let section = section.as_ref();
    let name = section.and_then(|section| reader.required(section, "name", value::name));
    let key = |key| ("resource", key);
    let protocol = reader.with_default(section, key("protocol"), Protocol::C, value::policy);
    let fencing = reader.with_default(section, key("fencing"), Fencing::DontCare, value::policy);
    let fence_timeout =
        reader.with_default(section, key("fence-timeout"), FENCE_TIMEOUT_DEFAULT, |v| {
            value::duration(v, FENCE_TIMEOUT)
        });
    let on_fence_timeout = reader.with_default(
        section,
        key("on-fence-timeout"),
        OnFenceTimeout::KeepFrozen,
        value::policy,
    );
    let auto_promote = reader.with_default(section, key("auto-promote"), false, value::boolean);
    let after_sb_0pri = reader.with_default(
        section,
        key("after-sb-0pri"),
        AfterSb0Pri::Disconnect,
        value::after_sb_0pri,
    );
    let after_sb_1pri = reader.with_default(
        section,
        key("after-sb-1pri"),
        AfterSb1Pri::Disconnect,
        value::policy,
    );
    let after_sb_2pri = reader.with_default(
        section,
        key("after-sb-2pri"),
        AfterSb2Pri::Disconnect,
        value::policy,
    );
    let always_asbp = reader.with_default(section, key("always-asbp"), false, value::boolean);
    let rr_conflict = reader.with_default(
        section,
        key("rr-conflict"),
        RrConflict::Disconnect,
        value::policy,
    );
    let on_no_data = reader.with_default(
        section,
        key("on-no-data"),
        OnNoData::SuspendIo,
        value::policy,
    );
    ResourceDraft {
        resource: name.map(|name| Resource {
            name: name.value,
            protocol: protocol.value,
            fencing: fencing.value,
            fence_timeout: fence_timeout.value,
            on_fence_timeout: on_fence_timeout.value,
            auto_promote: auto_promote.value,
            split_brain: SplitBrain {
                after_sb_0pri: after_sb_0pri.value.clone(),
                after_sb_1pri: after_sb_1pri.value,
                after_sb_2pri: after_sb_2pri.value,
                always_asbp: always_asbp.value,
                rr_conflict: rr_conflict.value,
            },
            on_no_data: on_no_data.value,
        }),
        protocol: protocol.value,
        fencing,
        after_sb_0pri,
        after_sb_2pri,
        rr_conflict: rr_conflict.value,
    }
}

pub(super) fn read_replication<'t>(
    reader: &mut Reader<'t>,
    root: &DeTable<'t>,
) -> ReplicationDraft {
    let known = &[
        "port",
        "on-congestion",
        "congestion-fill",
        "congestion-extents",
    ];
    let section = reader.section(root, "replication", known);
    let section = section.as_ref();
    let key = |key| ("replication", key);
    let port = reader.with_default(section, key("port"), u32::from(REPLICATION_PORT), port);
    let on_congestion = reader.with_default(
        section,
        key("on-congestion"),
        OnCongestion::Block,
        value::policy,
    );
    let congestion_fill = reader.with_default(
        section,
        key("congestion-fill"),
        CONGESTION_FILL_DEFAULT,
        |v| value::size(v, CONGESTION_FILL),
    );
    let congestion_extents = reader.with_default(section, key("congestion-extents"), None, |v| {
        value::integer(v, CONGESTION_EXTENTS, "a number of extents").map(Some)
    });
    ReplicationDraft {
        replication: Replication {
            port: to_u16(port.value),
            on_congestion: on_congestion.value,
            congestion_fill: congestion_fill.value,
            congestion_extents: congestion_extents.value,
        },
        port: port.span,
        on_congestion: on_congestion.span,
    }
}

pub(super) fn read_resync<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> ResyncDraft {
    let known = &[
        "c-min-rate",
        "c-max-rate",
        "csums",
        "rs-discard",
        "max-parallel-resyncs",
    ];
    let section = reader.section(root, "resync", known);
    let section = section.as_ref();
    let key = |key| ("resync", key);
    let c_min_rate = reader.with_default(section, key("c-min-rate"), C_MIN_RATE_DEFAULT, |v| {
        value::rate(v, C_MIN_RATE)
    });
    let c_max_rate = reader.with_default(section, key("c-max-rate"), None, |v| {
        value::rate(v, C_MAX_RATE).map(Some)
    });
    let csums = reader.with_default(section, key("csums"), false, value::boolean);
    let rs_discard = reader.with_default(section, key("rs-discard"), true, value::boolean);
    let max_parallel = reader.with_default(
        section,
        key("max-parallel-resyncs"),
        MAX_PARALLEL_DEFAULT,
        |v| value::integer(v, 1..=MAX_VOLUMES as u32, "a number of volumes"),
    );
    ResyncDraft {
        resync: ResyncPolicy {
            c_min_rate: c_min_rate.value,
            c_max_rate: c_max_rate.value,
            csums: csums.value,
            rs_discard: rs_discard.value,
            max_parallel: to_u16(max_parallel.value),
        },
        c_min_rate: c_min_rate.span,
        c_max_rate: c_max_rate.span,
    }
}

pub(super) fn read_disk<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> DiskPolicy {
    let section = reader.section(root, "disk", &["disk-timeout", "on-io-error"]);
    let section = section.as_ref();
    let default = Some(DISK_TIMEOUT_DEFAULT);
    let timeout = reader.with_default(section, ("disk", "disk-timeout"), default, |v| {
        value::duration_or_off(v, DISK_TIMEOUT)
    });
    let key = ("disk", "on-io-error");
    let on_io_error = reader.with_default(section, key, OnIoError::Detach, value::policy);
    DiskPolicy {
        timeout: timeout.value,
        on_io_error: on_io_error.value,
    }
}
