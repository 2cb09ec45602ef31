//! `[management]`: where the peer and the arbiter are asked for a fence.

use super::reader::{At, Reader};
use super::schema::{Draft, NicDraft, port, to_u16};
use super::{Fencing, SECRET_BYTES, Secret, check, value};
use alloc::format;
use alloc::string::String;
use core::net::SocketAddrV4;
use core::ops::{Range, RangeInclusive};
use replication::api::Micros;
use toml::de::{DeTable, DeValue};

/// UDP port of the management network, on nodes and arbiter.
pub const MANAGEMENT_PORT: u16 = 7790;

/// Longer than the arbiter gives a handler by default, so that its word comes before the node's patience ends.
const NOTIFY_TIMEOUT_DEFAULT: Micros = 150_000_000;
const NOTIFY_TIMEOUT: RangeInclusive<Micros> = 1_000_000..=7_200_000_000;

/// The name by which the arbiter goes in datagrams; no node may have it.
const ARBITER: &str = "arbiter";

/// `[management]`. The node's own address is that of the `[[nic]]` with the role management.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// UDP port on which this node is asked, and from which it asks.
    pub port: u16,
    /// Where the peer is asked.
    pub peer: Option<SocketAddrV4>,
    /// Where the arbiter is asked.
    pub arbiter: Option<SocketAddrV4>,
    /// Whether the arbiter is told of the occasions for handlers.
    pub notify: bool,
    /// For how many microseconds it is asked about one.
    pub notify_timeout: Micros,
    /// What the keys of the datagrams are made of: its own, or that of `[peer]`.
    pub secret: Secret,
}

/// `[management]` with the places of what the cross checks look at.
pub(super) struct ManagementDraft {
    /// The header; `None` if there is no such section.
    section: Option<Range<usize>>,
    port: u32,
    peer: Option<At<SocketAddrV4>>,
    arbiter: Option<At<SocketAddrV4>>,
    /// Whether one of them is given, well or not.
    somebody: bool,
    notify: Option<At<bool>>,
    notify_timeout: Micros,
    arbiter_given: bool,
    secret: Option<At<Secret>>,
    /// Whether it is given, well or not.
    secret_given: bool,
}

pub(super) fn read<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> ManagementDraft {
    let known = &[
        "port",
        "peer",
        "arbiter",
        "notify",
        "notify-timeout",
        "secret",
    ];
    let section = reader.section(root, "management", known);
    let section = section.as_ref();
    let endpoint = |v: &DeValue<'t>| value::endpoint(v, MANAGEMENT_PORT);
    let (mut port_value, mut notify_timeout) = (MANAGEMENT_PORT.into(), NOTIFY_TIMEOUT_DEFAULT);
    let mut notify = None;
    if section.is_some() {
        let key = |key| ("management", key);
        port_value = reader
            .with_default(section, key("port"), port_value, port)
            .value;
        notify = Some(reader.with_default(section, key("notify"), false, value::boolean));
        let limits = |v: &DeValue<'t>| value::duration(v, NOTIFY_TIMEOUT);
        notify_timeout = reader
            .with_default(section, key("notify-timeout"), notify_timeout, limits)
            .value;
    }
    ManagementDraft {
        section: section.map(|section| section.span.clone()),
        port: port_value,
        peer: section.and_then(|section| reader.optional(section, "peer", endpoint)),
        arbiter: section.and_then(|section| reader.optional(section, "arbiter", endpoint)),
        somebody: section.is_some_and(|section| section.has("peer") || section.has("arbiter")),
        notify,
        notify_timeout,
        arbiter_given: section.is_some_and(|section| section.has("arbiter")),
        secret: section
            .and_then(|section| reader.optional_secret(section, "secret", value::secret)),
        secret_given: section.is_some_and(|section| section.has("secret")),
    }
}

impl ManagementDraft {
    /// Its own secret.
    pub(super) fn own_secret(&self) -> Option<&Secret> {
        self.secret.as_ref().map(|secret| &secret.value)
    }

    /// The section, if there is one and it is sound; `of_peer` is the secret of `[peer]`.
    pub(super) fn finish(self, of_peer: Option<&Secret>) -> Option<Management> {
        self.section?;
        let own = self.secret.map(|secret| secret.value);
        Some(Management {
            port: to_u16(self.port),
            peer: self.peer.map(|peer| peer.value),
            arbiter: self.arbiter.map(|arbiter| arbiter.value),
            notify: self.notify.is_some_and(|notify| notify.value),
            notify_timeout: self.notify_timeout,
            secret: own.or_else(|| of_peer.cloned())?,
        })
    }
}

/// Checks it against the rest.
pub(super) fn check(reader: &mut Reader<'_>, draft: &Draft) {
    let management = &draft.management;
    somebody_to_ask(reader, draft);
    let Some(section) = &management.section else {
        return;
    };
    let mut missing = |what: &str| reader.problem(section.clone(), format!("management: {what}"));
    if !management.secret_given && !draft.secret_given {
        missing(&format!(
            "there is no secret; expected secret = \"...\", {} to {} characters, the same on both nodes \
             and the arbiter, here or in [peer]",
            SECRET_BYTES.start(),
            SECRET_BYTES.end()
        ));
    }
    let mut nics = draft.nics.iter();
    let nic = nics.find(|nic| nic.nic.roles.management);
    if nic.is_none() && draft.nics_complete {
        missing(
            "no [[nic]] has the role \"management\", expected one; it may have other roles, too",
        );
    }
    if let Some(notify) = management.notify.as_ref().filter(|notify| notify.value)
        && !management.arbiter_given
    {
        let message = String::from(
            "management: notify: found true, and there is no arbiter that could run handlers; expected its address \
             (arbiter = \"...\")",
        );
        reader.problem(notify.span.clone(), message);
    }
    addresses(reader, draft, nic);
    for (section, name) in [("node", &draft.node_name), ("peer", &draft.peer_name)] {
        if let Some(name) = name.as_ref().filter(|name| name.value == ARBITER) {
            let message = format!(
                "{section}: name: found \"{ARBITER}\", which is what the arbiter is called on the \
                 management network; expected another"
            );
            reader.problem(name.span.clone(), message);
        }
    }
}

/// A policy with fencing needs somebody who can be asked for a fence.
fn somebody_to_ask(reader: &mut Reader<'_>, draft: &Draft) {
    let (management, fencing) = (&draft.management, &draft.resource.fencing);
    if fencing.value == Fencing::DontCare || management.somebody {
        return;
    }
    let policy = fencing.value.name();
    match &management.section {
        Some(section) => reader.problem(
            section.clone(),
            format!(
                "management: there is nobody to ask for a fence, which resource.fencing = \"{policy}\" \
                 needs; expected the peer's address (peer = \"...\"), the arbiter's (arbiter = \"...\"), or \
                 both"
            ),
        ),
        None => reader.problem(
            fencing.span.clone(),
            format!(
                "resource: fencing: found \"{policy}\", and there is nobody to ask for a fence; expected a \
                 section [management] with the peer's address (peer = \"...\"), the arbiter's \
                 (arbiter = \"...\"), or both, and a [[nic]] with the role \"management\""
            ),
        ),
    }
}

fn addresses(reader: &mut Reader<'_>, draft: &Draft, nic: Option<&NicDraft>) {
    let management = &draft.management;
    for (key, at) in [("peer", &management.peer), ("arbiter", &management.arbiter)] {
        if let Some(at) = at {
            let name = format!("management: {key}");
            check::reachable(reader, draft, (&name, at), nic, "management");
        }
    }
    if let (Some(peer), Some(arbiter)) = (&management.peer, &management.arbiter)
        && peer.value == arbiter.value
    {
        let message = format!(
            "management: arbiter: found {}, which is the peer's; expected an arbiter on a third machine",
            arbiter.value
        );
        reader.problem(arbiter.span.clone(), message);
    }
}
