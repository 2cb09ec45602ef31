//! Frames to bytes.

use crate::stream::ByteStream;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use core::fmt;
use replication::buf::{BufView, PoolMemory};
use replication::crc32c::crc32c;
use replication::secure::{Sealer, TAG_LEN};
use replication::wire::{Frame, HEADER_LEN, MAX_BODY, MAX_PAYLOAD};

/// Bytes of the longest frame when sealed: its three parts are a record each.
const SEALED_MAX: usize = HEADER_LEN + MAX_BODY + MAX_PAYLOAD as usize + 3 * TAG_LEN;

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
/// into the socket's ring; on a connection that seals its frames, they are sealed into a buffer
/// of one frame first, because the pool's bytes are also being written to the disk.
#[derive(Debug)]
pub struct LinkTx {
    queue: VecDeque<(Frame, Option<BufView>)>,
    limit: usize,
    sealer: Option<Sealer>,
    /// The frame that is being written, sealed. Empty unless there is to be sealing.
    sealed: Box<[u8]>,
    sealed_len: usize,
    sealed_sent: usize,
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
            sealer: None,
            sealed: Box::default(),
            sealed_len: 0,
            sealed_sent: 0,
            head: Box::new([0; HEADER_LEN + MAX_BODY]),
            head_len: 0,
            head_sent: 0,
            payload: None,
            payload_sent: 0,
        }
    }

    /// Allocates what sealing needs (a frame of the greatest length), which
    /// [`LinkTx::seal_with`] does otherwise.
    pub fn prepare_to_seal(&mut self) {
        if self.sealed.is_empty() {
            self.sealed = vec![0; SEALED_MAX].into_boxed_slice();
        }
    }

    /// Seals all frames from now on, until [`LinkTx::clear`].
    pub fn seal_with(&mut self, sealer: Sealer) {
        self.prepare_to_seal();
        self.sealer = Some(sealer);
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
            let sealed = &self.sealed[self.sealed_sent..self.sealed_len];
            let (done, n) = write(stream, sealed);
            self.sealed_sent += n;
            written += n;
            if !done {
                return written;
            }
            let (done, n) = write(stream, &self.head[self.head_sent..self.head_len]);
            self.head_sent += n;
            written += n;
            if !done {
                return written;
            }
            if let Some(view) = self.payload {
                let (done, n) = write(stream, &memory.bytes(view)[self.payload_sent..]);
                self.payload_sent += n;
                written += n;
                if !done {
                    return written;
                }
                self.payload = None;
            }
            if !self.start_next(memory) {
                return written;
            }
        }
    }

    fn start_next<M: PoolMemory>(&mut self, memory: &M) -> bool {
        let Some((frame, payload)) = self.queue.pop_front() else {
            return false;
        };
        let bytes = payload.map_or(&[][..], |view| memory.bytes(view));
        // As the view has it: at most MAX_PAYLOAD.
        let len = bytes.len() as u32;
        match &mut self.sealer {
            None => {
                let crc = if len == 0 { 0 } else { crc32c(bytes) };
                self.head_len = frame.encode_checked(len, crc, &mut self.head);
                self.head_sent = 0;
                self.payload = payload;
                self.payload_sent = 0;
            }
            Some(sealer) => {
                let used = frame.encode(len, &mut self.head);
                let (header, body) = self.head[..used].split_at(HEADER_LEN);
                self.sealed_len = 0;
                self.sealed_sent = 0;
                for part in [header, body, bytes] {
                    if !part.is_empty() {
                        let end = self.sealed_len + part.len() + TAG_LEN;
                        sealer.seal(part, &mut self.sealed[self.sealed_len..end]);
                        self.sealed_len = end;
                    }
                }
            }
        }
        true
    }

    /// Forgets everything, for a new connection.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.sealer = None;
        self.sealed_len = 0;
        self.sealed_sent = 0;
        self.head_len = 0;
        self.head_sent = 0;
        self.payload = None;
        self.payload_sent = 0;
    }
}

/// Writes what the stream takes of `bytes`: whether that was all, and how much.
fn write<S: ByteStream>(stream: &mut S, bytes: &[u8]) -> (bool, usize) {
    if bytes.is_empty() {
        return (true, 0);
    }
    let n = stream.write(bytes);
    (n == bytes.len(), n)
}
