//! A TCP socket as a [`ByteStream`].

use crate::stream::ByteStream;
use replication::api::Micros;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Duration;

/// One connection's two directions, borrowed from its [`super::Stack`].
pub struct TcpStream<'a> {
    pub(super) socket: &'a mut Socket<'static>,
}

impl ByteStream for TcpStream<'_> {
    fn readable(&self) -> usize {
        match self.socket.state() {
            State::SynSent | State::SynReceived => 0,
            _ => self.socket.recv_queue(),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> usize {
        if self.readable() == 0 {
            return 0;
        }
        self.socket.recv_slice(out).unwrap_or(0)
    }

    fn at_end(&self) -> bool {
        match self.socket.state() {
            State::SynSent | State::SynReceived => false,
            _ => !self.socket.may_recv(),
        }
    }

    fn writable(&self) -> usize {
        if self.socket.may_send() {
            self.socket.send_capacity() - self.socket.send_queue()
        } else {
            0
        }
    }

    fn write(&mut self, data: &[u8]) -> usize {
        self.socket.send_slice(data).unwrap_or(0)
    }

    fn set_ack_delay(&mut self, delay: Option<Micros>) {
        self.socket.set_ack_delay(delay.map(Duration::from_micros));
    }
}
