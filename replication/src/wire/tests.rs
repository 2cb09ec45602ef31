//! Round trips, and garbage.

use super::*;
use alloc::vec;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9._-]{1,32}".prop_map(|text| Name::try_from(text.as_str()).unwrap())
}

fn disk() -> impl Strategy<Value = DiskState> {
    prop_oneof![
        Just(DiskState::Diskless),
        Just(DiskState::Failed),
        Just(DiskState::Inconsistent),
        Just(DiskState::Outdated),
        Just(DiskState::DUnknown),
        Just(DiskState::Consistent),
        Just(DiskState::UpToDate),
        Just(DiskState::Attaching),
        Just(DiskState::Negotiating),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Secondary), Just(Role::Primary)]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::Version),
        Just(Refusal::Resource),
        Just(Refusal::SameName),
        Just(Refusal::NotThePeer),
        Just(Refusal::Volumes),
        Just(Refusal::Size),
        Just(Refusal::BlockSize),
        Just(Refusal::SplitBrain),
        Just(Refusal::Unrelated),
        Just(Refusal::PrimaryIsTarget),
        Just(Refusal::BothPrimary),
        Just(Refusal::Protocol),
    ]
}

fn hello() -> impl Strategy<Value = Frame> {
    (
        (
            any::<u16>(),
            any::<u16>(),
            any::<u64>(),
            any::<u64>(),
            64u16..,
            1u8..=16,
        ),
        (role(), any::<(bool, bool)>(), name(), name(), name()),
        prop_oneof![Just(Protocol::A), Just(Protocol::B), Just(Protocol::C)],
    )
        .prop_map(
            |(numbers, (role, (discard_my_data, dry_run), node, peer, resource), protocol)| {
                let (version_min, version_max, features, nonce, window, volumes) = numbers;
                Frame::Hello(Hello {
                    version_min,
                    version_max,
                    features,
                    nonce,
                    window,
                    volumes,
                    role,
                    discard_my_data,
                    dry_run,
                    policies: Policies::default(),
                    node,
                    peer,
                    resource,
                    protocol,
                    fencing: [
                        Policy::DontCare,
                        Policy::ResourceOnly,
                        Policy::ResourceAndStonith,
                    ][(features % 3) as usize],
                    identity: nonce.rotate_left(7),
                    episode: 9,
                })
            },
        )
}

fn hello_volume() -> impl Strategy<Value = Frame> {
    (
        any::<(u16, u64, u32, bool)>(),
        disk(),
        any::<(u64, u64, [u64; 2], u64, u64, [bool; 6])>(),
    )
        .prop_map(
            |(
                (volume, size, block_size, can_discard),
                disk,
                (
                    current,
                    bitmap,
                    history,
                    dirty,
                    instance,
                    [crashed, was_primary, steady, paused, handler_due, unflushed],
                ),
            )| {
                Frame::HelloVolume(HelloVolume {
                    volume,
                    size,
                    block_size,
                    can_discard,
                    disk,
                    current,
                    bitmap,
                    history,
                    dirty,
                    instance,
                    crashed,
                    was_primary,
                    steady,
                    paused,
                    handler_due,
                    unflushed,
                    seen: (instance % 2 == 1).then_some(Seen {
                        generations: [instance, current],
                        instance: bitmap,
                    }),
                })
            },
        )
}

fn volume_state() -> impl Strategy<Value = VolumeState> {
    (disk(), any::<[bool; 3]>()).prop_map(|(disk, [paused, waits, verifies])| VolumeState {
        disk,
        paused,
        waits,
        verifies,
    })
}

fn resize() -> impl Strategy<Value = Frame> {
    let step = prop_oneof![
        any::<(bool, bool)>().prop_map(|(exact, clean)| ResizeStep::Prepare { exact, clean }),
        Just(ResizeStep::Commit),
        Just(ResizeStep::Done),
        Just(ResizeStep::Cancel),
    ];
    (any::<(u16, u64)>(), 1..u64::MAX, step).prop_map(|((volume, request), size, step)| {
        Frame::Resize(Resize {
            volume,
            request,
            size,
            step,
        })
    })
}

fn comparison() -> impl Strategy<Value = Comparison> {
    prop_oneof![
        any::<u32>().prop_map(Comparison::Blocks),
        Just(Comparison::Unreadable),
        Just(Comparison::Busy),
    ]
}

/// A frame and the length of a payload that fits it.
fn frame() -> impl Strategy<Value = (Frame, u32)> {
    let plain = prop_oneof![
        hello(),
        hello_volume(),
        (refusal(), any::<u16>()).prop_map(|(reason, volume)| Frame::Refuse { reason, volume }),
        Just(Frame::Ping),
        Just(Frame::Pong),
        any::<(u16, u64, u64, u32, bool)>().prop_map(|(volume, request, offset, len, fua)| {
            Frame::Discard {
                volume,
                request,
                offset,
                len,
                fua,
            }
        }),
        any::<(u16, u64, u64, u32, bool, bool)>().prop_map(
            |(volume, request, offset, len, unmap, fua)| Frame::WriteZeroes {
                volume,
                request,
                offset,
                len,
                unmap,
                fua,
            }
        ),
        any::<(u16, u64)>().prop_map(|(volume, request)| Frame::Flush { volume, request }),
        any::<u64>().prop_map(|request| Frame::Ack { request }),
        any::<u64>().prop_map(|request| Frame::Received { request }),
        Just(Frame::Barrier),
        any::<(u16, u64)>().prop_map(|(volume, request)| Frame::Ahead { volume, request }),
        any::<u64>().prop_map(|request| Frame::Nack { request }),
        (role(), proptest::collection::vec(volume_state(), 0..=16)).prop_map(|(role, volumes)| {
            let volumes = volumes.into_iter().collect();
            Frame::State(State { role, volumes })
        }),
        any::<u64>().prop_map(|request| Frame::PromoteRequest { request }),
        any::<(u64, bool)>()
            .prop_map(|(request, granted)| Frame::PromoteReply { request, granted }),
        (1..u64::MAX).prop_map(|uuid| Frame::NewGeneration { uuid }),
        (1..u64::MAX, any::<bool>())
            .prop_map(|(uuid, accepted)| Frame::NewGenerationReply { uuid, accepted }),
        any::<(u16, u64, u64)>().prop_map(|(volume, uuid, bytes)| Frame::SyncStart {
            volume,
            uuid,
            bytes
        }),
        any::<(u16, u64, u64, u32, bool)>().prop_map(|(volume, request, offset, len, unmap)| {
            Frame::SyncZeroes {
                volume,
                request,
                offset,
                len,
                unmap,
            }
        }),
        (any::<u64>(), comparison())
            .prop_map(|(request, outcome)| Frame::Compared { request, outcome }),
        any::<(u16, u64, bool)>().prop_map(|(volume, request, sender_is_source)| {
            Frame::SyncRequest {
                volume,
                request,
                sender_is_source,
            }
        }),
        any::<(u64, bool)>().prop_map(|(request, granted)| Frame::SyncReply { request, granted }),
        any::<(u16, u64)>().prop_map(|(volume, bytes)| Frame::SyncLeft { volume, bytes }),
        resize(),
        (any::<(u64, u64)>(), 0usize..5).prop_map(|((request, size), answer)| {
            let answer = [
                ResizeAnswer::Done,
                ResizeAnswer::DiskTooSmall,
                ResizeAnswer::Busy,
                ResizeAnswer::NoMemory,
                ResizeAnswer::DiskFailed,
            ][answer];
            Frame::ResizeReply(ResizeReply {
                request,
                size,
                answer,
            })
        }),
        any::<(u16, u64, u64)>().prop_map(|(volume, request, uuid)| Frame::SyncEnd {
            volume,
            request,
            uuid
        }),
        any::<(u16, u64, u64, u32)>().prop_map(|(volume, request, offset, len)| {
            Frame::ReadRequest {
                volume,
                request,
                offset,
                len,
            }
        }),
        (any::<u16>(), any::<u64>(), 1..u64::MAX).prop_map(|(volume, request, uuid)| {
            Frame::DiskLost {
                volume,
                request,
                uuid,
            }
        }),
    ];
    let bulk = prop_oneof![
        any::<(u16, u64, u64, bool)>().prop_map(|(volume, request, offset, fua)| Frame::Write {
            volume,
            request,
            offset,
            fua
        }),
        any::<(u16, u64, u64)>().prop_map(|(volume, request, offset)| Frame::SyncData {
            volume,
            request,
            offset
        }),
        any::<(u64, u64)>().prop_map(|(request, reply)| Frame::ReadReply { request, reply }),
        any::<(u16, u64, u64, u32)>().prop_map(|(volume, request, offset, len)| Frame::Compare {
            volume,
            request,
            offset,
            len
        }),
        any::<(u16, u64, bool)>().prop_map(|(volume, request, last)| Frame::Bitmap {
            volume,
            request,
            last
        }),
    ];
    prop_oneof![
        8 => (plain, Just(0)),
        1 => (bulk, 1..=MAX_PAYLOAD),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded((frame, payload) in frame()) {
        let mut out = [0; HEADER_LEN + MAX_BODY];
        let len = frame.encode(payload, &mut out);
        let header = Header::parse(out.first_chunk().unwrap()).unwrap();
        prop_assert_eq!(header.payload_len(), payload);
        prop_assert_eq!(header.body_len(), len - HEADER_LEN);
        prop_assert_eq!(Frame::decode(&header, &out[HEADER_LEN..len]).unwrap(), frame);
    }

    #[test]
    fn a_flipped_bit_is_noticed((frame, payload) in frame(), bit in any::<prop::sample::Index>()) {
        let mut out = [0; HEADER_LEN + MAX_BODY];
        let len = frame.encode(payload, &mut out);
        let bit = bit.index(len * 8);
        out[bit / 8] ^= 1 << (bit % 8);
        let decoded = Header::parse(out.first_chunk().unwrap())
            .and_then(|header| Frame::decode(&header, &out[HEADER_LEN..len]));
        prop_assert!(decoded.is_err());
    }

    /// Garbage behind correct checksums, as another release or a hostile peer could send.
    #[test]
    fn arbitrary_bytes_never_panic(
        mut header in any::<[u8; HEADER_LEN]>(),
        kind in 0u8..40,
        mut body in proptest::collection::vec(any::<u8>(), 0..MAX_BODY),
        sealed in any::<bool>(),
    ) {
        if sealed {
            codec::seal(&mut header, kind, &mut body);
        }
        if let Ok(parsed) = Header::parse(&header) {
            prop_assert!(sealed);
            prop_assert!(parsed.payload_len() <= MAX_PAYLOAD && parsed.body_len() <= MAX_BODY);
            if let Ok(frame) = Frame::decode(&parsed, &body) {
                let mut out = [0; HEADER_LEN + MAX_BODY];
                prop_assert!(frame.encode(parsed.payload_len(), &mut out) >= HEADER_LEN);
            }
        }
    }
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let mut out = [0; HEADER_LEN + MAX_BODY];
    let parse = |out: &[u8]| Header::parse(out.first_chunk().unwrap());
    Frame::Ping.encode(0, &mut out);
    out[0] = 0;
    assert_eq!(parse(&out), Err(WireError::Magic));
    Frame::Ping.encode(0, &mut out);
    out[20] = 1;
    assert_eq!(parse(&out), Err(WireError::Checksum));
    // A payload where none belongs.
    Frame::Ping.encode(512, &mut out);
    assert_eq!(parse(&out), Err(WireError::Length));
    Frame::NewGeneration { uuid: 0 }.encode(0, &mut out);
    let header = parse(&out).unwrap();
    assert_eq!(Frame::decode(&header, &[]), Err(WireError::Field));
}
