//! Bytes to frames.

use crate::stream::ByteStream;
use alloc::boxed::Box;
use core::fmt;
use replication::buf::{Buf, Pool, PoolMemory};
use replication::wire::{Frame, HEADER_LEN, Header, MAX_BODY, MAX_PAYLOAD, WireError};

/// Why the bytes received are not this protocol. The connection must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkError {
    /// The header or the body is not valid.
    Wire(WireError),
    /// A payload beyond what a buffer can hold.
    PayloadLength(u32),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => write!(f, "not a frame: {error:?}"),
            Self::PayloadLength(len) => write!(f, "a payload of {len} bytes is too long"),
        }
    }
}

impl core::error::Error for LinkError {}

#[derive(Debug)]
enum Stage {
    /// The header, so many bytes of which are there.
    Header(usize),
    /// The body, so many bytes of which are there.
    Body(Header, usize),
    /// The payload: its frame, its length, and its buffer once there was one in the pool.
    Payload(Frame, u32, Option<(Buf, usize)>),
}

/// Reads frames from a stream, piece by piece as they come. A payload goes straight into a pool
/// buffer; while the pool has none, nothing more is read, and TCP holds the peer back.
#[derive(Debug)]
pub struct LinkRx {
    stage: Stage,
    header: [u8; HEADER_LEN],
    body: Box<[u8; MAX_BODY]>,
}

impl Default for LinkRx {
    fn default() -> Self {
        Self::new()
    }
}

impl LinkRx {
    /// A receiver at the start of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Stage::Header(0),
            header: [0; HEADER_LEN],
            body: Box::new([0; MAX_BODY]),
        }
    }

    /// The next whole frame with its payload, which is the caller's to free; `None` until more
    /// bytes come or, for a payload, until the pool has a buffer.
    ///
    /// # Errors
    /// [`LinkError`]: nothing more can be read from this connection.
    pub fn poll<S: ByteStream, M: PoolMemory>(
        &mut self,
        stream: &mut S,
        pool: &mut Pool,
        memory: &mut M,
    ) -> Result<Option<(Frame, Option<Buf>)>, LinkError> {
        if !self.poll_header(stream)? {
            return Ok(None);
        }
        if let Stage::Body(header, got) = &mut self.stage {
            let body = &mut self.body[..header.body_len().min(MAX_BODY)];
            *got += stream.read(&mut body[*got..]);
            if *got < body.len() {
                return Ok(None);
            }
            let frame = Frame::decode(header, body).map_err(LinkError::Wire)?;
            let len = header.payload_len();
            if len == 0 {
                self.stage = Stage::Header(0);
                return Ok(Some((frame, None)));
            }
            self.stage = Stage::Payload(frame, len, None);
        }
        if !self.fill_payload(stream, pool, memory) {
            return Ok(None);
        }
        match core::mem::replace(&mut self.stage, Stage::Header(0)) {
            Stage::Payload(frame, _, Some((buf, _))) => Ok(Some((frame, Some(buf)))),
            stage => {
                self.stage = stage;
                Ok(None)
            }
        }
    }

    /// Reads no further than the next frame's header; whether it is there and valid.
    ///
    /// # Errors
    /// [`LinkError`]: this is not a Palisade peer.
    pub fn poll_header<S: ByteStream>(&mut self, stream: &mut S) -> Result<bool, LinkError> {
        if let Stage::Header(got) = &mut self.stage {
            *got += stream.read(&mut self.header[*got..]);
            if *got < HEADER_LEN {
                return Ok(false);
            }
            let header = Header::parse(&self.header).map_err(LinkError::Wire)?;
            if header.payload_len() > MAX_PAYLOAD {
                return Err(LinkError::PayloadLength(header.payload_len()));
            }
            if header.body_len() > MAX_BODY {
                return Err(LinkError::Wire(WireError::Length));
            }
            self.stage = Stage::Body(header, 0);
        }
        Ok(true)
    }

    /// Whether the payload is whole.
    fn fill_payload<S: ByteStream, M: PoolMemory>(
        &mut self,
        stream: &mut S,
        pool: &mut Pool,
        memory: &mut M,
    ) -> bool {
        let Stage::Payload(_, len, place) = &mut self.stage else {
            return false;
        };
        if place.is_none() {
            *place = pool.alloc(*len).map(|buf| (buf, 0));
        }
        let Some((buf, got)) = place else {
            return false;
        };
        let bytes = memory.bytes_mut(buf.view());
        *got += stream.read(&mut bytes[*got..]);
        *got == bytes.len()
    }

    /// Forgets a frame that was received in part, and gives its buffer back.
    pub fn reset(&mut self, pool: &mut Pool) {
        let stage = core::mem::replace(&mut self.stage, Stage::Header(0));
        if let Stage::Payload(_, _, Some((buf, _))) = stage {
            pool.free(buf);
        }
    }
}
