//! Checksum and segmentation offload: the part that does not depend on the driver.
//!
//! virtio's partial checksum (virtio 1.2, 5.1.6.2): with `NEEDS_CSUM` the device adds up the
//! frame from `csum_start` on and stores the complement at `csum_start + csum_offset`, where the
//! driver has left the sum of the pseudo-header. For a large frame it does so for each segment.
//!
//! IPv6 segmentation is never offered to smoltcp: 0.14 drops IPv6 packets larger than the MTU
//! even when it has asked for segmentation. Receiving coalesced IPv6 frames works.

use core::num::NonZeroUsize;
use smoltcp::phy::{Checksum, ChecksumCapabilities, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
    UdpPacket,
};

const ETHERNET_HEADER: usize = 14;
/// Bytes of the largest frame that is handed over for segmentation: the largest IPv4 packet
/// and its Ethernet header.
pub const TSO_FRAME_MAX: usize = ETHERNET_HEADER + 65535;

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;

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

/// Where the device finds and stores a partial checksum: `csum_start` and `csum_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Offset of the TCP header from the start of the frame.
    pub start: u16,
    /// Offset of the checksum from there.
    pub offset: u16,
}

/// How the device shall cut a frame: `gso_type` is `VIRTIO_NET_HDR_GSO_TCPV4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// Bytes of TCP payload in each segment: `gso_size`.
    pub size: u16,
    /// Bytes of Ethernet, IP and TCP headers: `hdr_len`.
    pub header_len: u16,
}

/// What belongs into the virtio header of a sent frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TxOffload {
    /// Sets `NEEDS_CSUM`.
    pub checksum: Option<PartialChecksum>,
    /// Sets the GSO fields; never without `checksum`.
    pub segmentation: Option<Segmentation>,
}

/// A TCP or UDP frame's parts: protocol, offset of its header, addresses.
struct Transport {
    protocol: IpProtocol,
    offset: usize,
    end: usize,
    src: IpAddress,
    dst: IpAddress,
}

fn transport(bytes: &[u8]) -> Option<Transport> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            if packet.more_frags() || packet.frag_offset() != 0 {
                return None;
            }
            Some(Transport {
                protocol: packet.next_header(),
                offset: ETHERNET_HEADER + usize::from(packet.header_len()),
                end: ETHERNET_HEADER + usize::from(packet.total_len()),
                src: packet.src_addr().into(),
                dst: packet.dst_addr().into(),
            })
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            Some(Transport {
                protocol: packet.next_header(),
                offset: ETHERNET_HEADER + packet.header_len(),
                end: ETHERNET_HEADER + packet.total_len(),
                src: packet.src_addr().into(),
                dst: packet.dst_addr().into(),
            })
        }
        _ => None,
    }
}

/// Prepares a frame that smoltcp has written into a transmit buffer of a device with
/// [`Features::tx_checksum`]: stores the pseudo-header sum and tells what the device has to do.
/// `meta` is what `TxToken::set_meta` was given. Frames that are not TCP are complete already.
pub fn prepare_tx(frame: &mut [u8], meta: PacketMeta) -> TxOffload {
    let Some(parts) = transport(frame).filter(|parts| parts.protocol == IpProtocol::Tcp) else {
        return TxOffload::default();
    };
    let Some(segment) = frame.get_mut(parts.offset..parts.end) else {
        return TxOffload::default();
    };
    let len = segment.len();
    let Ok(mut tcp) = TcpPacket::new_checked(segment) else {
        return TxOffload::default();
    };
    let header_len = parts.offset + usize::from(tcp.header_len());
    tcp.set_checksum(pseudo_header_sum(&parts, len));
    TxOffload {
        checksum: Some(PartialChecksum {
            start: parts.offset as u16,
            offset: TCP_CHECKSUM as u16,
        }),
        segmentation: meta.segmentation_offload_size.map(|size| Segmentation {
            size: size.get(),
            header_len: header_len as u16,
        }),
    }
}

/// The folded, not complemented sum of the TCP pseudo-header.
fn pseudo_header_sum(parts: &Transport, len: usize) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum()
    };
    let address = |addr: &IpAddress| match addr {
        IpAddress::Ipv4(v4) => words(&v4.octets()),
        IpAddress::Ipv6(v6) => words(&v6.octets()),
    };
    let len = len as u32;
    let mut sum = address(&parts.src)
        + address(&parts.dst)
        + u32::from(u8::from(parts.protocol))
        + (len >> 16)
        + (len & 0xffff);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// Verifies the TCP or UDP checksum of a received frame that the device has not vouched for.
/// Other frames are fine: smoltcp verifies them itself. A frame too damaged to have a checksum
/// is fine too: smoltcp drops it.
#[must_use]
pub fn verify_rx(frame: &[u8]) -> bool {
    let Some(parts) = transport(frame) else {
        return true;
    };
    let Some(segment) = frame.get(parts.offset..parts.end) else {
        return true;
    };
    match parts.protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(segment)
            .is_ok_and(|tcp| tcp.verify_checksum(&parts.src, &parts.dst)),
        IpProtocol::Udp => UdpPacket::new_checked(segment)
            .is_ok_and(|udp| udp.verify_checksum(&parts.src, &parts.dst)),
        _ => true,
    }
}
