//! What a virtio-net driver does with the frames it is given (virtio 1.2, 5.1.6.2): with
//! `NEEDS_CSUM` the device adds up the frame from `csum_start` on and stores the complement at
//! `csum_start + csum_offset`, where the driver has left the sum of the pseudo-header. For a large
//! frame it does so for each segment.

use smoltcp::phy::PacketMeta;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
    UdpPacket,
};

const ETHERNET_HEADER: usize = 14;
/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;

/// Where the device finds and stores a partial checksum: `csum_start` and `csum_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartialChecksum {
    /// Offset of the TCP header from the start of the frame.
    pub(crate) start: u16,
    /// Offset of the checksum from there.
    pub(crate) offset: u16,
}

/// How the device shall cut a frame: `gso_type` is `VIRTIO_NET_HDR_GSO_TCPV4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segmentation {
    /// Bytes of TCP payload in each segment: `gso_size`.
    pub(crate) size: u16,
    /// Bytes of Ethernet, IP and TCP headers: `hdr_len`.
    pub(crate) header_len: u16,
}

/// What belongs into the virtio header of a sent frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TxOffload {
    /// Sets `NEEDS_CSUM`.
    pub(crate) checksum: Option<PartialChecksum>,
    /// Sets the GSO fields; never without `checksum`.
    pub(crate) segmentation: Option<Segmentation>,
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

/// Prepares a frame that smoltcp has written for a device with `Features::tx_checksum`: stores the pseudo-header sum and tells what the device has to do.
/// `meta` is what `TxToken::set_meta` was given. Frames that are not TCP are complete already.
pub(crate) fn prepare_tx(frame: &mut [u8], meta: PacketMeta) -> TxOffload {
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
pub(crate) fn verify_rx(frame: &[u8]) -> bool {
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
