//! The configuration: a TOML text, at most 64 KiB, that the loader hands over as boot module.
//!
//! [`Config::parse`] accepts a text only as a whole: every key known, every value within its
//! limits, every cross reference sound. Otherwise it returns every mistake with its place, and the
//! node serves nothing. `docs/CONFIG.md` lists the keys; the constants here are the limits it
//! states.

mod check;
pub mod devices;
mod http;
mod lists;
pub mod live;
mod management;
mod policies;
mod policy;
mod problem;
mod reader;
mod render;
mod schema;
mod value;

#[cfg(test)]
mod tests;

pub use http::{HTTP_PORT, Http};
pub use management::{MANAGEMENT_PORT, Management};
pub use policy::{
    AfterSb0Pri, AfterSb1Pri, AfterSb2Pri, DiskPolicy, Fencing, Integrity, Metadata, OnCongestion,
    OnFenceTimeout, OnIoError, OnNoData, Protocol, ResyncPolicy, RrConflict, SECRET_BYTES, Secret,
    SnapshotPolicy, SplitBrain,
};
pub use problem::{ConfigErrors, PROBLEMS_MAX, Problem};
pub use value::{Cidr, Mac};

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use replication::api::{Level, Micros, Name, Timers};
use toml::Spanned;
use toml::de::DeTable;

/// Longest configuration in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Longest text of which every mistake of syntax is reported, instead of the first. A text that is
/// nothing but mistakes costs some 600 times its size in memory to list them.
const ALL_SYNTAX_BYTES_MAX: usize = 8 * 1024;

/// Network cards that can be configured.
pub const NICS_MAX: usize = 8;

/// Bytes of a virtio-blk serial number (virtio 1.2, section 5.2.6.1: VIRTIO_BLK_ID_BYTES).
pub const SERIAL_BYTES_MAX: usize = 20;

/// Bytes of a volume's description (it goes into NBD_INFO_DESCRIPTION).
pub const DESCRIPTION_BYTES_MAX: usize = 80;

/// TCP port of the replication link (DRBD's customary one).
pub const REPLICATION_PORT: u16 = 7789;

/// TCP port of the export (NBD's assigned one).
pub const EXPORT_PORT: u16 = 10809;
/// TCP port of what is exported of snapshots.
pub const SNAPSHOT_PORT: u16 = 10810;

/// What a panic does after its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// Start again.
    Reboot,
    /// Stop with interrupts off, so that the report can be read.
    Halt,
    /// Leave QEMU with an exit code (isa-debug-exit), for tests.
    Exit,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// This node's name.
    pub name: Name,
    /// What a panic does.
    pub panic: OnPanic,
    /// The least grave log lines that are kept and shown.
    pub log_level: Level,
}

/// `[resource]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name, the same on both nodes.
    pub name: Name,
    /// When a write is answered.
    pub protocol: Protocol,
    /// What is done about a lost peer.
    pub fencing: Fencing,
    /// A fence is to be decided within this time, in microseconds.
    pub fence_timeout: Micros,
    /// What follows for a Primary if it is not.
    pub on_fence_timeout: OnFenceTimeout,
    /// Whether clients that wait are reason enough to become Primary, by the rules for it.
    pub auto_promote: bool,
    /// How a split brain is resolved without the operator.
    pub split_brain: SplitBrain,
    /// What happens to requests when neither node has good data.
    pub on_no_data: OnNoData,
}

/// `[peer]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The peer's `node.name`.
    pub name: Name,
    /// Where its replication listens.
    pub address: SocketAddrV4,
    /// What it must prove to know; there always is one if `integrity` needs it.
    pub secret: Option<Secret>,
    /// How frames are protected.
    pub integrity: Integrity,
}

/// `[replication]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replication {
    /// TCP port; see [`Config::replication_listen`] for the address.
    pub port: u16,
    /// What happens when the peer falls behind.
    pub on_congestion: OnCongestion,
    /// Bytes on their way to the peer from which on it has fallen behind.
    pub congestion_fill: u64,
    /// Extents of a volume's activity log that requests hold from which on it has fallen behind; `None`: not counted.
    pub congestion_extents: Option<u32>,
}

/// `[net]`: the times of the replication link, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetTimes {
    /// A peer that was silent for so long is lost.
    pub timeout: Micros,
    /// Heartbeat when the link is otherwise silent.
    pub ping_interval: Micros,
    /// Pause between attempts to connect.
    pub connect_interval: Micros,
}

/// Which discovered card a `[[nic]]` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicSelector {
    /// The one with this address.
    Mac(Mac),
    /// The one with this place in the order of discovery, from 0.
    Index(u16),
}

/// What a card is used for; at least one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// The link to the peer.
    pub replication: bool,
    /// NBD clients.
    pub export: bool,
    /// Fencing: the peer and the arbiter are asked here.
    pub management: bool,
}

/// One `[[nic]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Which card.
    pub selector: NicSelector,
    /// What for.
    pub roles: Roles,
    /// Its address.
    pub address: Cidr,
    /// Router for everything outside its network.
    pub gateway: Option<Ipv4Addr>,
    /// Largest IP packet in bytes; `None`: what the card offers.
    pub mtu: Option<u16>,
}

/// `[export]`: the NBD server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// TCP port on every card with the role export.
    pub port: u16,
    /// TCP port of what is exported of snapshots, on the same cards, where a volume has any.
    pub snapshot_port: u16,
    /// Client connections at once, over all volumes.
    pub max_connections: u16,
    /// How long a standby holds a new connection, silent, before it closes it; in microseconds.
    pub standby_hold: Micros,
    /// Time for the option haggling of NBD, in microseconds.
    pub handshake_timeout: Micros,
    /// An address that the node has while it is Primary, in the network of a card with the role export; `None`: there
    /// is none.
    pub floating_address: Option<Ipv4Addr>,
}

/// One `[[volume]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Index; the export's name is `vol` and this number.
    pub index: u16,
    /// Serial number of its disk.
    pub serial: heapless::String<SERIAL_BYTES_MAX>,
    /// Bytes of the disk to use; `None`: all of it.
    pub size: Option<u64>,
    /// Smallest unit of a request in bytes, 512 or 4096.
    pub block_size: u32,
    /// For the list of exports that an NBD client can ask for.
    pub description: Option<heapless::String<DESCRIPTION_BYTES_MAX>>,
    /// Where its metadata is.
    pub metadata: Metadata,
    /// Index of the volume whose resync goes before this one's.
    pub resync_after: Option<u16>,
    /// Whether what a resync overwrites here is kept until it has ended.
    pub snapshot: SnapshotPolicy,
    /// Bytes that are set aside for that when metadata is created; 0: none.
    pub snapshot_reserve: u64,
}

/// A configuration that was found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[resource]`.
    pub resource: Resource,
    /// `[peer]`.
    pub peer: Peer,
    /// `[net]`.
    pub net: NetTimes,
    /// `[management]`, if there is one.
    pub management: Option<Management>,
    /// `[http]`, if there is one.
    pub http: Option<Http>,
    /// Every `[[nic]]`, in the order of the text; 1 to [`NICS_MAX`].
    pub nics: Vec<Nic>,
    /// `[replication]`.
    pub replication: Replication,
    /// `[resync]`.
    pub resync: ResyncPolicy,
    /// `[disk]`.
    pub disk: DiskPolicy,
    /// `[export]`.
    pub export: Export,
    /// Every `[[volume]]`, in ascending order of index; 1 to [`replication::api::MAX_VOLUMES`].
    pub volumes: Vec<Volume>,
    /// Full names (`net.timeout`) of the keys that were left out.
    defaulted: Vec<String>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Every mistake that could be found in one go. If the text is not even TOML, those of syntax
    /// only, since what is missing then says nothing.
    ///
    /// Memory, measured: 24 KiB for a real configuration, 10 MiB for the worst 64 KiB of nonsense;
    /// stack 16 KiB, and 96 KiB for nonsense that is nested to the parser's limit of 80 levels.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigErrors> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!(
                "the configuration has {} bytes, expected at most {TEXT_BYTES_MAX}; \
                 is the boot module (-initrd) the right file?",
                text.len()
            );
            return Err(ConfigErrors::of_file(1, 1, message));
        }
        let text = core::str::from_utf8(text).map_err(|error| {
            let (line, column) = place(text, error.valid_up_to());
            let message = "found bytes that are not UTF-8, expected a TOML text; \
                           is the boot module (-initrd) the right file?";
            ConfigErrors::of_file(line, column, message.into())
        })?;
        if text.trim().is_empty() {
            let message = "the configuration is empty; expected a TOML text with \
                           [node], [resource], [peer], [[nic]] and [[volume]]";
            return Err(ConfigErrors::of_file(1, 1, message.into()));
        }
        schema::read(text, parse_toml(text)?.get_ref())
    }

    /// Writes the effective configuration as TOML (the verb `config show`): it reads back to the
    /// same values, and what was left out is there with its default and marked so.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn render(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        render::render(self, out)
    }

    /// The engine's times.
    pub fn timers(&self) -> Timers {
        Timers {
            timeout: self.net.timeout,
            ping_interval: self.net.ping_interval,
            connect_interval: self.net.connect_interval,
        }
    }

    /// Place in [`Config::nics`] of the card with the role replication.
    pub fn replication_nic(&self) -> usize {
        self.nics
            .iter()
            .position(|nic| nic.roles.replication)
            .unwrap_or_default()
    }

    /// Where the replication listens for the peer.
    pub fn replication_listen(&self) -> SocketAddrV4 {
        let address = self.nics[self.replication_nic()].address.address;
        SocketAddrV4::new(address, self.replication.port)
    }

    /// Whether some volume keeps what a resync overwrites.
    pub fn has_snapshots(&self) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|volume| volume.snapshot != SnapshotPolicy::Off)
    }

    /// Whether a key was left out and has its default: `net.timeout`, `volume 0.block-size`.
    pub fn is_default(&self, key: &str) -> bool {
        self.defaulted.iter().any(|name| name == key)
    }
}

impl Volume {
    /// The NBD export's name: `vol0`.
    pub fn export_name(&self) -> heapless::String<8> {
        let mut name = heapless::String::new();
        // Cannot fail: a u16 has at most five digits.
        let _fits = core::fmt::Write::write_fmt(&mut name, format_args!("vol{}", self.index));
        name
    }
}

/// Reads a text as TOML.
fn parse_toml(text: &str) -> Result<Spanned<DeTable<'_>>, ConfigErrors> {
    DeTable::parse(text).map_err(|first| {
        let errors = match text.len() {
            ..=ALL_SYNTAX_BYTES_MAX => DeTable::parse_recoverable(text).1,
            _ => vec![first],
        };
        let mut noted = problem::Noted::default();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            noted.note(span, format!("not TOML: {}", error.message()));
        }
        noted.into_errors(text)
    })
}

/// Line and column, from 1, of the byte at `offset`; columns in bytes, as the text may not be UTF-8.
fn place(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    (line, column)
}
