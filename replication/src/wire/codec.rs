//! Encoding and decoding of frames. All integers are little-endian.
//!
//! Header: magic u32, version u16, kind u8, flags u8, volume u16, body length u16, payload length
//! u32, request u64, offset u64, length u32, argument u64, CRC-32C u32 of the payload, CRC-32C u32 of
//! the 48 bytes before. A body ends with the CRC-32C of the bytes before it.

use super::{
    Comparison, Frame, HEADER_LEN, Header, Hello, HelloVolume, MAX_BODY, MAX_PAYLOAD, Refusal,
    Seen, State, VERSION, VolumeState, WireError,
};
use crate::api::{DiskState, MAX_VOLUMES, Name, Policy, Protocol, Role};
use crate::crc32c::crc32c;
use crate::lineage::Policies;

mod handshake;

const MAGIC: u32 = u32::from_le_bytes(*b"PLSD");
const CHECKED: usize = HEADER_LEN - 4;

pub(super) mod kind {
    pub const HELLO: u8 = 1;
    pub const HELLO_VOLUME: u8 = 2;
    pub const REFUSE: u8 = 3;
    pub const PING: u8 = 4;
    pub const PONG: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const DISCARD: u8 = 7;
    pub const WRITE_ZEROES: u8 = 8;
    pub const FLUSH: u8 = 9;
    pub const ACK: u8 = 10;
    pub const NACK: u8 = 11;
    pub const STATE: u8 = 12;
    pub const PROMOTE_REQUEST: u8 = 13;
    pub const PROMOTE_REPLY: u8 = 14;
    pub const NEW_GENERATION: u8 = 15;
    pub const NEW_GENERATION_REPLY: u8 = 16;
    pub const SYNC_START: u8 = 17;
    pub const SYNC_DATA: u8 = 18;
    pub const SYNC_ZEROES: u8 = 19;
    pub const SYNC_END: u8 = 20;
    pub const BITMAP: u8 = 21;
    pub const COMPARE: u8 = 22;
    pub const COMPARED: u8 = 23;
    pub const SYNC_REQUEST: u8 = 24;
    pub const SYNC_REPLY: u8 = 25;
    pub const SYNC_LEFT: u8 = 26;
    pub const READ_REQUEST: u8 = 30;
    pub const READ_REPLY: u8 = 31;
    pub const DISK_LOST: u8 = 32;
    pub const RECEIVED: u8 = 33;
    pub const BARRIER: u8 = 34;
    pub const AHEAD: u8 = 35;
    pub const RESIZE: u8 = 36;
    pub const RESIZE_REPLY: u8 = 37;
}

const FUA: u8 = 1;
const UNMAP: u8 = 2;
const YES: u8 = 1;
const DRY_RUN: u8 = 2;
const CRASHED: u8 = 2;
const WAS_PRIMARY: u8 = 4;
const STEADY: u8 = 8;
const HELD: u8 = 16;
const HANDLER_DUE: u8 = 32;
const UNFLUSHED: u8 = 64;
const UNREADABLE: u8 = 1;
const BUSY: u8 = 2;
const PAUSED: u8 = 1;
const WAITS: u8 = 2;
const VERIFIES: u8 = 4;

/// Whether frames of a kind have a payload.
fn has_payload(kind: u8) -> bool {
    matches!(
        kind,
        kind::WRITE | kind::SYNC_DATA | kind::BITMAP | kind::COMPARE | kind::READ_REPLY
    )
}

/// Appends little-endian fields to a body.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    fn name(&mut self, name: &Name) {
        self.bytes(&[name.len() as u8]);
        self.bytes(name.as_bytes());
    }
}

/// Takes little-endian fields from a body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(WireError::Length)?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| WireError::Length)
    }
    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }
    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn name(&mut self) -> Result<Name, WireError> {
        let len = usize::from(self.u8()?);
        let bytes = self.take(len)?;
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
        if bytes.is_empty() || !bytes.iter().all(allowed) {
            return Err(WireError::Field);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| WireError::Field)?;
        Name::try_from(text).map_err(|_| WireError::Field)
    }
}

fn role_code(role: Role) -> u8 {
    match role {
        Role::Unknown => 0,
        Role::Secondary => 1,
        Role::Primary => 2,
    }
}

fn role(code: u8) -> Result<Role, WireError> {
    match code {
        1 => Ok(Role::Secondary),
        2 => Ok(Role::Primary),
        _ => Err(WireError::Field),
    }
}

fn disk_code(disk: DiskState) -> u8 {
    match disk {
        DiskState::Diskless => 0,
        DiskState::Failed => 1,
        DiskState::Inconsistent => 2,
        DiskState::Outdated => 3,
        DiskState::DUnknown => 4,
        DiskState::Consistent => 5,
        DiskState::UpToDate => 6,
        DiskState::Attaching => 7,
        DiskState::Negotiating => 8,
    }
}

fn disk(code: u8) -> Result<DiskState, WireError> {
    Ok(match code {
        0 => DiskState::Diskless,
        1 => DiskState::Failed,
        2 => DiskState::Inconsistent,
        3 => DiskState::Outdated,
        4 => DiskState::DUnknown,
        5 => DiskState::Consistent,
        6 => DiskState::UpToDate,
        7 => DiskState::Attaching,
        8 => DiskState::Negotiating,
        _ => return Err(WireError::Field),
    })
}

const REFUSALS: [Refusal; 15] = [
    Refusal::Version,
    Refusal::Resource,
    Refusal::SameName,
    Refusal::NotThePeer,
    Refusal::Volumes,
    Refusal::Size,
    Refusal::BlockSize,
    Refusal::SplitBrain,
    Refusal::Unrelated,
    Refusal::PrimaryIsTarget,
    Refusal::BothPrimary,
    Refusal::Protocol,
    Refusal::DryRun,
    Refusal::Fencing,
    Refusal::Snapshot,
];

/// The code of a protocol is its place in here. A greeting without one is of a release that knew C only.
const PROTOCOLS: [Protocol; 3] = [Protocol::C, Protocol::A, Protocol::B];

/// The code of a policy is its place in here. A greeting without one is of a release that knew dont-care only.
const POLICIES: [Policy; 3] = [
    Policy::DontCare,
    Policy::ResourceOnly,
    Policy::ResourceAndStonith,
];

fn flag(on: bool, bit: u8) -> u8 {
    if on { bit } else { 0 }
}

impl Header {
    const EMPTY: Self = Self {
        kind: 0,
        flags: 0,
        volume: 0,
        body_len: 0,
        payload_len: 0,
        request: 0,
        offset: 0,
        length: 0,
        argument: 0,
        payload_crc: 0,
    };

    /// Checks magic, checksum, version and limits.
    ///
    /// # Errors
    /// [`WireError`]: the connection must be dropped.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let mut reader = Reader(bytes);
        if reader.u32()? != MAGIC {
            return Err(WireError::Magic);
        }
        let version = reader.u16()?;
        let header = Self {
            kind: reader.u8()?,
            flags: reader.u8()?,
            volume: reader.u16()?,
            body_len: reader.u16()?,
            payload_len: reader.u32()?,
            request: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u32()?,
            argument: reader.u64()?,
            payload_crc: reader.u32()?,
        };
        if reader.u32()? != crc32c(&bytes[..CHECKED]) {
            return Err(WireError::Checksum);
        }
        // The handshake's frames keep their layout in all versions, so that two nodes of
        // different versions can tell each other so.
        let handshake = matches!(header.kind, kind::HELLO | kind::HELLO_VOLUME | kind::REFUSE);
        if version != VERSION && !handshake {
            return Err(WireError::Version(version));
        }
        if header.body_len() > MAX_BODY
            || header.payload_len > MAX_PAYLOAD
            || has_payload(header.kind) != (header.payload_len > 0)
        {
            return Err(WireError::Length);
        }
        Ok(header)
    }

    fn write(&self, out: &mut [u8]) {
        let mut writer = Writer { out, at: 0 };
        writer.bytes(&MAGIC.to_le_bytes());
        writer.bytes(&VERSION.to_le_bytes());
        writer.bytes(&[self.kind, self.flags]);
        writer.bytes(&self.volume.to_le_bytes());
        writer.bytes(&self.body_len.to_le_bytes());
        writer.bytes(&self.payload_len.to_le_bytes());
        writer.bytes(&self.request.to_le_bytes());
        writer.bytes(&self.offset.to_le_bytes());
        writer.bytes(&self.length.to_le_bytes());
        writer.bytes(&self.argument.to_le_bytes());
        writer.bytes(&self.payload_crc.to_le_bytes());
        let crc = crc32c(&writer.out[..CHECKED]);
        writer.bytes(&crc.to_le_bytes());
    }
}

impl Frame {
    /// Decodes the frame of `header` with its body.
    ///
    /// # Errors
    /// [`WireError`]: the connection must be dropped.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, WireError> {
        if body.len() != header.body_len() {
            return Err(WireError::Length);
        }
        let fields = match body.split_last_chunk::<4>() {
            None if body.is_empty() => body,
            None => return Err(WireError::Length),
            Some((fields, crc)) if crc32c(fields) == u32::from_le_bytes(*crc) => fields,
            Some(_) => return Err(WireError::Checksum),
        };
        let &Header {
            volume,
            request,
            offset,
            length: len,
            ..
        } = header;
        let fua = header.flags & FUA != 0;
        let body = Reader(fields);
        Ok(match header.kind {
            kind::HELLO => Self::Hello(handshake::decode_hello(header, body)?),
            kind::HELLO_VOLUME => Self::HelloVolume(handshake::decode_volume(header, body)?),
            kind::REFUSE => Self::Refuse {
                // A reason of a later version is a matter of versions.
                reason: usize::try_from(header.argument)
                    .ok()
                    .and_then(|code| REFUSALS.get(code))
                    .copied()
                    .unwrap_or(Refusal::Version),
                volume,
            },
            kind::PING => Self::Ping,
            kind::PONG => Self::Pong,
            kind::WRITE => Self::Write {
                volume,
                request,
                offset,
                fua,
            },
            kind::DISCARD => Self::Discard {
                volume,
                request,
                offset,
                len,
                fua,
            },
            kind::WRITE_ZEROES => Self::WriteZeroes {
                volume,
                request,
                offset,
                len,
                unmap: header.flags & UNMAP != 0,
                fua,
            },
            kind::FLUSH => Self::Flush { volume, request },
            kind::READ_REQUEST => Self::ReadRequest {
                volume,
                request,
                offset,
                len,
            },
            kind::READ_REPLY => Self::ReadReply {
                request,
                reply: header.argument,
            },
            kind::DISK_LOST if header.argument == 0 => return Err(WireError::Field),
            kind::DISK_LOST => Self::DiskLost {
                volume,
                request,
                uuid: header.argument,
            },
            kind::ACK => Self::Ack { request },
            kind::NACK => Self::Nack { request },
            kind::RECEIVED => Self::Received { request },
            kind::BARRIER => Self::Barrier,
            kind::AHEAD => Self::Ahead { volume, request },
            kind::STATE => Self::State(handshake::decode_state(header, body)?),
            kind::PROMOTE_REQUEST => Self::PromoteRequest { request },
            kind::PROMOTE_REPLY => Self::PromoteReply {
                request,
                granted: header.flags & YES != 0,
            },
            kind::NEW_GENERATION | kind::NEW_GENERATION_REPLY if header.argument == 0 => {
                return Err(WireError::Field);
            }
            kind::NEW_GENERATION => Self::NewGeneration {
                uuid: header.argument,
            },
            kind::NEW_GENERATION_REPLY => Self::NewGenerationReply {
                uuid: header.argument,
                accepted: header.flags & YES != 0,
            },
            kind::SYNC_START => Self::SyncStart {
                volume,
                uuid: header.argument,
                bytes: offset,
            },
            kind::BITMAP => Self::Bitmap {
                volume,
                request,
                last: header.flags & YES != 0,
            },
            kind::SYNC_DATA => Self::SyncData {
                volume,
                request,
                offset,
            },
            kind::SYNC_ZEROES => Self::SyncZeroes {
                volume,
                request,
                offset,
                len,
                unmap: header.flags & UNMAP != 0,
            },
            kind::COMPARE => Self::Compare {
                volume,
                request,
                offset,
                len,
            },
            kind::COMPARED => Self::Compared {
                request,
                outcome: match header.flags {
                    UNREADABLE => Comparison::Unreadable,
                    BUSY => Comparison::Busy,
                    _ => Comparison::Blocks(len),
                },
            },
            kind::SYNC_REQUEST => Self::SyncRequest {
                volume,
                request,
                sender_is_source: header.flags & YES != 0,
            },
            kind::SYNC_REPLY => Self::SyncReply {
                request,
                granted: header.flags & YES != 0,
            },
            kind::SYNC_LEFT => Self::SyncLeft {
                volume: header.volume,
                bytes: header.offset,
            },
            kind::SYNC_END => Self::SyncEnd {
                volume,
                request,
                uuid: header.argument,
            },
            kind::RESIZE | kind::RESIZE_REPLY => super::resize::decode(header)?,
            other => return Err(WireError::Kind(other)),
        })
    }

    /// Encodes header and body for a payload of `payload_len` bytes, without its checksum; returns
    /// the bytes used.
    pub fn encode(&self, payload_len: u32, out: &mut [u8; HEADER_LEN + MAX_BODY]) -> usize {
        self.encode_checked(payload_len, 0, out)
    }

    /// As [`Frame::encode`], with the payload's CRC-32C.
    pub fn encode_checked(
        &self,
        payload_len: u32,
        payload_crc: u32,
        out: &mut [u8; HEADER_LEN + MAX_BODY],
    ) -> usize {
        let mut header = Header {
            payload_len,
            payload_crc,
            ..Header::EMPTY
        };
        let mut body = Writer {
            out: &mut out[HEADER_LEN..],
            at: 0,
        };
        self.fill(&mut header, &mut body);
        if body.at > 0 {
            let crc = crc32c(&body.out[..body.at]);
            body.bytes(&crc.to_le_bytes());
        }
        header.body_len = body.at as u16;
        header.write(&mut out[..HEADER_LEN]);
        HEADER_LEN + header.body_len()
    }

    fn fill(&self, header: &mut Header, body: &mut Writer<'_>) {
        match *self {
            Self::Hello(ref hello) => handshake::encode_hello(hello, header, body),
            Self::HelloVolume(ref volume) => handshake::encode_volume(volume, header, body),
            Self::Refuse { reason, volume } => {
                header.kind = kind::REFUSE;
                header.volume = volume;
                header.argument = REFUSALS.iter().position(|r| *r == reason).unwrap_or(0) as u64;
            }
            Self::Ping => header.kind = kind::PING,
            Self::Pong => header.kind = kind::PONG,
            Self::Write {
                volume,
                request,
                offset,
                fua,
            } => {
                header.kind = kind::WRITE;
                header.flags = flag(fua, FUA);
                (header.volume, header.request, header.offset) = (volume, request, offset);
            }
            Self::Discard {
                volume,
                request,
                offset,
                len,
                fua,
            } => {
                header.kind = kind::DISCARD;
                header.flags = flag(fua, FUA);
                (header.volume, header.request, header.offset) = (volume, request, offset);
                header.length = len;
            }
            Self::WriteZeroes {
                volume,
                request,
                offset,
                len,
                unmap,
                fua,
            } => {
                header.kind = kind::WRITE_ZEROES;
                header.flags = flag(fua, FUA) | flag(unmap, UNMAP);
                (header.volume, header.request, header.offset) = (volume, request, offset);
                header.length = len;
            }
            Self::Flush { volume, request } => {
                header.kind = kind::FLUSH;
                (header.volume, header.request) = (volume, request);
            }
            Self::ReadRequest {
                volume,
                request,
                offset,
                len,
            } => {
                header.kind = kind::READ_REQUEST;
                (header.volume, header.request, header.offset) = (volume, request, offset);
                header.length = len;
            }
            Self::ReadReply { request, reply } => {
                header.kind = kind::READ_REPLY;
                (header.request, header.argument) = (request, reply);
            }
            Self::DiskLost {
                volume,
                request,
                uuid,
            } => {
                (header.kind, header.volume) = (kind::DISK_LOST, volume);
                (header.request, header.argument) = (request, uuid);
            }
            Self::Ack { request } => (header.kind, header.request) = (kind::ACK, request),
            Self::Nack { request } => (header.kind, header.request) = (kind::NACK, request),
            Self::Received { request } => (header.kind, header.request) = (kind::RECEIVED, request),
            Self::Barrier => header.kind = kind::BARRIER,
            Self::Ahead { volume, request } => {
                header.kind = kind::AHEAD;
                (header.volume, header.request) = (volume, request);
            }
            Self::State(ref state) => {
                header.kind = kind::STATE;
                header.flags = role_code(state.role);
                for volume in &state.volumes {
                    let flags = flag(volume.paused, PAUSED)
                        | flag(volume.waits, WAITS)
                        | flag(volume.verifies, VERIFIES);
                    body.bytes(&[disk_code(volume.disk), flags]);
                }
            }
            Self::PromoteRequest { request } => {
                (header.kind, header.request) = (kind::PROMOTE_REQUEST, request);
            }
            Self::PromoteReply { request, granted } => {
                (header.kind, header.request) = (kind::PROMOTE_REPLY, request);
                header.flags = flag(granted, YES);
            }
            Self::NewGeneration { uuid } => {
                (header.kind, header.argument) = (kind::NEW_GENERATION, uuid);
            }
            Self::NewGenerationReply { uuid, accepted } => {
                (header.kind, header.argument) = (kind::NEW_GENERATION_REPLY, uuid);
                header.flags = flag(accepted, YES);
            }
            Self::SyncStart {
                volume,
                uuid,
                bytes,
            } => {
                (header.kind, header.volume) = (kind::SYNC_START, volume);
                (header.argument, header.offset) = (uuid, bytes);
            }
            Self::Bitmap {
                volume,
                request,
                last,
            } => {
                (header.kind, header.flags) = (kind::BITMAP, flag(last, YES));
                (header.volume, header.request) = (volume, request);
            }
            Self::SyncData {
                volume,
                request,
                offset,
            } => {
                header.kind = kind::SYNC_DATA;
                (header.volume, header.request, header.offset) = (volume, request, offset);
            }
            Self::SyncZeroes {
                volume,
                request,
                offset,
                len,
                unmap,
            } => {
                header.kind = kind::SYNC_ZEROES;
                header.flags = flag(unmap, UNMAP);
                (header.volume, header.request, header.offset) = (volume, request, offset);
                header.length = len;
            }
            Self::Compare {
                volume,
                request,
                offset,
                len,
            } => {
                (header.kind, header.volume) = (kind::COMPARE, volume);
                (header.request, header.offset, header.length) = (request, offset, len);
            }
            Self::Compared { request, outcome } => {
                (header.kind, header.request) = (kind::COMPARED, request);
                (header.flags, header.length) = match outcome {
                    Comparison::Blocks(mask) => (0, mask),
                    Comparison::Unreadable => (UNREADABLE, 0),
                    Comparison::Busy => (BUSY, 0),
                };
            }
            Self::SyncRequest {
                volume,
                request,
                sender_is_source,
            } => {
                (header.kind, header.volume) = (kind::SYNC_REQUEST, volume);
                (header.request, header.flags) = (request, flag(sender_is_source, YES));
            }
            Self::SyncReply { request, granted } => {
                (header.kind, header.request) = (kind::SYNC_REPLY, request);
                header.flags = flag(granted, YES);
            }
            Self::SyncLeft { volume, bytes } => {
                (header.kind, header.volume) = (kind::SYNC_LEFT, volume);
                header.offset = bytes;
            }
            Self::SyncEnd {
                volume,
                request,
                uuid,
            } => {
                (header.kind, header.volume) = (kind::SYNC_END, volume);
                (header.request, header.argument) = (request, uuid);
            }
            Self::Resize(resize) => super::resize::encode(&resize, header),
            Self::ResizeReply(reply) => super::resize::encode_reply(&reply, header),
        }
    }
}

/// Gives arbitrary bytes a magic number, this version, a kind, limits and correct checksums.
#[cfg(test)]
pub(super) fn seal(header: &mut [u8; HEADER_LEN], kind: u8, body: &mut [u8]) {
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6] = kind;
    header[10..12].copy_from_slice(&(body.len() as u16).to_le_bytes());
    if !has_payload(kind) {
        header[12..16].fill(0);
    }
    if let Some((fields, crc)) = body.split_last_chunk_mut::<4>() {
        *crc = crc32c(fields).to_le_bytes();
    }
    let crc = crc32c(&header[..CHECKED]);
    header[CHECKED..].copy_from_slice(&crc.to_le_bytes());
}
