//! Frames for seeds, and the checksums that no fuzzer would ever guess.

use crate::input::Input;
use crc::{CRC_32_ISCSI, Crc};
use replication::api::{DiskState, Name, Protocol, Role};
use replication::lineage::Policies;
use replication::wire::{
    Comparison, FEATURES, Frame, HEADER_LEN, Header, Hello, HelloVolume, MAX_BODY, Refusal, State,
    VERSION, VERSION_MIN, VolumeState, WireError,
};
use replication::wire::{Resize, ResizeAnswer, ResizeReply, ResizeStep};

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const CHECKED: usize = HEADER_LEN - 4;

/// How [`seal`] mends what a fuzzer made; one bit each.
pub mod mend {
    /// Magic number and the header's checksum.
    pub const HEADER: u8 = 1;
    /// The version.
    pub const VERSION: u8 = 2;
    /// The body's length and checksum.
    pub const BODY: u8 = 4;
    /// The payload's checksum.
    pub const PAYLOAD: u8 = 8;
    /// All of them.
    pub const ALL: u8 = HEADER | VERSION | BODY | PAYLOAD;
}

/// Makes a header and a body that came from a fuzzer pass the checks of docs/PROTOCOL.md that
/// `what` names, so that the fuzzer gets beyond them.
pub fn seal(what: u8, header: &mut [u8; HEADER_LEN], body: &mut [u8]) {
    if what & mend::VERSION != 0 {
        header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    }
    if what & mend::BODY != 0 {
        header[10..12].copy_from_slice(&(body.len() as u16).to_le_bytes());
        if let Some((fields, crc)) = body.split_last_chunk_mut::<4>() {
            *crc = CRC32C.checksum(fields).to_le_bytes();
        }
    }
    if what & mend::HEADER != 0 {
        header[..4].copy_from_slice(b"PLSD");
        let crc = CRC32C.checksum(&header[..CHECKED]);
        header[CHECKED..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The numbers in a frame's header, whatever they mean to its kind.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// The kind of frame.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Index of a volume.
    pub volume: u16,
    /// Number of a request.
    pub request: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    /// Mostly a generation.
    pub argument: u64,
}

impl Fields {
    /// The fields of an encoded frame.
    pub fn of(header: &[u8; HEADER_LEN]) -> Self {
        let mut from = Input::new(header);
        let _magic_and_version = from.bytes(6);
        let (kind, flags, volume) = (from.byte(), from.byte(), from.u16());
        let _lengths = from.bytes(6);
        Self {
            kind,
            flags,
            volume,
            request: u64::from_le_bytes(from.array()),
            offset: u64::from_le_bytes(from.array()),
            length: u32::from_le_bytes(from.array()),
            argument: u64::from_le_bytes(from.array()),
        }
    }

    /// The frame of these fields with a body of these bytes (and a checksum), as the codec understands it: so
    /// kinds that this crate has never heard of are fuzzed, too.
    pub fn frame(&self, body: &[u8], payload: u32) -> Result<Frame, WireError> {
        let mut header = [0; HEADER_LEN];
        header[6..8].copy_from_slice(&[self.kind, self.flags]);
        header[8..10].copy_from_slice(&self.volume.to_le_bytes());
        header[12..16].copy_from_slice(&payload.to_le_bytes());
        header[16..24].copy_from_slice(&self.request.to_le_bytes());
        header[24..32].copy_from_slice(&self.offset.to_le_bytes());
        header[32..36].copy_from_slice(&self.length.to_le_bytes());
        header[36..44].copy_from_slice(&self.argument.to_le_bytes());
        let mut body = match body {
            [] => Vec::new(),
            fields => [fields, &[0; 4]].concat(),
        };
        seal(mend::ALL, &mut header, &mut body);
        Frame::decode(&Header::parse(&header)?, &body)
    }
}

/// Puts the payload's checksum into a header that is then sealed, if `what` says so.
pub fn seal_payload(what: u8, header: &mut [u8; HEADER_LEN], payload: &[u8]) {
    if what & mend::PAYLOAD != 0 {
        let crc = match payload {
            [] => 0,
            bytes => CRC32C.checksum(bytes),
        };
        header[CHECKED - 4..CHECKED].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A frame's bytes without its payload.
pub fn encoded(frame: &Frame, payload: u32) -> Vec<u8> {
    let mut out = [0; HEADER_LEN + MAX_BODY];
    let len = frame.encode(payload, &mut out);
    out[..len].to_vec()
}

/// A name that is known to be one.
pub fn name(text: &str) -> Name {
    Name::try_from(text).unwrap_or_default()
}

/// The opening of node `b` with `volumes` volumes.
pub fn hello(role: Role, volumes: u8) -> Hello {
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION,
        features: FEATURES,
        nonce: 0x1234_5678_9abc_def0,
        window: 128,
        volumes,
        role,
        discard_my_data: false,
        dry_run: false,
        policies: Policies::default(),
        node: name("b"),
        peer: name("a"),
        resource: name("r0"),
        protocol: Protocol::C,
        fencing: Default::default(),
        identity: 0,
        episode: 0,
    }
}

/// A volume of node `b`, with something in every field.
pub fn hello_volume(volume: u16) -> HelloVolume {
    HelloVolume {
        volume,
        size: 1 << 20,
        block_size: 512,
        can_discard: true,
        disk: DiskState::Consistent,
        current: 11,
        bitmap: 12,
        history: [13, 14],
        dirty: 5,
        instance: 77,
        crashed: true,
        was_primary: false,
        steady: true,
        paused: false,
        handler_due: false,
        unflushed: false,
        seen: None,
    }
}

/// A frame of every kind, with the length of its payload.
pub fn samples() -> Vec<(Frame, u32)> {
    let (volume, request, offset, len) = (1, 7, 8192, 4096);
    let uuid = 0xfeed_f00d;
    let role = Role::Primary;
    let volume_state = |disk| VolumeState {
        disk,
        paused: true,
        waits: false,
        verifies: true,
    };
    let states = [DiskState::UpToDate, DiskState::Inconsistent].map(volume_state);
    let mut all = vec![
        (Frame::Hello(hello(Role::Secondary, 2)), 0),
        (Frame::HelloVolume(hello_volume(volume)), 0),
        (
            Frame::State(State {
                role,
                volumes: states.into_iter().collect(),
            }),
            0,
        ),
    ];
    let reason = Refusal::SplitBrain;
    let (fua, unmap) = (true, true);
    #[rustfmt::skip]
    let plain = [
        Frame::Refuse { reason, volume },
        Frame::Ping,
        Frame::Pong,
        Frame::Discard { volume, request, offset, len, fua },
        Frame::WriteZeroes { volume, request, offset, len, unmap, fua },
        Frame::Flush { volume, request },
        Frame::Ack { request },
        Frame::Received { request },
        Frame::Barrier,
        Frame::Ahead { volume, request },
        Frame::Nack { request },
        Frame::PromoteRequest { request },
        Frame::PromoteReply { request, granted: true },
        Frame::NewGeneration { uuid },
        Frame::NewGenerationReply { uuid, accepted: true },
        Frame::SyncStart { volume, uuid, bytes: 65536 },
        Frame::SyncZeroes { volume, request, offset, len, unmap },
        Frame::SyncRequest { volume, request, sender_is_source: true },
        Frame::SyncReply { request, granted: true },
        Frame::Resize(Resize {
            volume,
            request,
            size: 1 << 30,
            step: ResizeStep::Prepare {
                exact: true,
                clean: false,
            },
        }),
        Frame::ResizeReply(ResizeReply {
            request,
            size: 1 << 30,
            answer: ResizeAnswer::DiskTooSmall,
        }),
        Frame::Compared { request, outcome: Comparison::Blocks(5) },
        Frame::Compared { request, outcome: Comparison::Busy },
        Frame::SyncLeft { volume, bytes: 1 << 20 },
        Frame::SyncEnd { volume, request, uuid },
        Frame::ReadRequest { volume, request, offset, len },
        Frame::DiskLost { volume, request, uuid },
    ];
    all.extend(plain.into_iter().map(|frame| (frame, 0)));
    #[rustfmt::skip]
    let bulk = [
        Frame::Write { volume, request, offset, fua },
        Frame::SyncData { volume, request, offset },
        Frame::Bitmap { volume, request, last: true },
        Frame::Compare { volume, request, offset, len },
        Frame::ReadReply { request, reply: 3 },
    ];
    all.extend(bulk.into_iter().map(|frame| (frame, 4096)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealing_what_is_sound_changes_nothing() {
        for (frame, payload) in samples() {
            let bytes = encoded(&frame, payload);
            let (head, rest) = bytes.split_first_chunk().expect("a header");
            let (mut header, mut body) = (*head, rest.to_vec());
            seal(mend::ALL, &mut header, &mut body);
            assert_eq!([&header[..], &body[..]].concat(), bytes, "{frame:?}");
        }
    }

    #[test]
    fn fields_make_the_frame_that_they_come_from() {
        for (frame, payload) in samples() {
            let bytes = encoded(&frame, payload);
            let (header, body) = bytes.split_first_chunk().expect("a header");
            let fields = &body[..body.len().saturating_sub(4)];
            let again = Fields::of(header).frame(fields, payload);
            assert_eq!(again, Ok(frame));
        }
    }

    /// A kind of frame that is added must be added to the seeds.
    #[test]
    fn every_kind_has_a_sample() {
        let sampled: Vec<u8> = samples().iter().map(|(f, p)| encoded(f, *p)[6]).collect();
        for kind in 0..=255 {
            let mut header = [0; HEADER_LEN];
            header[6] = kind;
            let decode = |mut header: [u8; HEADER_LEN], payload: u32| {
                header[12..16].copy_from_slice(&payload.to_le_bytes());
                seal(mend::ALL, &mut header, &mut []);
                Header::parse(&header).and_then(|parsed| Frame::decode(&parsed, &[]))
            };
            let unknown = |result| matches!(result, Err(WireError::Kind(_) | WireError::Length));
            let known = !unknown(decode(header, 0)) || !unknown(decode(header, 512));
            assert!(
                !known || sampled.contains(&kind),
                "no sample of kind {kind}"
            );
        }
    }
}
