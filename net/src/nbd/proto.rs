//! Constants and codecs of the NBD protocol, by the names of proto.md. All numbers are big-endian
//! on the wire.

/// First eight bytes of the server's greeting (proto.md, "Newstyle negotiation").
pub const NBDMAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// Second eight bytes of the greeting, and the first eight of every option.
pub const IHAVEOPT: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// First eight bytes of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First four bytes of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First four bytes of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First four bytes of a structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flag: the server speaks fixed newstyle.
pub const FLAG_FIXED_NEWSTYLE: u16 = 1;
/// Handshake flag: the server can omit the 124 zeroes after NBD_OPT_EXPORT_NAME.
pub const FLAG_NO_ZEROES: u16 = 2;
/// Client flag: the client speaks fixed newstyle.
pub const FLAG_C_FIXED_NEWSTYLE: u32 = 1;
/// Client flag: the client wants the 124 zeroes omitted.
pub const FLAG_C_NO_ZEROES: u32 = 2;
/// Zeroes behind the answer to NBD_OPT_EXPORT_NAME unless both sides agreed to omit them.
pub const EXPORT_NAME_ZEROES: usize = 124;
/// Longest string of the protocol, in bytes (proto.md, "Conventions").
pub const STRING_MAX: usize = 4096;

/// Option types (proto.md, "Option types").
pub mod opt {
    /// Choose an export and end the negotiation; failure closes the connection.
    pub const EXPORT_NAME: u32 = 1;
    /// End the negotiation without an export.
    pub const ABORT: u32 = 2;
    /// List the exports.
    pub const LIST: u32 = 3;
    /// Start TLS.
    pub const STARTTLS: u32 = 5;
    /// Ask for information about an export.
    pub const INFO: u32 = 6;
    /// Choose an export, with information, and end the negotiation.
    pub const GO: u32 = 7;
    /// Agree on structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// List metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Choose metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Option reply types (proto.md, "Option reply types").
pub mod rep {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export of a list.
    pub const SERVER: u32 = 2;
    /// One piece of information about an export.
    pub const INFO: u32 = 3;
    /// One metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = (1 << 31) + 1;
    /// The server does not want to, for the reason that it gives.
    pub const ERR_POLICY: u32 = (1 << 31) + 2;
    /// The option's data is malformed.
    pub const ERR_INVALID: u32 = (1 << 31) + 3;
    /// No such export.
    pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    /// The option's data is more than the server is willing to store.
    pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
}

/// Information types of NBD_OPT_INFO and NBD_OPT_GO.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Canonical name.
    pub const NAME: u16 = 1;
    /// Description for a person.
    pub const DESCRIPTION: u16 = 2;
    /// Minimum, preferred and maximum request sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags (proto.md, "Transmission flags").
pub mod tflag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Nothing that changes data is taken.
    pub const READ_ONLY: u16 = 1 << 1;
    /// FLUSH is known.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The FUA flag is known.
    pub const SEND_FUA: u16 = 1 << 3;
    /// TRIM is known.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// WRITE_ZEROES is known.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The DF flag is known; only together with structured replies.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers the completed writes of all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// CACHE is known.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The FAST_ZERO flag is known.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Request types (proto.md, "Request types").
pub mod cmd {
    /// Read.
    pub const READ: u16 = 0;
    /// Write; the payload follows the request.
    pub const WRITE: u16 = 1;
    /// Disconnect; has no reply.
    pub const DISC: u16 = 2;
    /// Make completed writes durable.
    pub const FLUSH: u16 = 3;
    /// Discard.
    pub const TRIM: u16 = 4;
    /// Prefetch.
    pub const CACHE: u16 = 5;
    /// Write zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// Report allocation.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Command flags (proto.md, "Command flags").
pub mod cflag {
    /// Durable before the reply.
    pub const FUA: u16 = 1 << 0;
    /// WRITE_ZEROES must not punch a hole.
    pub const NO_HOLE: u16 = 1 << 1;
    /// READ must be answered in one chunk.
    pub const DF: u16 = 1 << 2;
    /// BLOCK_STATUS: one extent is enough.
    pub const REQ_ONE: u16 = 1 << 3;
    /// WRITE_ZEROES: fail rather than be slow.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Structured reply chunk types (proto.md, "Structured reply types").
pub mod chunk {
    /// Nothing; ends a reply.
    pub const NONE: u16 = 0;
    /// Data at an offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Extents of a metadata context.
    pub const BLOCK_STATUS: u16 = 5;
    /// The request failed.
    pub const ERROR: u16 = (1 << 15) + 1;
    /// The request failed at an offset.
    pub const ERROR_OFFSET: u16 = (1 << 15) + 2;
    /// Flag of the last chunk of a reply.
    pub const FLAG_DONE: u16 = 1;
}

/// Name of the one metadata context (proto.md, "Metadata querying").
pub const BASE_ALLOCATION: &[u8] = b"base:allocation";

/// Error numbers of replies (proto.md, "Error values").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// The export is read-only.
    NotPermitted = 1,
    /// The disk failed.
    Io = 5,
    /// The request makes no sense.
    Invalid = 22,
    /// The range of a write lies beyond the end.
    NoSpace = 28,
    /// A fast zero would not be fast.
    NotSupported = 95,
}

impl Errno {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// Bytes of a request header.
pub const REQUEST_LEN: usize = 28;
/// Bytes of an option header.
pub const OPTION_LEN: usize = 16;
/// Bytes of a simple reply.
pub const SIMPLE_REPLY_LEN: usize = 16;
/// Bytes of the header of a structured reply chunk.
pub const CHUNK_HEADER_LEN: usize = 20;

/// A request header as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Command flags, see [`cflag`].
    pub flags: u16,
    /// Type, see [`cmd`].
    pub command: u16,
    /// The client's number for the request; comes back in the reply.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

impl Request {
    /// Decodes a header; `None` when it does not start with [`REQUEST_MAGIC`]. There is no way
    /// to find the next request then: the connection must be dropped.
    #[must_use]
    pub fn decode(bytes: &[u8; REQUEST_LEN]) -> Option<Self> {
        let mut at = Cursor::new(bytes);
        if at.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: at.u16()?,
            command: at.u16()?,
            cookie: at.u64()?,
            offset: at.u64()?,
            length: at.u32()?,
        })
    }

    /// Encodes the header, as a client does.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut out = [0; REQUEST_LEN];
        out[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        out[4..6].copy_from_slice(&self.flags.to_be_bytes());
        out[6..8].copy_from_slice(&self.command.to_be_bytes());
        out[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        out[16..24].copy_from_slice(&self.offset.to_be_bytes());
        out[24..28].copy_from_slice(&self.length.to_be_bytes());
        out
    }
}

/// A simple reply; `error` 0 means success.
#[must_use]
pub fn simple_reply(error: u32, cookie: u64) -> [u8; SIMPLE_REPLY_LEN] {
    let mut out = [0; SIMPLE_REPLY_LEN];
    out[0..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    out[4..8].copy_from_slice(&error.to_be_bytes());
    out[8..16].copy_from_slice(&cookie.to_be_bytes());
    out
}

/// The header of a structured reply chunk with `length` bytes behind it.
#[must_use]
pub fn chunk_header(flags: u16, kind: u16, cookie: u64, length: u32) -> [u8; CHUNK_HEADER_LEN] {
    let mut out = [0; CHUNK_HEADER_LEN];
    out[0..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    out[4..6].copy_from_slice(&flags.to_be_bytes());
    out[6..8].copy_from_slice(&kind.to_be_bytes());
    out[8..16].copy_from_slice(&cookie.to_be_bytes());
    out[16..20].copy_from_slice(&length.to_be_bytes());
    out
}

/// Reads big-endian fields off a byte string; every reader answers `None` past the end.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string behind its 32-bit length: `None` when it overruns the data, is longer than
    /// [`STRING_MAX`] or holds a NUL.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        if len > STRING_MAX {
            return None;
        }
        let text = self.take(len)?;
        (!text.contains(&0)).then_some(text)
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_round_trip(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) {
            let request = Request { flags, command, cookie, offset, length };
            prop_assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn a_wrong_magic_is_no_request() {
        let mut bytes = [0; REQUEST_LEN];
        assert_eq!(Request::decode(&bytes), None);
        bytes[0..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        assert_eq!(Request::decode(&bytes), None);
    }

    #[test]
    fn strings_are_checked() {
        let parse = |bytes: &[u8]| Cursor::new(bytes).string().map(<[u8]>::len);
        assert_eq!(parse(&[0, 0, 0, 2, b'a', b'b']), Some(2));
        assert_eq!(parse(&[0, 0, 0, 0]), Some(0));
        assert_eq!(parse(&[0, 0, 0, 3, b'a', b'b']), None, "overruns its data");
        assert_eq!(parse(&[0, 0, 0, 2, b'a', 0]), None, "NUL");
        assert_eq!(parse(&[0xff; 64]), None, "a length near 2^32");
        assert_eq!(parse(&[0, 0, 0]), None, "half a length");
        let mut long = alloc::vec![b'x'; 4 + STRING_MAX + 1];
        long[..4].copy_from_slice(&4097u32.to_be_bytes());
        assert_eq!(parse(&long), None, "longer than 4096");
        long[..4].copy_from_slice(&4096u32.to_be_bytes());
        assert_eq!(parse(&long), Some(4096));
    }
}
