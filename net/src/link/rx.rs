//! Bytes to frames.

use crate::stream::ByteStream;
use alloc::boxed::Box;
use core::fmt;
use replication::api::LinkDownReason;
use replication::buf::{Buf, Pool, PoolMemory};
use replication::crc32c;
use replication::secure::{Opener, TAG_LEN};
use replication::wire::{Frame, HEADER_LEN, Header, MAX_BODY, MAX_PAYLOAD, WireError};

/// Why the bytes received are not this protocol. The connection must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkError {
    /// The header or the body is not valid.
    Wire(WireError),
    /// A payload beyond what a buffer can hold.
    PayloadLength(u32),
    /// A payload's checksum is wrong.
    PayloadChecksum,
    /// A sealed record does not open.
    Seal,
}

impl LinkError {
    /// What the engine is told of the connection's end.
    #[must_use]
    pub fn reason(self) -> LinkDownReason {
        match self {
            Self::Wire(WireError::Checksum) | Self::PayloadChecksum | Self::Seal => {
                LinkDownReason::Corrupt
            }
            Self::Wire(_) | Self::PayloadLength(_) => LinkDownReason::Garbage,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(WireError::Checksum) => {
                f.write_str("a frame was damaged on its way (CRC-32C)")
            }
            Self::PayloadChecksum => f.write_str("a payload was damaged on its way (CRC-32C)"),
            Self::Seal => f.write_str("a sealed record was altered on its way"),
            Self::Wire(error) => write!(f, "not a frame: {error:?}"),
            Self::PayloadLength(len) => write!(f, "a payload of {len} bytes is too long"),
        }
    }
}

impl core::error::Error for LinkError {}

/// A payload on its way into its buffer.
#[derive(Debug)]
struct Incoming {
    buf: Buf,
    /// Bytes that are there, the tag's included.
    got: usize,
    /// CRC-32C of those, on a connection without sealing.
    crc: u32,
}

#[derive(Debug)]
enum Stage {
    /// The header, so many bytes of which are there.
    Header(usize),
    /// The body, so many bytes of which are there.
    Body(Header, usize),
    /// The payload: its header, its frame, and its place once there was a buffer in the pool.
    Payload(Header, Frame, Option<Incoming>),
}

/// Reads frames from a stream, piece by piece as they come. A payload goes straight into a pool
/// buffer, where it is checked (while it comes) or opened (when it is whole); while the pool has
/// none, nothing more is read, and TCP holds the peer back.
#[derive(Debug)]
pub struct LinkRx {
    stage: Stage,
    opener: Option<Opener>,
    header: [u8; HEADER_LEN + TAG_LEN],
    body: Box<[u8; MAX_BODY + TAG_LEN]>,
    tag: [u8; TAG_LEN],
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
            opener: None,
            header: [0; HEADER_LEN + TAG_LEN],
            body: Box::new([0; MAX_BODY + TAG_LEN]),
            tag: [0; TAG_LEN],
        }
    }

    /// All frames from now on are sealed, until [`LinkRx::reset`].
    pub fn open_with(&mut self, opener: Opener) {
        self.opener = Some(opener);
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
        if let Some(frame) = self.poll_body(stream)? {
            return Ok(Some((frame, None)));
        }
        if !self.fill_payload(stream, pool, memory) {
            return Ok(None);
        }
        match core::mem::replace(&mut self.stage, Stage::Header(0)) {
            Stage::Payload(header, frame, Some(incoming)) => {
                if let Err(error) = self.check_payload(&header, &incoming, memory) {
                    pool.free(incoming.buf);
                    return Err(error);
                }
                Ok(Some((frame, Some(incoming.buf))))
            }
            stage => {
                self.stage = stage;
                Ok(None)
            }
        }
    }

    /// Bytes of a part of `len` bytes on the wire.
    fn on_wire(&self, len: usize) -> usize {
        let sealed = self.opener.is_some() && len > 0;
        len + if sealed { TAG_LEN } else { 0 }
    }

    /// Reads no further than the next frame's header; whether it is there and valid.
    fn poll_header<S: ByteStream>(&mut self, stream: &mut S) -> Result<bool, LinkError> {
        let need = self.on_wire(HEADER_LEN);
        if let Stage::Header(got) = &mut self.stage {
            *got += stream.read(&mut self.header[*got..need]);
            if *got < need {
                return Ok(false);
            }
            open(&mut self.opener, &mut self.header, HEADER_LEN)?;
            let (fixed, _) = self
                .header
                .split_first_chunk()
                .ok_or(LinkError::Wire(WireError::Length))?;
            let header = Header::parse(fixed).map_err(LinkError::Wire)?;
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

    /// Reads the body; the frame, if it is whole with it.
    fn poll_body<S: ByteStream>(&mut self, stream: &mut S) -> Result<Option<Frame>, LinkError> {
        let Stage::Body(header, got) = self.stage else {
            return Ok(None);
        };
        let need = self.on_wire(header.body_len());
        let got = got + stream.read(&mut self.body[got..need]);
        self.stage = Stage::Body(header, got);
        if got < need {
            return Ok(None);
        }
        if need > 0 {
            open(&mut self.opener, &mut self.body[..], header.body_len())?;
        }
        let body = &self.body[..header.body_len()];
        let frame = Frame::decode(&header, body).map_err(LinkError::Wire)?;
        if header.payload_len() == 0 {
            self.stage = Stage::Header(0);
            return Ok(Some(frame));
        }
        self.stage = Stage::Payload(header, frame, None);
        Ok(None)
    }

    /// Whether the payload is whole.
    fn fill_payload<S: ByteStream, M: PoolMemory>(
        &mut self,
        stream: &mut S,
        pool: &mut Pool,
        memory: &mut M,
    ) -> bool {
        let sealed = self.opener.is_some();
        let Stage::Payload(header, _, place) = &mut self.stage else {
            return false;
        };
        if place.is_none() {
            *place = pool.alloc(header.payload_len()).map(|buf| Incoming {
                buf,
                got: 0,
                crc: 0,
            });
        }
        let Some(Incoming { buf, got, crc }) = place else {
            return false;
        };
        let bytes = memory.bytes_mut(buf.view());
        if *got < bytes.len() {
            let n = stream.read(&mut bytes[*got..]);
            if !sealed {
                *crc = crc32c::extend(*crc, &bytes[*got..*got + n]);
            }
            *got += n;
        }
        if sealed && *got >= bytes.len() {
            *got += stream.read(&mut self.tag[*got - bytes.len()..]);
            return *got == bytes.len() + TAG_LEN;
        }
        *got == bytes.len()
    }

    /// Checks the payload, or opens it where it lies.
    fn check_payload<M: PoolMemory>(
        &mut self,
        header: &Header,
        incoming: &Incoming,
        memory: &mut M,
    ) -> Result<(), LinkError> {
        match &mut self.opener {
            None if incoming.crc == header.payload_crc() => Ok(()),
            None => Err(LinkError::PayloadChecksum),
            Some(opener) => {
                let bytes = memory.bytes_mut(incoming.buf.view());
                opener.open(bytes, &self.tag).map_err(|_| LinkError::Seal)
            }
        }
    }

    /// Forgets a frame that was received in part, and gives its buffer back; for a new connection.
    pub fn reset(&mut self, pool: &mut Pool) {
        self.opener = None;
        let stage = core::mem::replace(&mut self.stage, Stage::Header(0));
        if let Stage::Payload(_, _, Some(incoming)) = stage {
            pool.free(incoming.buf);
        }
    }
}

/// Opens the record of `len` bytes and its tag at the start of `bytes`, if records are sealed.
fn open(opener: &mut Option<Opener>, bytes: &mut [u8], len: usize) -> Result<(), LinkError> {
    let Some(opener) = opener else {
        return Ok(());
    };
    let (text, rest) = bytes.split_at_mut(len);
    let (tag, _) = rest.split_first_chunk().ok_or(LinkError::Seal)?;
    opener.open(text, tag).map_err(|_| LinkError::Seal)
}
