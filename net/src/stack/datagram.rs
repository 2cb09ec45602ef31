//! UDP for the management network: one port on which everything comes in, and a *lane* for each party to send on.
//!
//! smoltcp keeps a socket's datagrams in order, and one whose neighbour is not found holds up those behind it: with a socket
//! of its own for each party, a peer that is dead does not keep the arbiter from being asked.

use super::nic::Stack;
use alloc::vec;
use core::net::SocketAddr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::IpEndpoint;

/// Lanes of a stack at most.
pub const LANES: usize = 2;
/// Datagrams that may wait to be looked at. Whoever is not heard asks again.
const RECEIVED: usize = 16;
/// Datagrams of a lane that may wait to be sent: an answer and a question, and both once more.
const WAITING: usize = 4;

/// The sockets of a stack.
#[derive(Debug)]
pub(super) struct Datagrams {
    port: u16,
    /// The first of the port's sockets in the set, which is the one that smoltcp gives what comes in.
    incoming: SocketHandle,
    lanes: [SocketHandle; LANES],
}

fn socket(port: u16, received: usize, waiting: usize, longest: usize) -> Option<Socket<'static>> {
    let buffer = |count: usize| {
        PacketBuffer::new(
            vec![PacketMetadata::EMPTY; count],
            vec![0; count.max(1) * longest],
        )
    };
    let mut socket = Socket::new(buffer(received), buffer(waiting));
    socket.bind(port).ok().map(|()| socket)
}

impl Stack {
    /// Opens a UDP port for datagrams of at most `longest` bytes. Once for a stack, before its first turn. `false`: the port
    /// is 0, or one is open.
    pub fn open_datagrams(&mut self, port: u16, longest: usize) -> bool {
        if self.datagrams.is_some() {
            return false;
        }
        // One metadata entry more than datagrams: the ring of bytes may need one for the gap at its end.
        let Some(incoming) = socket(port, RECEIVED + 1, 0, longest) else {
            return false;
        };
        let incoming = self.sockets.add(incoming);
        let lanes = [(); LANES].map(|()| socket(port, 0, WAITING + 1, longest));
        let [Some(first), Some(second)] = lanes else {
            return false;
        };
        let lanes = [first, second].map(|lane| self.sockets.add(lane));
        self.datagrams = Some(Datagrams {
            port,
            incoming,
            lanes,
        });
        true
    }

    /// Takes a datagram that came in: its length and where it is from. One that is longer than `out` is cut.
    pub fn receive_datagram(&mut self, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let incoming = self.datagrams.as_ref()?.incoming;
        let socket = self.sockets.get_mut::<Socket>(incoming);
        let (bytes, meta) = socket.recv().ok()?;
        let len = bytes.len().min(out.len());
        out[..len].copy_from_slice(&bytes[..len]);
        let from = SocketAddr::new(meta.endpoint.addr.into(), meta.endpoint.port);
        Some((len, from))
    }

    /// Hands a datagram to a lane, to go out in the next [`Stack::egress`]. Where too many older ones still wait, since their
    /// neighbour was not found, they give way to this one.
    ///
    /// The neighbour is asked for each time: smoltcp asks for none within a second of any other, and it does not tell whom it
    /// knows. Such datagrams are few.
    pub fn send_datagram(&mut self, lane: usize, bytes: &[u8], to: SocketAddr) {
        let Some(datagrams) = &self.datagrams else {
            return;
        };
        let (port, Some(&handle)) = (datagrams.port, datagrams.lanes.get(lane)) else {
            return;
        };
        let socket = self.sockets.get_mut::<Socket>(handle);
        let to_endpoint = IpEndpoint::from(to);
        if socket.send_slice(bytes, to_endpoint).is_err() {
            socket.close();
            // The port is not 0, and a closed socket can be bound.
            let _ = socket.bind(port);
            // What does not fit an empty lane is no datagram of ours; it is dropped as on any network.
            let _ = socket.send_slice(bytes, to_endpoint);
        }
        self.solicit(to.ip());
    }
}
