//! ARP and neighbour discovery of our own, beside smoltcp's (see the module's documentation).

use smoltcp::phy::{ChecksumCapabilities, Device, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr, IpProtocol, Ipv4Address,
    Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

/// Solicitations that may wait; more are dropped (every caller repeats them).
const QUEUE: usize = 8;
const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Frames that wait for the next round of sending.
#[derive(Debug)]
pub(super) struct Outbox {
    mac: EthernetAddress,
    /// The place of the own address that is to be announced next; `None`: none is.
    announce_next: Option<usize>,
    solicits: heapless::Deque<IpAddress, QUEUE>,
}

impl Outbox {
    pub(super) fn new(mac: EthernetAddress) -> Self {
        Self {
            mac,
            announce_next: None,
            solicits: heapless::Deque::new(),
        }
    }

    pub(super) fn announce(&mut self) {
        self.announce_next = Some(0);
    }

    pub(super) fn solicit(&mut self, addr: IpAddress) {
        if !self.solicits.iter().any(|queued| *queued == addr) {
            // A full queue drops it: the caller repeats.
            let _ = self.solicits.push_back(addr);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.announce_next.is_none() && self.solicits.is_empty()
    }

    /// Sends what waits from the interface with these addresses, as far as the device has room.
    pub(super) fn send<D: Device>(&mut self, now: Instant, device: &mut D, own: &[IpCidr]) {
        while let Some(next) = self.announce_next {
            let Some(cidr) = own.get(next) else {
                self.announce_next = None;
                break;
            };
            let Some(tx) = device.transmit(now) else {
                return;
            };
            match cidr.address() {
                IpAddress::Ipv4(own) => self.send_arp(tx, own, own),
                IpAddress::Ipv6(own) => {
                    let advert = NdiscRepr::NeighborAdvert {
                        flags: NdiscNeighborFlags::OVERRIDE,
                        target_addr: own,
                        lladdr: Some(self.mac.into()),
                    };
                    self.send_ndisc(tx, own, ALL_NODES, advert);
                }
            }
            self.announce_next = Some(next + 1);
        }
        while let Some(&target) = self.solicits.front() {
            if let Some(source) = source_for(own, target) {
                let Some(tx) = device.transmit(now) else {
                    return;
                };
                match (source, target) {
                    (IpAddress::Ipv4(own), IpAddress::Ipv4(target)) => {
                        self.send_arp(tx, own, target);
                    }
                    (IpAddress::Ipv6(own), IpAddress::Ipv6(target_addr)) => {
                        let solicit = NdiscRepr::NeighborSolicit {
                            target_addr,
                            lladdr: Some(self.mac.into()),
                        };
                        self.send_ndisc(tx, own, solicited_node(target_addr), solicit);
                    }
                    // A source is of the target's family: nothing to send.
                    _ => {}
                }
            }
            self.solicits.pop_front();
        }
    }

    /// A broadcast request for `target`; for the own address this is a gratuitous ARP.
    fn send_arp<T: TxToken>(&self, tx: T, own: Ipv4Address, target: Ipv4Address) {
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: self.mac,
            source_protocol_addr: own,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: target,
        };
        let ethernet = EthernetRepr {
            src_addr: self.mac,
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Arp,
        };
        tx.consume(
            EthernetFrame::<&[u8]>::buffer_len(arp.buffer_len()),
            |bytes| {
                let mut frame = EthernetFrame::new_unchecked(bytes);
                ethernet.emit(&mut frame);
                arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
            },
        );
    }

    /// A neighbour discovery message to a multicast group.
    fn send_ndisc<T: TxToken>(&self, tx: T, own: Ipv6Address, to: Ipv6Address, ndisc: NdiscRepr) {
        let icmp = Icmpv6Repr::Ndisc(ndisc);
        let ip = Ipv6Repr {
            src_addr: own,
            dst_addr: to,
            next_header: IpProtocol::Icmpv6,
            payload_len: icmp.buffer_len(),
            // Receivers check that nobody forwarded it (RFC 4861, 7.1).
            hop_limit: 255,
        };
        let low = to.octets();
        let ethernet = EthernetRepr {
            src_addr: self.mac,
            dst_addr: EthernetAddress([0x33, 0x33, low[12], low[13], low[14], low[15]]),
            ethertype: EthernetProtocol::Ipv6,
        };
        let len = ip.buffer_len() + icmp.buffer_len();
        tx.consume(EthernetFrame::<&[u8]>::buffer_len(len), |bytes| {
            let mut frame = EthernetFrame::new_unchecked(bytes);
            ethernet.emit(&mut frame);
            let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
            ip.emit(&mut packet);
            icmp.emit(
                &own,
                &to,
                &mut Icmpv6Packet::new_unchecked(packet.payload_mut()),
                &ChecksumCapabilities::default(),
            );
        });
    }
}

/// The own address in whose prefix `target` lies.
fn source_for(own: &[IpCidr], target: IpAddress) -> Option<IpAddress> {
    let cidr = own.iter().find(|cidr| cidr.contains_addr(&target))?;
    Some(cidr.address())
}

/// The multicast group in which the owner of `addr` listens (RFC 4291, 2.7.1).
fn solicited_node(addr: Ipv6Address) -> Ipv6Address {
    let [.., high, low] = addr.segments();
    Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}
