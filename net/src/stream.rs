//! A byte stream as the protocol code sees it: a TCP socket, or a pair of queues in a test.

use replication::api::Micros;

/// Non-blocking access to one connection's two directions.
pub trait ByteStream {
    /// Bytes that can be read now.
    fn readable(&self) -> usize;
    /// Copies up to `out.len()` received bytes into `out` and consumes them.
    fn read(&mut self, out: &mut [u8]) -> usize;
    /// Whether the other side has finished sending and everything received has been read, or
    /// the connection is dead.
    fn at_end(&self) -> bool;
    /// Bytes that can be written now.
    fn writable(&self) -> usize;
    /// Queues up to `data.len()` bytes to be sent; returns how many were taken.
    fn write(&mut self, data: &[u8]) -> usize;
    /// How long the acknowledgement of what arrives from now on may wait for bytes to travel with; `None`: not at all.
    /// For a stream that acknowledges nothing this means nothing.
    fn set_ack_delay(&mut self, _delay: Option<Micros>) {}
}
