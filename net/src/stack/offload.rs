//! Checksum and segmentation offload: what smoltcp must be told of the device.
//!
//! IPv6 segmentation is never offered to smoltcp: 0.14 drops IPv6 packets larger than the MTU
//! even when it has asked for segmentation. Receiving coalesced IPv6 frames works.

use core::num::NonZeroUsize;
use smoltcp::phy::{Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};

const ETHERNET_HEADER: usize = 14;
/// Bytes of the largest frame that is handed over for segmentation, Ethernet header included.
///
/// The largest IPv4 packet would give 14 more. But Linux cuts a frame in software, at the host's
/// expense and the receiver's, as soon as it reaches a device's `gso_max_size`, which is 65536
/// unless someone has raised it.
pub const TSO_FRAME_MAX: usize = 65535;

/// What was negotiated with the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// `VIRTIO_NET_F_CSUM`: the device completes TCP checksums of sent frames.
    pub tx_checksum: bool,
    /// `VIRTIO_NET_F_HOST_TSO4`: the device cuts large IPv4 TCP frames (needs `tx_checksum`).
    pub tx_segmentation: bool,
    /// `VIRTIO_NET_F_GUEST_CSUM`: received TCP and UDP checksums may be partial.
    pub rx_checksum: bool,
}

/// What `Device::capabilities` must return for a NIC with this IP `mtu` (without the Ethernet
/// header) and these features.
#[must_use]
pub fn capabilities(mtu: usize, features: Features) -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::default();
    checksum.tcp = match (features.rx_checksum, features.tx_checksum) {
        (false, false) => Checksum::Both,
        (true, false) => Checksum::Tx,
        (false, true) => Checksum::Rx,
        (true, true) => Checksum::None,
    };
    if features.rx_checksum {
        checksum.udp = Checksum::Tx;
    }
    let mut caps = DeviceCapabilities::default();
    caps.medium = Medium::Ethernet;
    caps.max_transmission_unit = mtu + ETHERNET_HEADER;
    caps.checksum = checksum;
    if features.tx_checksum && features.tx_segmentation {
        caps.segmentation.tcpv4 = NonZeroUsize::new(TSO_FRAME_MAX);
    }
    caps
}
