//! What a NIC offers, what of it is used, and how large the buffers are for that.

use core::num::NonZeroUsize;

use super::NetOptions;
use crate::transport::{F_ANY_LAYOUT, F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1};

/// Feature bits (virtio 1.2 §5.1.3).
pub(super) mod feature {
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
}

/// Offsets in `struct virtio_net_config` (§5.1.4).
pub(super) const MAC_AT: usize = 0;
pub(super) const STATUS_AT: usize = 6;
pub(super) const MTU_AT: usize = 10;
/// Bit of the status field: the link is up.
pub(super) const LINK_UP: u16 = 1;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_BYTES: usize = 14;
/// The IP MTU where the device names none.
pub(super) const DEFAULT_MTU: u16 = 1500;
/// Smallest IP MTU taken from a device (IPv4's minimum, RFC 791).
pub(super) const MTU_MIN: u16 = 68;
/// The longest IP packet, which is also the longest that segmentation offload makes or takes.
const IP_PACKET_MAX: usize = 65535;
/// Receive buffers that each hold any frame are not worth having below this count.
const WHOLE_FRAME_BUFFERS_MIN: usize = 8;
/// Buffer sizes where frames may span several, or fit the smaller one. A write of 4 KiB fits the larger one with all its
/// headers, and a long frame does not take more of them than need be: each costs both sides a descriptor.
const SMALL_BUFFER: usize = 2048;
const LARGE_BUFFER: usize = 8192;

/// What the stack above has to know; fits smoltcp's `DeviceCapabilities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest IP packet, in bytes, without segmentation offload.
    pub mtu: u16,
    /// The largest frame without segmentation offload: `mtu` and the Ethernet header.
    pub frame_bytes_max: usize,
    /// The stack need not compute TCP and UDP checksums of what it sends.
    pub checksum_tx: bool,
    /// The stack need not verify TCP and UDP checksums of what it receives.
    pub checksum_rx: bool,
    /// The largest TCP/IPv4 frame that the device segments, in bytes with Ethernet header.
    pub tso4: Option<NonZeroUsize>,
    /// The same for IPv6.
    pub tso6: Option<NonZeroUsize>,
}

/// How frames are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RxPlan {
    /// Frames may span several buffers.
    pub merge: bool,
    pub buffer_bytes: usize,
    pub buffers: usize,
    /// The longest frame to expect.
    pub frame_bytes_max: usize,
}

/// Chooses among the offered features. Receive offloads whose frames would not fit the memory
/// given for receiving are declined.
pub(super) fn choose(offered: u64, mtu: u16, options: &NetOptions) -> u64 {
    let mut chosen = offered
        & (feature::MAC
            | feature::MTU
            | feature::STATUS
            | feature::MRG_RXBUF
            | F_ANY_LAYOUT
            | F_EVENT_IDX
            | F_INDIRECT_DESC
            | F_VERSION_1);
    if options.offload {
        chosen |= offered & (feature::CSUM | feature::GUEST_CSUM);
        // Segmentation rests on checksums in the same direction (§5.1.3.1).
        if chosen & feature::CSUM != 0 {
            chosen |= offered & (feature::HOST_TSO4 | feature::HOST_TSO6);
        }
        if chosen & feature::GUEST_CSUM != 0 {
            let tso = offered & (feature::GUEST_TSO4 | feature::GUEST_TSO6);
            let plan = rx_plan(chosen | tso, mtu, usize::MAX, options);
            if plan.merge || plan.buffers >= WHOLE_FRAME_BUFFERS_MIN {
                chosen |= tso;
            }
        }
    }
    chosen
}

/// Sizes the receive buffers. Buffers are smaller than the longest frame where the device can spread one over
/// several; otherwise each buffer holds the longest frame.
pub(super) fn rx_plan(features: u64, mtu: u16, queue: usize, options: &NetOptions) -> RxPlan {
    let merge = features & feature::MRG_RXBUF != 0;
    let packet = if features & (feature::GUEST_TSO4 | feature::GUEST_TSO6) != 0 {
        IP_PACKET_MAX
    } else {
        usize::from(mtu)
    };
    let frame_bytes_max = ETHERNET_BYTES + packet;
    let whole = frame_bytes_max + super::header::HEADER_BYTES;
    let buffer_bytes = if whole <= SMALL_BUFFER {
        SMALL_BUFFER
    } else if merge {
        LARGE_BUFFER
    } else {
        whole.next_multiple_of(64)
    };
    // Two of the longest frames must fit, whatever the budget.
    let least = 2 * whole.div_ceil(buffer_bytes);
    RxPlan {
        merge,
        buffer_bytes,
        buffers: (options.rx_bytes / buffer_bytes).max(least).min(queue),
        frame_bytes_max,
    }
}

/// What the agreed features mean to the stack.
pub(super) fn capabilities(features: u64, mtu: u16) -> Capabilities {
    let has = |bit: u64| features & bit != 0;
    let segmented = NonZeroUsize::new(ETHERNET_BYTES + IP_PACKET_MAX);
    Capabilities {
        mtu,
        frame_bytes_max: ETHERNET_BYTES + usize::from(mtu),
        checksum_tx: has(feature::CSUM),
        checksum_rx: has(feature::GUEST_CSUM),
        tso4: segmented.filter(|_| has(feature::HOST_TSO4)),
        tso6: segmented.filter(|_| has(feature::HOST_TSO6)),
    }
}

impl Capabilities {
    /// The largest frame that can be sent, segmentation offload included.
    #[must_use]
    pub fn tx_bytes_max(&self) -> usize {
        [self.tso4, self.tso6]
            .into_iter()
            .flatten()
            .map(NonZeroUsize::get)
            .fold(self.frame_bytes_max, usize::max)
    }
}
