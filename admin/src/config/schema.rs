//! The sections and keys, their defaults and limits. `docs/CONFIG.md` says the same for people.

use super::check;
use super::reader::{At, Reader, Section};
use super::value;
use super::{
    Config, ConfigErrors, EXPORT_PORT, Export, Fencing, NICS_MAX, NetTimes, Nic, NicSelector, Node,
    OnPanic, Peer, Protocol, REPLICATION_PORT, Resource, Roles, Volume,
};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::{Range, RangeInclusive};
use replication::api::{Level, MAX_VOLUMES, Micros, Name};
use toml::de::{DeTable, DeValue};

const MS: Micros = 1_000;
const S: Micros = 1_000 * MS;
const MIN: Micros = 60 * S;

pub(super) const TIMEOUT: RangeInclusive<Micros> = 500 * MS..=10 * MIN;
pub(super) const PING_INTERVAL: RangeInclusive<Micros> = 100 * MS..=5 * MIN;
const CONNECT_INTERVAL: RangeInclusive<Micros> = 100 * MS..=2 * MIN;
const STANDBY_HOLD: RangeInclusive<Micros> = S..=10 * MIN;
const HANDSHAKE_TIMEOUT: RangeInclusive<Micros> = S..=2 * MIN;
const MAX_CONNECTIONS: RangeInclusive<u32> = 16..=128;
/// 576: what every IPv4 host must take; 65535: the largest that virtio-net can carry.
const MTU: RangeInclusive<u32> = 576..=65535;
/// The upper limit only catches slips of the pen; memory for the dirty bitmap (32 MiB per TiB) is
/// the real one. The lower one is far below any useful disk.
const VOLUME_SIZE: RangeInclusive<u64> = 64 << 10..=64 << 40;

const SECTIONS: &[&str] = &[
    "node",
    "resource",
    "peer",
    "net",
    "nic",
    "replication",
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
}

/// Everything that could be read, for the cross checks.
pub(super) struct Draft {
    pub(super) node_name: Option<At<Name>>,
    pub(super) peer_name: Option<At<Name>>,
    pub(super) peer_address: Option<At<SocketAddrV4>>,
    pub(super) timeout: At<Micros>,
    pub(super) ping_interval: At<Micros>,
    pub(super) replication_port: At<u32>,
    pub(super) export_port: At<u32>,
    pub(super) nics: Vec<NicDraft>,
    /// Whether every `[[nic]]` of the text is in `nics`.
    pub(super) nics_complete: bool,
    pub(super) volumes: Vec<VolumeDraft>,
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

    let known = &["name", "protocol", "fencing"];
    let resource = required_section(&mut reader, root, "resource", known);
    let resource = resource.as_ref();
    let resource_name = resource.and_then(|r| reader.required(r, "name", value::name));
    let key = ("resource", "protocol");
    let protocol = reader.with_default(resource, key, Protocol::C, protocol);
    let key = ("resource", "fencing");
    let fencing = reader.with_default(resource, key, Fencing::DontCare, fencing);

    let peer = required_section(&mut reader, root, "peer", &["name", "address"]);
    let peer = peer.as_ref();
    let peer_name = peer.and_then(|peer| reader.required(peer, "name", value::name));
    let endpoint = |v: &DeValue<'t>| value::endpoint(v, REPLICATION_PORT);
    let peer_address = peer.and_then(|peer| reader.required(peer, "address", endpoint));

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

    let replication = reader.section(root, "replication", &["port"]);
    let key = ("replication", "port");
    let default = u32::from(REPLICATION_PORT);
    let replication_port = reader.with_default(replication.as_ref(), key, default, port);

    let known = &[
        "port",
        "max-connections",
        "standby-hold",
        "handshake-timeout",
    ];
    let export = reader.section(root, "export", known);
    let export = export.as_ref();
    let export_port = reader.with_default(export, ("export", "port"), u32::from(EXPORT_PORT), port);
    let key = ("export", "max-connections");
    let max_connections = reader.with_default(export, key, 32, |v| {
        value::integer(v, MAX_CONNECTIONS, "a number of connections")
    });
    let key = ("export", "standby-hold");
    let standby_hold = reader.with_default(export, key, 30 * S, times(STANDBY_HOLD));
    let key = ("export", "handshake-timeout");
    let handshake_timeout = reader.with_default(export, key, 10 * S, times(HANDSHAKE_TIMEOUT));

    let (nics, nics_complete) = read_nics(&mut reader, root);
    let volumes = read_volumes(&mut reader, root);

    let draft = Draft {
        node_name,
        peer_name,
        peer_address,
        timeout,
        ping_interval,
        replication_port,
        export_port,
        nics,
        nics_complete,
        volumes,
    };
    check::all(&mut reader, &draft);
    let (Some(node_name), Some(resource_name), Some(peer_name), Some(peer_address), true) = (
        draft.node_name,
        resource_name,
        draft.peer_name,
        draft.peer_address,
        reader.problems.is_empty(),
    ) else {
        return Err(reader.problems.into_errors(text));
    };

    let mut volumes: Vec<Volume> = draft.volumes.into_iter().map(|v| v.volume).collect();
    volumes.sort_by_key(|volume| volume.index);
    Ok(Config {
        node: Node {
            name: node_name.value,
            panic: panic.value,
            log_level: log_level.value,
        },
        resource: Resource {
            name: resource_name.value,
            protocol: protocol.value,
            fencing: fencing.value,
        },
        peer: Peer {
            name: peer_name.value,
            address: peer_address.value,
        },
        net: NetTimes {
            timeout: draft.timeout.value,
            ping_interval: draft.ping_interval.value,
            connect_interval: connect_interval.value,
        },
        nics: draft.nics.into_iter().map(|draft| draft.nic).collect(),
        replication_port: to_u16(draft.replication_port.value),
        export: Export {
            port: to_u16(draft.export_port.value),
            max_connections: to_u16(max_connections.value),
            standby_hold: standby_hold.value,
            handshake_timeout: handshake_timeout.value,
        },
        volumes,
        defaulted: reader.defaulted,
    })
}

/// Narrows a number whose limits are already within 16 bits.
fn to_u16(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn required_section<'a, 't>(
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

fn protocol(value: &DeValue<'_>) -> Result<Protocol, String> {
    value::choice(value, &[("C", Protocol::C)]).map_err(|c| {
        format!("{c}: this version mirrors synchronously only (A and B are not in it)")
    })
}

fn fencing(value: &DeValue<'_>) -> Result<Fencing, String> {
    value::choice(value, &[("dont-care", Fencing::DontCare)]).map_err(|only| {
        format!("{only}: resource-only and resource-and-stonith come with a later version")
    })
}

fn port(value: &DeValue<'_>) -> Result<u32, String> {
    value::integer(value, 1..=65535, "a TCP port")
}

/// Reads every `[[name]]` with `read`; whether all of them could be read, and there was one.
fn read_list<'t, T>(
    reader: &mut Reader<'t>,
    root: &DeTable<'t>,
    (name, known, most): (&str, &[&str], usize),
    read: impl Fn(&mut Reader<'t>, &Section<'_, 't>) -> Option<T>,
) -> (Vec<T>, bool) {
    let sections = reader.sections(root, name, known);
    if !root.contains_key(name) {
        reader.missing_at_end(format!("no [[{name}]] is given, expected at least one"));
    }
    let mut list = Vec::new();
    let count = sections.len();
    for section in sections {
        if list.len() == most {
            let message = format!("too many [[{name}]], expected at most {most}");
            reader.problem(section.span, message);
            break;
        }
        list.extend(read(reader, &section));
    }
    let complete = list.len() == count && count > 0;
    (list, complete)
}

fn read_nics<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> (Vec<NicDraft>, bool) {
    let known = &["roles", "mac", "index", "address", "gateway", "mtu"];
    read_list(reader, root, ("nic", known, NICS_MAX), read_nic)
}

fn read_nic<'t>(reader: &mut Reader<'t>, section: &Section<'_, 't>) -> Option<NicDraft> {
    let roles = reader.required(section, "roles", roles);
    let mac = reader.optional(section, "mac", value::mac);
    let index = reader.optional(section, "index", |v| {
        value::integer(v, 0..=31, "the card's place in the order of discovery,")
    });
    let address = reader.required(section, "address", value::cidr);
    let gateway = reader.optional(section, "gateway", value::address);
    let mtu = reader.optional(section, "mtu", |v| value::integer(v, MTU, "bytes"));
    let selector = match (mac, index) {
        (Some(mac), None) => Some((NicSelector::Mac(mac.value), mac.span)),
        (None, Some(index)) => Some((NicSelector::Index(to_u16(index.value)), index.span)),
        (Some(_), Some(index)) => {
            let message = "both \"mac\" and \"index\" are given, expected one of them";
            reader.problem(index.span, message.into());
            None
        }
        (None, None) => {
            if !section.has("mac") && !section.has("index") {
                let message = "which card? Expected mac = \"52:54:...\" or index = 0";
                reader.problem(section.span.clone(), message.into());
            }
            None
        }
    };
    let (selector, roles, address) = (selector?, roles?, address?);
    Some(NicDraft {
        nic: Nic {
            selector: selector.0,
            roles: roles.value,
            address: address.value,
            gateway: gateway.as_ref().map(|gateway| gateway.value),
            mtu: mtu.map(|mtu| to_u16(mtu.value)),
        },
        selector: selector.1,
        address: address.span,
        gateway: gateway.map_or(0..0, |gateway: At<Ipv4Addr>| gateway.span),
        roles: roles.span,
    })
}

fn roles(value: &DeValue<'_>) -> Result<Roles, String> {
    let words = ["replication", "export", "management"];
    let expected = || {
        let words = value::one_of(words.into_iter());
        format!("an array of at least one of {words}, such as [\"replication\"]")
    };
    let array = value.as_array().filter(|array| array.iter().len() > 0);
    let mut roles = Roles::default();
    for word in array.ok_or_else(expected)?.iter() {
        let role = match word.get_ref() {
            DeValue::String(word) if *word == words[0] => &mut roles.replication,
            DeValue::String(word) if *word == words[1] => &mut roles.export,
            DeValue::String(word) if *word == words[2] => &mut roles.management,
            _ => return Err(expected()),
        };
        if core::mem::replace(role, true) {
            return Err("each role once".into());
        }
    }
    Ok(roles)
}

fn read_volumes<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> Vec<VolumeDraft> {
    let known = &["index", "serial", "size", "block-size", "description"];
    read_list(reader, root, ("volume", known, MAX_VOLUMES), read_volume).0
}

fn read_volume<'t>(reader: &mut Reader<'t>, section: &Section<'_, 't>) -> Option<VolumeDraft> {
    let index = reader.required(section, "index", |v| {
        value::integer(v, 0..=255, "the volume's number")
    });
    let serial = reader.required(section, "serial", |v| {
        value::printable(v, "the serial number of a disk")
    });
    let size = reader.optional(section, "size", |v| value::size(v, VOLUME_SIZE));
    let named = index.as_ref().map_or(u32::MAX, |index| index.value);
    let key = (&*format!("volume {named}"), "block-size");
    let block_size = reader.with_default(Some(section), key, 512, |v| match v {
        DeValue::Integer(digits) if digits.as_str() == "512" => Ok(512),
        DeValue::Integer(digits) if digits.as_str() == "4096" => Ok(4096),
        _ => Err("512 or 4096, without quotes".into()),
    });
    let description = reader.optional(section, "description", |v| {
        value::printable(v, "a description")
    });
    let (index, serial) = (index?, serial?);
    Some(VolumeDraft {
        volume: Volume {
            index: to_u16(index.value),
            serial: serial.value,
            size: size.as_ref().map(|size| size.value),
            block_size: block_size.value,
            description: description.map(|description| description.value),
        },
        index: index.span,
        serial: serial.span,
        size: size.map_or(0..0, |size| size.span),
    })
}
