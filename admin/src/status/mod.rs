//! What the verbs `status`, `disks`, `net` and `version` print, from plain values.
//!
//! Text is made for an 80-column terminal and may change; [`json`] is for programs: its fields
//! only grow within one `schema` number. docs/CONSOLE.md describes both.

mod explain;
mod fence;
mod json;
mod promotion;
mod tables;
mod text;

#[cfg(test)]
pub(crate) mod tests;

pub use explain::{Explained, explain, forecast};
pub use fence::{fence, policy_name};
pub use json::{SCHEMA, json, refused_json};
pub use promotion::explain_roles;
pub use tables::{disks, net};
pub use text::{refused_text, text, version};

use crate::config::{Cidr, ConfigErrors, Mac, Roles};
use alloc::string::String;
use core::net::SocketAddr;
use replication::api::{
    ConnectionState, DiskState, MetadataKind, Micros, Progress, ReplicationState, Role,
};

/// How much of something is in use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// In use now.
    pub used: u64,
    /// There at all.
    pub total: u64,
}

/// What `status` says beside the engine's [`replication::api::Status`].
#[derive(Debug, Clone, Copy)]
pub struct NodeInfo<'a> {
    /// Version of the appliance.
    pub version: &'a str,
    /// Since boot, in microseconds.
    pub uptime: Micros,
    /// The machine's memory.
    pub memory: Usage,
    /// The pool of payload buffers, which is part of it.
    pub pool: Usage,
    /// How often the data path has allocated memory since boot.
    pub allocations: u64,
    /// Whether a crash of the node is on record.
    pub crashed: bool,
    /// Every NBD connection.
    pub clients: &'a [ClientInfo],
}

/// Why a node serves nothing although it runs.
#[derive(Debug, Clone, Copy)]
pub enum Refusal<'a> {
    /// The configuration was refused.
    Config(&'a ConfigErrors),
    /// Disks or network cards that the configuration names are missing or unfit, or there is no
    /// configuration: a sentence each.
    Devices(&'a [String]),
}

/// Where an NBD connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPhase {
    /// Accepted by a standby and held without a greeting.
    Held,
    /// Haggling over options.
    Handshake,
    /// Has a volume open.
    Transmission,
}

/// One NBD connection.
#[derive(Debug, Clone, Copy)]
pub struct ClientInfo {
    /// The client's end.
    pub address: SocketAddr,
    /// Where it stands.
    pub phase: ClientPhase,
    /// Index of the volume it has open.
    pub volume: Option<u16>,
    /// Requests that are not answered yet.
    pub in_flight: u32,
    /// Bytes it read.
    pub read_bytes: u64,
    /// Bytes it wrote.
    pub written_bytes: u64,
    /// Since it connected, in microseconds.
    pub connected_for: Micros,
}

/// One disk, for `disks`.
#[derive(Debug, Clone, Copy)]
pub struct DiskInfo<'a> {
    /// Serial number; empty if it has none.
    pub serial: &'a str,
    /// The volume that uses it.
    pub volume: Option<u16>,
    /// Size in bytes.
    pub capacity: u64,
    /// Logical block size in bytes.
    pub block_size: u32,
    /// Refuses writes.
    pub read_only: bool,
    /// Has a write cache and a flush.
    pub flush: bool,
    /// Can discard.
    pub discard: bool,
    /// Can write zeroes.
    pub write_zeroes: bool,
    /// Bytes read since boot.
    pub read_bytes: u64,
    /// Bytes written since boot.
    pub written_bytes: u64,
    /// Requests that failed since boot.
    pub errors: u64,
    /// Why it cannot be used, or empty.
    pub problem: &'a str,
}

/// One network card, for `net`.
#[derive(Debug, Clone, Copy)]
pub struct NicInfo<'a> {
    /// Its place in the order of discovery.
    pub index: u16,
    /// Its Ethernet address.
    pub mac: Mac,
    /// What it is used for; `None` when no `[[nic]]` means it.
    pub roles: Option<Roles>,
    /// Its IP address, if it has one.
    pub address: Option<Cidr>,
    /// Whether the link is up.
    pub link_up: bool,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Offloads in use, in words (`csum tso`), or empty.
    pub offloads: &'a str,
    /// Frames received since boot.
    pub received_frames: u64,
    /// Bytes received since boot.
    pub received_bytes: u64,
    /// Frames sent since boot.
    pub sent_frames: u64,
    /// Bytes sent since boot.
    pub sent_bytes: u64,
    /// Received frames that were dropped since boot.
    pub dropped_frames: u64,
}

/// The name of a role, as DRBD writes it.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Unknown => "Unknown",
        Role::Secondary => "Secondary",
        Role::Primary => "Primary",
    }
}

/// The name of a disk state, as DRBD writes it.
pub const fn disk_state_name(state: DiskState) -> &'static str {
    match state {
        DiskState::Diskless => "Diskless",
        DiskState::Attaching => "Attaching",
        DiskState::Failed => "Failed",
        DiskState::Negotiating => "Negotiating",
        DiskState::Inconsistent => "Inconsistent",
        DiskState::Outdated => "Outdated",
        DiskState::DUnknown => "DUnknown",
        DiskState::Consistent => "Consistent",
        DiskState::UpToDate => "UpToDate",
    }
}

/// The name of a connection state, as DRBD writes it.
pub const fn connection_name(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::StandAlone => "StandAlone",
        ConnectionState::Unconnected => "Unconnected",
        ConnectionState::Connecting => "Connecting",
        ConnectionState::Handshake => "Handshake",
        ConnectionState::Connected => "Connected",
    }
}

/// The name of a replication state, as DRBD writes it.
pub const fn replication_name(state: ReplicationState) -> &'static str {
    match state {
        ReplicationState::Off => "Off",
        ReplicationState::Established => "Established",
        ReplicationState::WFBitMapS => "WFBitMapS",
        ReplicationState::WFBitMapT => "WFBitMapT",
        ReplicationState::SyncSource => "SyncSource",
        ReplicationState::SyncTarget => "SyncTarget",
        ReplicationState::PausedSyncS => "PausedSyncS",
        ReplicationState::PausedSyncT => "PausedSyncT",
        ReplicationState::VerifyS => "VerifyS",
        ReplicationState::VerifyT => "VerifyT",
        ReplicationState::Ahead => "Ahead",
        ReplicationState::Behind => "Behind",
    }
}

/// What a kind of metadata is called, as in the configuration.
pub const fn metadata_name(kind: MetadataKind) -> &'static str {
    match kind {
        MetadataKind::None => "none",
        MetadataKind::Internal => "internal",
        MetadataKind::External => "external",
    }
}

/// The name of a connection's phase.
pub const fn phase_name(phase: ClientPhase) -> &'static str {
    match phase {
        ClientPhase::Held => "held",
        ClientPhase::Handshake => "handshake",
        ClientPhase::Transmission => "transmission",
    }
}

/// The part that is done in tenths of a percent; 1000 only when nothing is left.
pub(crate) fn permille(progress: &Progress) -> u16 {
    let share = u128::from(progress.done) * 1000 / u128::from(progress.total.max(1));
    u16::try_from(share).unwrap_or(1000).min(1000)
}
