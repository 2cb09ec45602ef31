//! The sections that are there several times: `[[nic]]` and `[[volume]]`.

use super::reader::{At, Reader, Section};
use super::schema::{NicDraft, VolumeDraft, to_u16};
use super::{Metadata, NICS_MAX, Nic, NicSelector, Roles, SnapshotPolicy, Volume, value};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use replication::api::MAX_VOLUMES;
use toml::de::{DeTable, DeValue};

/// 576: what every IPv4 host must take; 65535: the largest that virtio-net can carry.
const MTU: RangeInclusive<u32> = 576..=65535;
/// The upper limit only catches slips of the pen; memory for the dirty bitmap (32 MiB per TiB) is
/// the real one. The lower one is far below any useful disk.
/// What may be set aside for the old content of a resync's target: it takes 20 to 28 bytes of memory for 4 KiB.
const SNAPSHOT_RESERVE: RangeInclusive<u64> = 1 << 20..=256 << 30;
const VOLUME_SIZE: RangeInclusive<u64> = 64 << 10..=64 << 40;

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

/// Reads every `[[nic]]`; whether all of them could be read.
pub(super) fn read_nics<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> (Vec<NicDraft>, bool) {
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

/// Reads every `[[volume]]`.
pub(super) fn read_volumes<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> Vec<VolumeDraft> {
    let known = &[
        "index",
        "serial",
        "size",
        "block-size",
        "description",
        "metadata",
        "resync-after",
        "snapshot",
        "snapshot-reserve",
    ];
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
    let name = &*format!("volume {named}");
    let key = (name, "block-size");
    let block_size = reader.with_default(Some(section), key, 512, |v| match v {
        DeValue::Integer(digits) if digits.as_str() == "512" => Ok(512),
        DeValue::Integer(digits) if digits.as_str() == "4096" => Ok(4096),
        _ => Err("512 or 4096, without quotes".into()),
    });
    let description = reader.optional(section, "description", |v| {
        value::printable(v, "a description")
    });
    let key = (name, "metadata");
    let metadata = reader.with_default(Some(section), key, Metadata::Internal, value::metadata);
    let resync_after = reader.optional(section, "resync-after", value::volume);
    let key = (name, "snapshot");
    let snapshot = reader.with_default(Some(section), key, SnapshotPolicy::Off, value::policy);
    let reserve = reader.optional(section, "snapshot-reserve", |v| {
        value::size(v, SNAPSHOT_RESERVE)
    });
    if snapshot.value != SnapshotPolicy::Off && reserve.is_none() {
        let word = snapshot.value.name();
        let message = format!(
            "{name}: snapshot: found \"{word}\" without snapshot-reserve; expected how much of the disk is set aside for it, such as snapshot-reserve = \"1GiB\""
        );
        reader.problem(snapshot.span.clone(), message);
    }
    let (index, serial) = (index?, serial?);
    Some(VolumeDraft {
        volume: Volume {
            index: to_u16(index.value),
            serial: serial.value,
            size: size.as_ref().map(|size| size.value),
            block_size: block_size.value,
            description: description.map(|description| description.value),
            metadata: metadata.value,
            resync_after: resync_after.as_ref().map(|after| after.value),
            snapshot: snapshot.value,
            snapshot_reserve: reserve.map_or(0, |reserve| reserve.value),
        },
        metadata: metadata.span,
        resync_after: resync_after.map_or(0..0, |after| after.span),
        index: index.span,
        serial: serial.span,
        size: size.map_or(0..0, |size| size.span),
    })
}
