//! Drops calls that no socket waits for, where the caller is to try again: smoltcp would refuse them.

use smoltcp::phy::{Device, DeviceCapabilities, PacketMeta, RxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
};

/// The caller's device, without SYNs to some ports.
pub(super) struct Sieve<'a, D> {
    device: &'a mut D,
    /// The ports; none costs nothing.
    ports: &'a [u16],
}

impl<'a, D: Device> Sieve<'a, D> {
    pub(super) fn new(device: &'a mut D, ports: &'a [u16]) -> Self {
        Self { device, ports }
    }
}

/// A frame that was received.
pub(super) struct Sifted<'a, T> {
    frame: T,
    ports: &'a [u16],
}

impl<T: RxToken> RxToken for Sifted<'_, T> {
    fn consume<R, F>(self, f: F) -> R
    where
        F: FnOnce(&[u8]) -> R,
    {
        let ports = self.ports;
        self.frame.consume(|frame| {
            let dropped =
                !ports.is_empty() && called_port(frame).is_some_and(|port| ports.contains(&port));
            // smoltcp takes an empty frame for none.
            f(if dropped { &[] } else { frame })
        })
    }

    fn meta(&self) -> PacketMeta {
        self.frame.meta()
    }
}

/// The port that a frame calls, if it is the first of a TCP connection.
fn called_port(frame: &[u8]) -> Option<u16> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let segment = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload())?
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload())?
        }
        _ => return None,
    };
    let segment = TcpPacket::new_checked(segment).ok()?;
    (segment.syn() && !segment.ack()).then(|| segment.dst_port())
}

impl<D: Device> Device for Sieve<'_, D> {
    type RxToken<'t>
        = Sifted<'t, D::RxToken<'t>>
    where
        Self: 't;
    type TxToken<'t>
        = D::TxToken<'t>
    where
        Self: 't;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let (frame, answer) = self.device.receive(now)?;
        let ports = self.ports;
        Some((Sifted { frame, ports }, answer))
    }

    fn transmit(&mut self, now: Instant) -> Option<D::TxToken<'_>> {
        self.device.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}
