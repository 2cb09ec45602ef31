//! Frames of the peer protocol (docs/PROTOCOL.md).

/// Bytes of a frame's fixed header.
pub const HEADER_LEN: usize = 48;
/// Bytes of a frame's control body at most (handshake, ids); bulk data is a payload instead.
pub const MAX_BODY: usize = 2048;
/// Bytes of a frame's payload at most.
pub const MAX_PAYLOAD: u32 = crate::buf::MAX_BUF;

/// A message to or from the peer, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Heartbeat.
    Ping,
}

/// A frame's decoded and checked header: enough to receive the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    body_len: u16,
    payload_len: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The magic number is wrong: not a Palisade peer.
    Magic,
    /// The header's or the body's checksum is wrong.
    Checksum,
    /// A length beyond the limits.
    Length,
    /// A kind of frame that this version does not know.
    Kind(u8),
    /// A field with an impossible value.
    Field,
}

impl Header {
    /// Checks magic, checksum and limits.
    ///
    /// # Errors
    /// [`WireError`]: the connection must be dropped.
    pub fn parse(_bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        Err(WireError::Magic)
    }
    /// Bytes of body that follow the header (at most [`MAX_BODY`]).
    #[must_use]
    pub fn body_len(&self) -> usize {
        usize::from(self.body_len)
    }
    /// Bytes of payload that follow the body (at most [`MAX_PAYLOAD`]).
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        self.payload_len
    }
}

impl Frame {
    /// Decodes the frame of `header` with its body.
    ///
    /// # Errors
    /// [`WireError`]: the connection must be dropped.
    pub fn decode(_header: &Header, _body: &[u8]) -> Result<Self, WireError> {
        Ok(Self::Ping)
    }
    /// Encodes header and body for a payload of `payload_len` bytes; returns the bytes used.
    pub fn encode(&self, _payload_len: u32, _out: &mut [u8; HEADER_LEN + MAX_BODY]) -> usize {
        HEADER_LEN
    }
}
