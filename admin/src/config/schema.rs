//! The sections and keys, their defaults and limits. `docs/CONFIG.md` says the same for people.

use super::http::{self, HttpDraft};
use super::management::{self, ManagementDraft};
use super::policies::{ReplicationDraft, ResourceDraft, ResyncDraft};
use super::reader::{At, Reader, Section};
use super::{
    Config, ConfigErrors, EXPORT_PORT, Export, Integrity, NetTimes, Nic, Node, OnPanic, Peer,
    REPLICATION_PORT, SNAPSHOT_PORT, Secret, SnapshotPolicy, Volume,
};
use super::{check, lists, policies, value};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::{Range, RangeInclusive};
use replication::api::{Level, Micros, Name};
use toml::de::{DeTable, DeValue};

pub(super) const MS: Micros = 1_000;
pub(super) const S: Micros = 1_000 * MS;
pub(super) const MIN: Micros = 60 * S;

pub(super) const TIMEOUT: RangeInclusive<Micros> = 500 * MS..=10 * MIN;
pub(super) const PING_INTERVAL: RangeInclusive<Micros> = 100 * MS..=5 * MIN;
const CONNECT_INTERVAL: RangeInclusive<Micros> = 100 * MS..=2 * MIN;
const STANDBY_HOLD: RangeInclusive<Micros> = S..=10 * MIN;
const HANDSHAKE_TIMEOUT: RangeInclusive<Micros> = S..=2 * MIN;
const MAX_CONNECTIONS: RangeInclusive<u32> = 16..=128;

const SECTIONS: &[&str] = &[
    "node",
    "resource",
    "peer",
    "net",
    "nic",
    "management",
    "http",
    "replication",
    "resync",
    "disk",
    "export",
    "volume",
];

/// A `[[nic]]` with the places of what the cross checks look at.
pub(super) struct NicDraft {
    pub(super) nic: Nic,
    pub(super) selector: Range<usize>,
    pub(super) address: Range<usize>,
    pub(super) gateway: Range<usize>,
    pub(super) roles: Range<usize>,
}

/// A `[[volume]]` with the places of what the cross checks look at.
pub(super) struct VolumeDraft {
    pub(super) volume: Volume,
    pub(super) index: Range<usize>,
    pub(super) serial: Range<usize>,
    pub(super) size: Range<usize>,
    pub(super) metadata: Range<usize>,
    pub(super) resync_after: Range<usize>,
}

/// Everything that could be read, for the cross checks.
pub(super) struct Draft {
    pub(super) node_name: Option<At<Name>>,
    pub(super) peer_name: Option<At<Name>>,
    pub(super) peer_address: Option<At<SocketAddrV4>>,
    pub(super) secret: Option<At<Secret>>,
    /// Whether there is a secret, well or not.
    pub(super) secret_given: bool,
    pub(super) integrity: At<Integrity>,
    pub(super) resource: ResourceDraft,
    pub(super) management: ManagementDraft,
    pub(super) http: HttpDraft,
    pub(super) replication: ReplicationDraft,
    pub(super) resync: ResyncDraft,
    pub(super) timeout: At<Micros>,
    pub(super) ping_interval: At<Micros>,
    pub(super) export_port: At<u32>,
    pub(super) snapshot_port: At<u32>,
    pub(super) floating_address: Option<At<Ipv4Addr>>,
    pub(super) nics: Vec<NicDraft>,
    /// Whether every `[[nic]]` of the text is in `nics`.
    pub(super) nics_complete: bool,
    pub(super) volumes: Vec<VolumeDraft>,
}

impl Draft {
    /// Whether some volume keeps what a resync overwrites.
    pub(super) fn has_snapshots(&self) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|v| v.volume.snapshot != SnapshotPolicy::Off)
    }
}

/// Reads the sections, checks them against each other, and builds the configuration.
pub(super) fn read<'t>(text: &'t str, root: &DeTable<'t>) -> Result<Config, ConfigErrors> {
    let mut reader = Reader::new(text);
    reader.refuse_unknown(root, "", "section", SECTIONS);

    let node = required_section(&mut reader, root, "node", &["name", "panic", "log-level"]);
    let node = node.as_ref();
    let node_name = node.and_then(|node| reader.required(node, "name", value::name));
    let panic = reader.with_default(node, ("node", "panic"), OnPanic::Reboot, on_panic);
    let log_level = reader.with_default(node, ("node", "log-level"), Level::Info, level);

    let resource = policies::read_resource(&mut reader, root);
    let known = &["name", "address", "secret", "integrity"];
    let peer = required_section(&mut reader, root, "peer", known);
    let peer = peer.as_ref();
    let peer_name = peer.and_then(|peer| reader.required(peer, "name", value::name));
    let endpoint = |v: &DeValue<'t>| value::endpoint(v, REPLICATION_PORT);
    let peer_address = peer.and_then(|peer| reader.required(peer, "address", endpoint));
    let secret = peer.and_then(|peer| reader.optional_secret(peer, "secret", value::secret));
    let key = ("peer", "integrity");
    let integrity = reader.with_default(peer, key, Integrity::Crc32c, value::policy);

    let known = &["timeout", "ping-interval", "connect-interval"];
    let net = reader.section(root, "net", known);
    let net = net.as_ref();
    let times = |limits: RangeInclusive<Micros>| move |v: &DeValue<'t>| value::duration(v, limits);
    let timeout = reader.with_default(net, ("net", "timeout"), 6 * S, times(TIMEOUT));
    // A third of the timeout: two heartbeats may be lost before the peer counts as lost.
    let third = (timeout.value / 3).max(*PING_INTERVAL.start());
    let key = ("net", "ping-interval");
    let ping_interval = reader.with_default(net, key, third, times(PING_INTERVAL));
    let key = ("net", "connect-interval");
    let connect_interval = reader.with_default(net, key, S, times(CONNECT_INTERVAL));

    let management = management::read(&mut reader, root);
    let http = http::read(&mut reader, root);
    let replication = policies::read_replication(&mut reader, root);
    let resync = policies::read_resync(&mut reader, root);
    let disk = policies::read_disk(&mut reader, root);

    let known = &[
        "port",
        "snapshot-port",
        "max-connections",
        "standby-hold",
        "handshake-timeout",
        "floating-address",
    ];
    let export = reader.section(root, "export", known);
    let export = export.as_ref();
    let export_port = reader.with_default(export, ("export", "port"), u32::from(EXPORT_PORT), port);
    let key = ("export", "snapshot-port");
    let snapshot_port = reader.with_default(export, key, u32::from(SNAPSHOT_PORT), port);
    let key = ("export", "max-connections");
    let max_connections = reader.with_default(export, key, 32, |v| {
        value::integer(v, MAX_CONNECTIONS, "a number of connections")
    });
    let key = ("export", "standby-hold");
    let standby_hold = reader.with_default(export, key, 30 * S, times(STANDBY_HOLD));
    let key = ("export", "handshake-timeout");
    let handshake_timeout = reader.with_default(export, key, 10 * S, times(HANDSHAKE_TIMEOUT));

    let floating_address =
        export.and_then(|export| reader.optional(export, "floating-address", value::address));

    let (nics, nics_complete) = lists::read_nics(&mut reader, root);
    let volumes = lists::read_volumes(&mut reader, root);

    let draft = Draft {
        node_name,
        peer_name,
        peer_address,
        secret,
        secret_given: peer.is_some_and(|peer| peer.has("secret")),
        integrity,
        resource,
        management,
        http,
        timeout,
        ping_interval,
        replication,
        resync,
        export_port,
        snapshot_port,
        floating_address,
        nics,
        nics_complete,
        volumes,
    };
    check::all(&mut reader, &draft);
    let (Some(node_name), Some(resource), Some(peer_name), Some(peer_address), true) = (
        draft.node_name,
        draft.resource.resource,
        draft.peer_name,
        draft.peer_address,
        reader.problems.is_empty(),
    ) else {
        return Err(reader.problems.into_errors(text));
    };

    let mut volumes: Vec<Volume> = draft.volumes.into_iter().map(|v| v.volume).collect();
    volumes.sort_by_key(|volume| volume.index);
    let secret = draft.secret.map(|secret| secret.value);
    Ok(Config {
        node: Node {
            name: node_name.value,
            panic: panic.value,
            log_level: log_level.value,
        },
        resource,
        peer: Peer {
            name: peer_name.value,
            address: peer_address.value,
            secret: secret.clone(),
            integrity: draft.integrity.value,
        },
        net: NetTimes {
            timeout: draft.timeout.value,
            ping_interval: draft.ping_interval.value,
            connect_interval: connect_interval.value,
        },
        management: draft.management.finish(secret.as_ref()),
        http: draft.http.finish(),
        nics: draft.nics.into_iter().map(|draft| draft.nic).collect(),
        replication: draft.replication.replication,
        resync: draft.resync.resync,
        disk,
        export: Export {
            port: to_u16(draft.export_port.value),
            snapshot_port: to_u16(draft.snapshot_port.value),
            max_connections: to_u16(max_connections.value),
            standby_hold: standby_hold.value,
            handshake_timeout: handshake_timeout.value,
            floating_address: draft.floating_address.map(|address| address.value),
        },
        volumes,
        defaulted: reader.defaulted,
    })
}

/// Narrows a number whose limits are already within 16 bits.
pub(super) fn to_u16(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

pub(super) fn required_section<'a, 't>(
    reader: &mut Reader<'t>,
    root: &'a DeTable<'t>,
    name: &str,
    known: &[&str],
) -> Option<Section<'a, 't>> {
    if !root.contains_key(name) {
        reader.missing_at_end(format!("the section [{name}] is missing"));
    }
    reader.section(root, name, known)
}

fn on_panic(value: &DeValue<'_>) -> Result<OnPanic, String> {
    let choices = [
        ("reboot", OnPanic::Reboot),
        ("halt", OnPanic::Halt),
        ("exit", OnPanic::Exit),
    ];
    value::choice(value, &choices)
}

fn level(value: &DeValue<'_>) -> Result<Level, String> {
    value::choice(value, &crate::log::LEVELS)
}

pub(super) fn port(value: &DeValue<'_>) -> Result<u32, String> {
    value::integer(value, 1..=65535, "a TCP port")
}
