//! What the two nodes do when something goes wrong, by DRBD's names, and how fast they copy.

use super::SERIAL_BYTES_MAX;
use core::fmt;
use replication::api::{Micros, Name};

/// When a write is answered; DRBD's protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// When this node's disk completed it; the peer follows with a bounded lag.
    A,
    /// When this node's disk completed it and the peer has received it.
    B,
    /// When both disks have completed it.
    C,
}

/// What is done about a lost peer before a node goes on alone; DRBD's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fencing {
    /// Nothing.
    DontCare,
    /// It is fenced while this node goes on.
    ResourceOnly,
    /// It is fenced, and clients wait until it is.
    ResourceAndStonith,
}

/// What becomes of a Primary whose clients wait for a fence that nobody grants in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFenceTimeout {
    /// They wait on, and it asks on.
    KeepFrozen,
    /// It drops them and becomes Secondary.
    StepDown,
}

/// Whose changes are given up after a split brain when neither node is Primary (DRBD's
/// `after-sb-0pri`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterSb0Pri {
    /// Nobody's: disconnect, and leave it to the operator.
    Disconnect,
    /// Those of the node that became Primary after the connection was lost.
    DiscardYoungerPrimary,
    /// Those of the node that was Primary when the connection was lost.
    DiscardOlderPrimary,
    /// Of the node that has none; disconnect if both have some.
    DiscardZeroChanges,
    /// Of the node that has the fewer.
    DiscardLeastChanges,
    /// Of the node with this name: one of the two.
    DiscardNode(Name),
}

/// The same when one node is Primary (DRBD's `after-sb-1pri`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSb1Pri {
    /// Disconnect.
    Disconnect,
    /// As `after-sb-0pri` decides if that means the Secondary's; otherwise disconnect.
    Consensus,
    /// As `after-sb-0pri` decides; if it means the Primary's, `rr-conflict` says what follows.
    Violently,
    /// The Secondary's.
    DiscardSecondary,
    /// As `after-sb-0pri` decides; disconnect if it means the Primary's.
    CallPriLost,
}

/// The same when both nodes are Primary (DRBD's `after-sb-2pri`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSb2Pri {
    /// Disconnect.
    Disconnect,
    /// As `after-sb-0pri` decides; with [`RrConflict::Violently`] only.
    Violently,
    /// Disconnect: the node that loses is a Primary.
    CallPriLost,
}

/// What happens when a Primary would become the target of a resync (DRBD's `rr-conflict`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RrConflict {
    /// Disconnect.
    Disconnect,
    /// It drops its clients, becomes Secondary and then the target.
    Violently,
    /// Disconnect: there are no handler programs that could be called.
    CallPriLost,
}

/// How a split brain is resolved without the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitBrain {
    /// With no Primary.
    pub after_sb_0pri: AfterSb0Pri,
    /// With one.
    pub after_sb_1pri: AfterSb1Pri,
    /// With two.
    pub after_sb_2pri: AfterSb2Pri,
    /// Whether the three also decide when the nodes' data parted longer ago than the last
    /// generation (DRBD's `always-asbp`).
    pub always_asbp: bool,
    /// When a Primary would become a target.
    pub rr_conflict: RrConflict,
}

/// What happens to clients' requests when neither node has good data (DRBD's
/// `on-no-data-accessible`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoData {
    /// They wait until there is some.
    SuspendIo,
    /// They are answered with an error.
    IoError,
}

/// What happens when the local disk fails a request (DRBD's `on-io-error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnIoError {
    /// The disk is not used any more; the peer's serves.
    Detach,
    /// The disk stays in use: the client gets the error of a write, a read is tried on the peer.
    PassOn,
}

/// `[disk]`: how local disks are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskPolicy {
    /// A disk that has not answered a request for so long has failed; `None`: it is waited for.
    pub timeout: Option<Micros>,
    /// What a failed request leads to.
    pub on_io_error: OnIoError,
}

/// What happens when the peer falls behind (DRBD's `on-congestion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCongestion {
    /// Clients wait.
    Block,
    /// Writes are noted as out of sync instead of sent until the link is free: Ahead and Behind.
    PullAhead,
    /// The peer is left; a resync follows when it is back.
    Disconnect,
}

/// `[resync]`: how fast and in what way blocks are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResyncPolicy {
    /// Bytes per second that a resync gets even under clients' load.
    pub c_min_rate: u64,
    /// Bytes per second at most; `None`: as fast as the pair can.
    pub c_max_rate: Option<u64>,
    /// Whether blocks are compared by checksum first and only different ones sent.
    pub csums: bool,
    /// Whether blocks of zeroes are discarded on the target instead of written.
    pub rs_discard: bool,
    /// Volumes that are copied at once at most.
    pub max_parallel: u16,
}

/// Where a volume's metadata is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// At the end of the volume's disk.
    Internal,
    /// On the disk with this serial number, which is for nothing else.
    External(heapless::String<SERIAL_BYTES_MAX>),
}

/// Whether a resync's target keeps what the resync overwrites until it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotPolicy {
    /// It does not.
    Off,
    /// It does if there is room; the resync goes on in any case.
    BestEffort,
    /// There is no resync without that.
    Required,
}

/// How frames between the nodes are protected. Both must use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// A checksum: finds damage, not intent.
    Crc32c,
    /// Authenticated encryption, AES-256-GCM; needs a secret.
    Aes256Gcm,
    /// Authenticated encryption, ChaCha20-Poly1305; needs a secret.
    ChaCha20Poly1305,
}

impl Integrity {
    /// Whether keys are needed, and so a secret.
    pub const fn needs_secret(self) -> bool {
        !matches!(self, Self::Crc32c)
    }
}

/// Least and most characters of a secret.
pub const SECRET_BYTES: core::ops::RangeInclusive<usize> = 16..=128;

/// The secret that both nodes share. Nothing shows it, not even `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(heapless::String<{ *SECRET_BYTES.end() }>);

impl Secret {
    /// Takes a text if it is fit: printable ASCII, as long as [`SECRET_BYTES`] says.
    pub(super) fn new(text: &str) -> Option<Self> {
        let fit = SECRET_BYTES.contains(&text.len()) && text.bytes().all(crate::text::is_printable);
        heapless::String::try_from(text)
            .ok()
            .filter(|_| fit)
            .map(Self)
    }

    /// Its bytes, for nothing but the keys made of it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The words of a policy in the configuration, each with what it means.
pub(super) trait Words: Sized + 'static {
    /// All of them.
    const WORDS: &'static [(&'static str, Self)];
}

/// A policy's word in the configuration; empty if it takes more than a word.
pub(super) fn word<T: Words + PartialEq>(policy: &T) -> &'static str {
    let found = T::WORDS.iter().find(|(_, of)| of == policy);
    found.map_or("", |(word, _)| word)
}

macro_rules! words {
    ($($policy:ident { $($word:literal = $variant:ident),+ })+) => {
        $(impl Words for $policy {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }

        impl $policy {
            /// Its word in the configuration, which is DRBD's.
            pub fn name(self) -> &'static str {
                word(&self)
            }
        })+
    };
}

words! {
    SnapshotPolicy { "off" = Off, "best-effort" = BestEffort, "required" = Required }
    Protocol { "A" = A, "B" = B, "C" = C }
    Fencing {
        "dont-care" = DontCare,
        "resource-only" = ResourceOnly,
        "resource-and-stonith" = ResourceAndStonith
    }
    OnFenceTimeout { "keep-frozen" = KeepFrozen, "step-down" = StepDown }
    AfterSb1Pri {
        "disconnect" = Disconnect,
        "consensus" = Consensus,
        "violently" = Violently,
        "discard-secondary" = DiscardSecondary,
        "call-pri-lost" = CallPriLost
    }
    AfterSb2Pri {
        "disconnect" = Disconnect,
        "violently" = Violently,
        "call-pri-lost" = CallPriLost
    }
    RrConflict {
        "disconnect" = Disconnect,
        "violently" = Violently,
        "call-pri-lost" = CallPriLost
    }
    OnNoData { "suspend-io" = SuspendIo, "io-error" = IoError }
    OnIoError { "detach" = Detach, "pass-on" = PassOn }
    OnCongestion { "block" = Block, "pull-ahead" = PullAhead, "disconnect" = Disconnect }
    Integrity {
        "crc32c" = Crc32c,
        "aes-256-gcm" = Aes256Gcm,
        "chacha20-poly1305" = ChaCha20Poly1305
    }
}

impl Words for AfterSb0Pri {
    /// Without [`AfterSb0Pri::DiscardNode`], which is [`DISCARD_NODE`] and a name.
    const WORDS: &'static [(&'static str, Self)] = &[
        ("disconnect", Self::Disconnect),
        ("discard-younger-primary", Self::DiscardYoungerPrimary),
        ("discard-older-primary", Self::DiscardOlderPrimary),
        ("discard-zero-changes", Self::DiscardZeroChanges),
        ("discard-least-changes", Self::DiscardLeastChanges),
    ];
}

/// The word for [`AfterSb0Pri::DiscardNode`] up to the node's name.
pub(super) const DISCARD_NODE: &str = "discard-node-";

impl fmt::Display for AfterSb0Pri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiscardNode(name) => write!(f, "{DISCARD_NODE}{name}"),
            other => f.write_str(word(other)),
        }
    }
}
