//! TCP/IP for one NIC: glue around smoltcp.
//!
//! A [`Stack`] owns a smoltcp interface and all sockets of one NIC. It does no I/O of its own: the
//! device is handed to [`Stack::ingress`] and [`Stack::egress`], so the kernel keeps its driver and
//! the tests use a wire in memory. Everything is allocated in [`Stack::new`]; accepting, dialling
//! and closing connections reuse sockets and their rings and allocate nothing.
//!
//! # One turn
//!
//! 1. [`Stack::ingress`] until the device is empty or the budget is spent;
//! 2. the application: [`Stack::accept`], then each connection's [`Stack::stream`];
//! 3. [`Stack::egress`], so that answers carry the acknowledgements of what was just read;
//! 4. sleep until an interrupt or [`Stack::poll_at`].
//!
//! # Groups
//!
//! Sockets come in groups ([`GroupConfig`]), one for each use (the peer link, the export). A
//! group's slots serve its listening port and its own dialled connections. Groups are served in
//! the order of their declaration; smoltcp's egress stops at the first socket that finds the
//! transmit ring full, so the peer link's group comes first.
//!
//! smoltcp has no backlog: a port accepts as many connections at once as it has sockets armed.
//! A group keeps `backlog` of them armed, re-armed between any two received frames. When no free
//! slot is left the oldest half-open connection gives way, so a flood of SYNs cannot keep a real
//! client out; while every slot is taken by an established connection, the next client is refused, or
//! ([`GroupConfig::patient`]) not answered, so that its TCP tries again.
//!
//! # What the device adapter must do
//!
//! The kernel implements [`smoltcp::phy::Device`] over its virtio-net driver:
//!
//! - `capabilities()` returns [`offload::capabilities`] for the negotiated MTU and features.
//! - `receive()` answers `None` when there is no received frame *or no transmit buffer*: the pair
//!   of tokens lets smoltcp answer a frame at once. So a full transmit ring holds back incoming
//!   ACKs too: make it large, and reclaim what the device has sent before each turn.
//! - `RxToken::consume` passes one frame without virtio header, merged buffers joined. With
//!   `GUEST_TSO4/6` frames up to 64 KiB, larger than the MTU, are fine. With `GUEST_CSUM`, smoltcp
//!   verifies no TCP or UDP checksum: a frame with neither `NEEDS_CSUM` nor `DATA_VALID` in its
//!   header was verified by nobody, so the driver has to.
//! - `TxToken::consume(len, f)` gives `f` exactly `len` bytes: up to MTU + 14, or
//!   [`offload::TSO_FRAME_MAX`] when `HOST_TSO4` is offered. With `CSUM`, smoltcp leaves a TCP
//!   checksum zero: the driver stores the pseudo-header's sum and asks for `NEEDS_CSUM`. `set_meta`
//!   comes before `consume`; its `segmentation_offload_size` is the `gso_size` of a TCP/IPv4 frame.
//! - Notify the device once after `egress`, not for every frame.
//!
//! # Neighbours
//!
//! smoltcp silences a socket for a second after an unanswered ARP request. [`Stack::announce`]
//! and [`Stack::solicit`] therefore send ARP requests (IPv6: neighbour advertisements and
//! solicitations) of their own, as often as the caller likes: the target learns us from the
//! request and its answer teaches us, which lifts the silence.

mod accept;
mod config;
mod conn;
mod datagram;
mod dirty;
mod floating;
mod maintain;
mod neighbor;
mod nic;
pub mod offload;
mod sieve;
mod slot;
mod stream;
#[cfg(test)]
pub(crate) mod testnet;
#[cfg(test)]
mod tests;
mod watch;

pub use config::{GroupConfig, GroupId, Liveness, MAX_GROUPS, MAX_SLOTS, NicConfig, StackError};
pub use conn::{ConnHandle, ConnState, DialError};
pub use datagram::LANES;
pub use nic::{Egress, Stack};
pub use stream::TcpStream;
