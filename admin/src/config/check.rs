//! Checks of values against each other.

use super::reader::Reader;
use super::schema::{Draft, NicDraft};
use super::{NicSelector, Roles};
use crate::units::{ExactDuration, ExactSize};
use alloc::format;

/// Runs every check; mistakes go to the reader.
pub(super) fn all(reader: &mut Reader<'_>, draft: &Draft) {
    names(reader, draft);
    times(reader, draft);
    roles(reader, draft);
    cards(reader, draft);
    networks(reader, draft);
    peer_address(reader, draft);
    ports(reader, draft);
    volumes(reader, draft);
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

fn peer_address(reader: &mut Reader<'_>, draft: &Draft) {
    let Some(peer) = &draft.peer_address else {
        return;
    };
    let ip = *peer.value.ip();
    if draft.nics.iter().any(|nic| nic.nic.address.address == ip) {
        let message = format!("peer: address: found {ip}, which is this node's own address");
        reader.problem(peer.span.clone(), message);
        return;
    }
    let link = draft.nics.iter().find(|nic| nic.nic.roles.replication);
    let Some(NicDraft { nic, .. }) = link else {
        return;
    };
    let network = nic.address;
    if !network.contains(ip) && nic.gateway.is_none() {
        let message = format!(
            "peer: address: found {ip}, expected an address in {network}, the network of the \
             [[nic]] with the role replication (or give that a gateway)"
        );
        reader.problem(peer.span.clone(), message);
    } else if ip == network.network() || ip == network.broadcast() {
        let message = format!("peer: address: found {ip}, expected a host in {network}");
        reader.problem(peer.span.clone(), message);
    }
}

fn ports(reader: &mut Reader<'_>, draft: &Draft) {
    let shared = draft
        .nics
        .iter()
        .any(|nic| nic.nic.roles.replication && nic.nic.roles.export);
    let (replication, export) = (&draft.replication_port, &draft.export_port);
    if shared && replication.value == export.value {
        let message = format!(
            "export: port: found {}, which is the replication's on the same card; \
             expected another (the default is {})",
            export.value,
            super::EXPORT_PORT
        );
        // Either may be the one that was left out and has no place of its own.
        let place = if export.span.is_empty() {
            &replication.span
        } else {
            &export.span
        };
        reader.problem(place.clone(), message);
    }
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
