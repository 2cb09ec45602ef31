//! Checks of values against each other.

use super::reader::{At, Reader};
use super::schema::{Draft, NicDraft};
use super::{
    AfterSb0Pri, AfterSb2Pri, Metadata, NicSelector, OnCongestion, Protocol, Roles, RrConflict,
    SECRET_BYTES,
};
use super::{http, management};
use crate::units::{ExactDuration, ExactSize};
use alloc::format;
use core::net::SocketAddrV4;

/// Runs every check; mistakes go to the reader.
pub(super) fn all(reader: &mut Reader<'_>, draft: &Draft) {
    names(reader, draft);
    secret(reader, draft);
    policies(reader, draft);
    times(reader, draft);
    roles(reader, draft);
    cards(reader, draft);
    networks(reader, draft);
    if let Some(peer) = &draft.peer_address {
        let nic = draft.nics.iter().find(|nic| nic.nic.roles.replication);
        reachable(reader, draft, ("peer: address", peer), nic, "replication");
    }
    management::check(reader, draft);
    http::check(reader, draft);
    floating_address(reader, draft);
    ports(reader, draft);
    volumes(reader, draft);
    metadata_disks(reader, draft);
    resync_order(reader, draft);
}

fn names(reader: &mut Reader<'_>, draft: &Draft) {
    if let (Some(node), Some(peer)) = (&draft.node_name, &draft.peer_name)
        && node.value == peer.value
    {
        let message = format!(
            "peer: name: found \"{}\", which is this node's own name (node.name); \
             expected the other node's",
            peer.value
        );
        reader.problem(peer.span.clone(), message);
    }
}

fn secret(reader: &mut Reader<'_>, draft: &Draft) {
    let integrity = &draft.integrity;
    if integrity.value.needs_secret() && !draft.secret_given {
        let message = format!(
            "peer: integrity: found \"{}\", which needs keys; expected a secret, too: \
             secret = \"...\", {} to {} characters, the same on both nodes",
            integrity.value.name(),
            SECRET_BYTES.start(),
            SECRET_BYTES.end()
        );
        reader.problem(integrity.span.clone(), message);
    }
}

fn policies(reader: &mut Reader<'_>, draft: &Draft) {
    if let AfterSb0Pri::DiscardNode(name) = &draft.resource.after_sb_0pri.value
        && let (Some(node), Some(peer)) = (&draft.node_name, &draft.peer_name)
        && *name != node.value
        && *name != peer.value
    {
        let message = format!(
            "resource: after-sb-0pri: found \"{name}\" as a node's name, expected \"{}\" or \"{}\"",
            node.value, peer.value
        );
        reader.problem(draft.resource.after_sb_0pri.span.clone(), message);
    }
    let two = &draft.resource.after_sb_2pri;
    if two.value == AfterSb2Pri::Violently && draft.resource.rr_conflict != RrConflict::Violently {
        let message = "resource: after-sb-2pri: found \"violently\", which has no effect unless \
                       rr-conflict = \"violently\", too: a Primary loses; expected both or neither";
        reader.problem(two.span.clone(), message.into());
    }
    let replication = &draft.replication;
    if replication.replication.on_congestion == OnCongestion::PullAhead
        && draft.resource.protocol != Protocol::A
    {
        let message = "replication: on-congestion: found \"pull-ahead\", which breaks the promise of \
                       protocols B and C to answer when the peer has a write; expected \"block\", \
                       \"disconnect\", or resource.protocol = \"A\"";
        reader.problem(replication.on_congestion.clone(), message.into());
    }
    let resync = &draft.resync;
    let (least, most) = (resync.resync.c_min_rate, resync.resync.c_max_rate);
    if let Some(most) = most.filter(|most| *most < least) {
        let message = format!(
            "resync: c-min-rate is {}, expected at most c-max-rate ({})",
            ExactSize(least),
            ExactSize(most)
        );
        // If the former was left out, only the latter has a place.
        let left_out = reader
            .defaulted
            .iter()
            .any(|key| key == "resync.c-min-rate");
        let place = if left_out {
            &resync.c_max_rate
        } else {
            &resync.c_min_rate
        };
        reader.problem(place.clone(), message);
    }
}

fn times(reader: &mut Reader<'_>, draft: &Draft) {
    let (timeout, ping) = (&draft.timeout, &draft.ping_interval);
    if ping.value > timeout.value / 2 {
        let message = format!(
            "net: ping-interval: found {}, expected at most half of the timeout ({} / 2), \
             or one lost heartbeat would lose the peer",
            ExactDuration(ping.value),
            ExactDuration(timeout.value)
        );
        reader.problem(ping.span.clone(), message);
    }
}

fn roles(reader: &mut Reader<'_>, draft: &Draft) {
    type Has = fn(&Roles) -> bool;
    let counted: [(&str, Has, bool); 3] = [
        ("replication", |roles| roles.replication, true),
        ("export", |roles| roles.export, false),
        ("management", |roles| roles.management, true),
    ];
    for (role, has, only_one) in counted {
        let mut with = draft.nics.iter().filter(|nic| has(&nic.nic.roles));
        let first = with.next();
        if first.is_none() && draft.nics_complete && role != "management" {
            reader.missing_at_end(format!("no [[nic]] has the role \"{role}\", expected one"));
        }
        if let Some(second) = with.next().filter(|_| only_one) {
            let message = format!("a second [[nic]] has the role \"{role}\", expected only one");
            reader.problem(second.roles.clone(), message);
        }
    }
}

/// Every pair of cards once, the later one of the text second.
fn pairs(nics: &[NicDraft]) -> impl Iterator<Item = (&NicDraft, &NicDraft)> {
    nics.iter()
        .enumerate()
        .flat_map(move |(place, second)| nics[..place].iter().map(move |first| (first, second)))
}

fn cards(reader: &mut Reader<'_>, draft: &Draft) {
    for (first, second) in pairs(&draft.nics) {
        if first.nic.selector == second.nic.selector {
            let message = match second.nic.selector {
                NicSelector::Mac(mac) => format!("a second [[nic]] has the mac {mac}"),
                NicSelector::Index(index) => format!("a second [[nic]] has the index {index}"),
            };
            let message = format!("{message}; expected each card once (it may have several roles)");
            reader.problem(second.selector.clone(), message);
        }
    }
}

fn networks(reader: &mut Reader<'_>, draft: &Draft) {
    for (first, second) in pairs(&draft.nics) {
        let (one, other) = (first.nic.address, second.nic.address);
        if one.overlaps(other) {
            let message = format!(
                "the network of {other} overlaps that of {one} on another [[nic]]; \
                 expected a network of its own for each card"
            );
            reader.problem(second.address.clone(), message);
        }
    }
    for NicDraft {
        nic,
        gateway: place,
        ..
    } in &draft.nics
    {
        let Some(gateway) = nic.gateway else { continue };
        let network = nic.address;
        if gateway == network.address {
            let message = format!("gateway: found this card's own address {gateway}");
            reader.problem(place.clone(), format!("{message}, expected the router's"));
        } else if !network.contains(gateway)
            || gateway == network.network()
            || gateway == network.broadcast()
        {
            let message = format!("gateway: found {gateway}, expected a host in {network}");
            reader.problem(place.clone(), message);
        }
    }
}

/// Checks that somebody else's address, `name` in messages, can be reached from the card with that role.
pub(super) fn reachable(
    reader: &mut Reader<'_>,
    draft: &Draft,
    (name, at): (&str, &At<SocketAddrV4>),
    nic: Option<&NicDraft>,
    role: &str,
) {
    let ip = *at.value.ip();
    if draft.nics.iter().any(|nic| nic.nic.address.address == ip) {
        let message = format!("{name}: found {ip}, which is this node's own address");
        reader.problem(at.span.clone(), message);
        return;
    }
    let Some(NicDraft { nic, .. }) = nic else {
        return;
    };
    let network = nic.address;
    if !network.contains(ip) && nic.gateway.is_none() {
        let message = format!(
            "{name}: found {ip}, expected an address in {network}, the network of the \
             [[nic]] with the role {role} (or give that a gateway)"
        );
        reader.problem(at.span.clone(), message);
    } else if ip == network.network() || ip == network.broadcast() {
        let message = format!("{name}: found {ip}, expected a host in {network}");
        reader.problem(at.span.clone(), message);
    }
}

fn floating_address(reader: &mut Reader<'_>, draft: &Draft) {
    let Some(floating) = &draft.floating_address else {
        return;
    };
    let ip = floating.value;
    let mut exports = draft.nics.iter().filter(|nic| nic.nic.roles.export);
    let problem = if draft.nics.iter().any(|nic| nic.nic.address.address == ip) {
        "which is this node's own address, expected one that neither node has by itself"
    } else if draft
        .peer_address
        .as_ref()
        .is_some_and(|peer| *peer.value.ip() == ip)
    {
        "which is the peer's address, expected one that neither node has by itself"
    } else if !draft.nics_complete
        || exports.any(|NicDraft { nic, .. }| {
            let network = nic.address;
            network.contains(ip)
                && ip != network.network()
                && ip != network.broadcast()
                && nic.gateway != Some(ip)
        })
    {
        return;
    } else {
        "expected a host's address in the network of a [[nic]] with the role export"
    };
    let message = format!("export: floating-address: found {ip}, {problem}");
    reader.problem(floating.span.clone(), message);
}

fn ports(reader: &mut Reader<'_>, draft: &Draft) {
    let shared = draft
        .nics
        .iter()
        .any(|nic| nic.nic.roles.replication && nic.nic.roles.export);
    let (replication, export) = (&draft.replication, &draft.export_port);
    if shared && u32::from(replication.replication.port) == export.value {
        let message = format!(
            "export: port: found {}, which is the replication's on the same card; \
             expected another (the default is {})",
            export.value,
            super::EXPORT_PORT
        );
        // Either may be the one that was left out and has no place of its own.
        let place = if export.span.is_empty() {
            &replication.port
        } else {
            &export.span
        };
        reader.problem(place.clone(), message);
    }
    snapshot_port(reader, draft, shared);
}

/// Only where it is used: many configurations of before there were snapshots have that port for something else.
fn snapshot_port(reader: &mut Reader<'_>, draft: &Draft, shared: bool) {
    if !draft.has_snapshots() {
        return;
    }
    let (replication, export, snapshot) =
        (&draft.replication, &draft.export_port, &draft.snapshot_port);
    let (other, whose) = if snapshot.value == export.value {
        (&export.span, "the export's port")
    } else if shared && u32::from(replication.replication.port) == snapshot.value {
        (&replication.port, "the replication's on the same card")
    } else {
        return;
    };
    let message = format!(
        "export: snapshot-port: found {}, which is {whose}; expected another (the default is {})",
        snapshot.value,
        super::SNAPSHOT_PORT
    );
    let defaulted = (reader.defaulted.iter()).any(|key| key == "export.snapshot-port");
    let place = if defaulted { other } else { &snapshot.span };
    reader.problem(place.clone(), message);
}

fn volumes(reader: &mut Reader<'_>, draft: &Draft) {
    for (place, second) in draft.volumes.iter().enumerate() {
        let (volume, earlier) = (&second.volume, &draft.volumes[..place]);
        if earlier.iter().any(|v| v.volume.index == volume.index) {
            let message = format!("a second [[volume]] has the index {}", volume.index);
            let message = format!("{message}; expected each once");
            reader.problem(second.index.clone(), message);
        }
        if earlier.iter().any(|v| v.volume.serial == volume.serial) {
            let message = format!("a second [[volume]] has the serial \"{}\"", volume.serial);
            let message = format!("{message}; expected a disk of its own for each");
            reader.problem(second.serial.clone(), message);
        }
        let block = u64::from(volume.block_size);
        if let Some(size) = volume.size.filter(|size| !size.is_multiple_of(block)) {
            let message = format!(
                "size: found {size} bytes, expected a multiple of the block-size {block}; \
                 the nearest below is \"{}\"",
                ExactSize(size - size % block)
            );
            reader.problem(second.size.clone(), message);
        }
    }
}

/// A disk of metadata is for one volume's metadata and nothing else.
fn metadata_disks(reader: &mut Reader<'_>, draft: &Draft) {
    for (place, second) in draft.volumes.iter().enumerate() {
        let Metadata::External(serial) = &second.volume.metadata else {
            continue;
        };
        let mut others = draft.volumes[..place].iter().map(|v| &v.volume.metadata);
        let what = if draft.volumes.iter().any(|v| v.volume.serial == *serial) {
            "the disk of a volume"
        } else if others.any(|other| *other == second.volume.metadata) {
            "where another volume's metadata is"
        } else {
            continue;
        };
        let message = format!(
            "metadata: found the serial \"{serial}\", which is {what}; expected a disk of its own"
        );
        reader.problem(second.metadata.clone(), message);
    }
}

/// Every `resync-after` names another volume, and following them comes to an end.
fn resync_order(reader: &mut Reader<'_>, draft: &Draft) {
    let find = |index| draft.volumes.iter().find(|v| v.volume.index == index);
    for first in &draft.volumes {
        let Some(after) = first.volume.resync_after else {
            continue;
        };
        if find(after).is_none() {
            let message = format!(
                "resync-after: found \"vol{after}\", and there is no [[volume]] with index = {after}"
            );
            reader.problem(first.resync_after.clone(), message);
            continue;
        }
        let mut next = Some(after);
        // More steps than there are volumes are a circle that this one only leads to.
        for _ in &draft.volumes {
            if next == Some(first.volume.index) {
                let message = format!(
                    "resync-after: found \"vol{after}\", which waits for vol{} itself; expected \
                     an order without a circle",
                    first.volume.index
                );
                reader.problem(first.resync_after.clone(), message);
                break;
            }
            next = next.and_then(find).and_then(|v| v.volume.resync_after);
        }
    }
}
