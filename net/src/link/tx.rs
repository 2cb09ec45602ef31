//! Frames to bytes.

use crate::stream::ByteStream;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;
use replication::buf::{BufView, PoolMemory};
use replication::wire::{Frame, HEADER_LEN, MAX_BODY};

/// The queue of frames to send is at its limit: the peer does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue of frames to the peer is full")
    }
}

impl core::error::Error for QueueFull {}

/// Writes frames to a stream as it takes them. Payloads stay in the pool until they are copied
/// into the socket's ring.
#[derive(Debug)]
pub struct LinkTx {
    queue: VecDeque<(Frame, Option<BufView>)>,
    limit: usize,
    /// Header and body of the frame that is being written.
    head: Box<[u8; HEADER_LEN + MAX_BODY]>,
    head_len: usize,
    head_sent: usize,
    payload: Option<BufView>,
    payload_sent: usize,
}

impl LinkTx {
    /// A sender that holds up to `limit` frames.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(limit),
            limit,
            head: Box::new([0; HEADER_LEN + MAX_BODY]),
            head_len: 0,
            head_sent: 0,
            payload: None,
            payload_sent: 0,
        }
    }

    /// Queues a frame and its payload.
    ///
    /// # Errors
    /// [`QueueFull`]: the frame is lost and with it the connection's order: drop the connection.
    pub fn push(&mut self, frame: Frame, payload: Option<BufView>) -> Result<(), QueueFull> {
        if self.queue.len() >= self.limit {
            return Err(QueueFull);
        }
        self.queue.push_back((frame, payload));
        Ok(())
    }

    /// Writes as much as the stream takes; returns the bytes written.
    pub fn pump<S: ByteStream, M: PoolMemory>(&mut self, stream: &mut S, memory: &M) -> usize {
        let mut written = 0;
        loop {
            if self.head_sent == self.head_len && self.payload.is_none() && !self.start_next() {
                return written;
            }
            if self.head_sent < self.head_len {
                let n = stream.write(&self.head[self.head_sent..self.head_len]);
                self.head_sent += n;
                written += n;
                if self.head_sent < self.head_len {
                    return written;
                }
            }
            if let Some(view) = self.payload {
                let bytes = memory.bytes(view);
                let n = stream.write(&bytes[self.payload_sent..]);
                self.payload_sent += n;
                written += n;
                if self.payload_sent < bytes.len() {
                    return written;
                }
                self.payload = None;
            }
        }
    }

    fn start_next(&mut self) -> bool {
        let Some((frame, payload)) = self.queue.pop_front() else {
            return false;
        };
        self.head_len = frame.encode(payload.map_or(0, |view| view.len), &mut self.head);
        self.head_sent = 0;
        self.payload = payload;
        self.payload_sent = 0;
        true
    }

    /// Forgets everything, for a new connection.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.head_len = 0;
        self.head_sent = 0;
        self.payload = None;
        self.payload_sent = 0;
    }
}
