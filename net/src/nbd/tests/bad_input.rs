//! The table "Bad input and what it gets" of reference/nbd.md, row by row.

use super::mock::{DISK, Seen, World};
use super::wire::{
    info_data, meta_data, negotiating, open, opened, option, option_replies, replies, request,
    write,
};
use crate::nbd::Verdict;
use crate::nbd::proto::{cflag, cmd, info, opt, rep};
use alloc::vec;
use alloc::vec::Vec;
use replication::api::ClientError;

const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;

/// The types of the answers to one option.
fn kinds(world: &mut World, slot: u16, number: u32, data: &[u8]) -> Vec<u32> {
    world.say(slot, &option(number, data));
    let bytes = world.received(slot);
    option_replies(&bytes).into_iter().map(|r| r.1).collect()
}

/// The error of the answer to a request.
fn error(world: &mut World, slot: u16, bytes: &[u8]) -> u32 {
    world.say(slot, bytes);
    let replies = replies(&world.received(slot), &[]);
    assert_eq!(replies.len(), 1);
    replies[0].error
}

/// A flush goes through: the connection is alive and in step.
fn is_alive(world: &mut World, slot: u16) -> bool {
    error(world, slot, &request(cmd::FLUSH, 0, 99, 0, 0)) == 0
}

#[test]
fn unknown_client_flag_drops_the_connection() {
    for flag in 2..32 {
        let mut world = World::new();
        let slot = world.connect();
        world.run();
        world.say(slot, &(1u32 << flag | 1).to_be_bytes());
        assert_eq!(world.ended(slot).0, Verdict::Abort);
        world.finish();
    }
}

#[test]
fn unknown_option_of_any_length_is_drained_and_unsupported() {
    let (mut world, slot) = negotiating();
    for len in [0, 1, 8191, 8192, 8193, 1 << 20] {
        let answers = kinds(&mut world, slot, 0x4242, &vec![0x49; len]);
        assert_eq!(answers, [rep::ERR_UNSUP]);
    }
    assert_eq!(kinds(&mut world, slot, opt::LIST, &[]).len(), 3);
    // An absurd length: nobody waits for 4 GiB of nothing.
    let mut absurd = option(0x4242, &[]);
    absurd[12..].copy_from_slice(&u32::MAX.to_be_bytes());
    world.say(slot, &absurd);
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn wrong_option_magic_drops_the_connection() {
    let (mut world, slot) = negotiating();
    let mut bad = option(opt::LIST, &[]);
    bad[7] ^= 1;
    world.say(slot, &bad);
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn malformed_names_and_counts_are_invalid() {
    let mut overrun = info_data(b"vol0", &[]);
    overrun[3] = 200;
    let mut huge = info_data(b"vol0", &[]);
    huge[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut trailing = info_data(b"vol0", &[info::NAME]);
    trailing.push(0);
    let mut count = info_data(b"vol0", &[info::NAME]);
    count[9] = 2;
    let bad = [
        overrun,
        huge,
        trailing,
        count,
        info_data(&[b'x'; 4097], &[]),
        info_data(&[b'x'; 9000], &[]),
        info_data(b"vol\0", &[]),
        b"\0\0\0\0".to_vec(),
        b"\0\0".to_vec(),
        vec![],
    ];
    let (mut world, slot) = negotiating();
    for data in &bad {
        for number in [opt::INFO, opt::GO] {
            assert_eq!(kinds(&mut world, slot, number, data), [rep::ERR_INVALID]);
        }
    }
    let answers = kinds(&mut world, slot, opt::GO, &info_data(b"vol0", &[]));
    assert_eq!(answers.last(), Some(&rep::ACK), "goes on");
    world.finish();
}

#[test]
fn unknown_export_closes_or_is_unknown() {
    let (mut world, slot) = negotiating();
    let long = [b'x'; 4096];
    for name in [b"vol7".as_slice(), b"VOL0", b"\xff\xfe", &long] {
        for number in [opt::INFO, opt::GO] {
            let answers = kinds(&mut world, slot, number, &info_data(name, &[]));
            assert_eq!(answers, [rep::ERR_UNKNOWN]);
        }
    }
    world.say(slot, &option(opt::EXPORT_NAME, b"vol7"));
    let (verdict, bytes) = world.ended(slot);
    assert_eq!((verdict, bytes.len()), (Verdict::Close, 0));
    world.finish();

    let (mut world, slot) = negotiating();
    world
        .pipe(slot)
        .send(&option(opt::EXPORT_NAME, &[b'x'; 9000]));
    world.run();
    assert_eq!(world.ended(slot).0, Verdict::Close);
    world.finish();
}

#[test]
fn data_where_none_belongs() {
    let (mut world, slot) = negotiating();
    for len in [1, 8193] {
        for number in [opt::LIST, opt::STRUCTURED_REPLY] {
            assert_eq!(
                kinds(&mut world, slot, number, &vec![0; len]),
                [rep::ERR_INVALID]
            );
        }
    }
    let answers = kinds(&mut world, slot, opt::GO, &info_data(b"vol0", &[]));
    assert_eq!(answers.last(), Some(&rep::ACK));
    world.finish();
    for len in [3, 10_000] {
        let (mut world, slot) = negotiating();
        world.pipe(slot).send(&option(opt::ABORT, &vec![0; len]));
        world.run();
        let (verdict, bytes) = world.ended(slot);
        assert_eq!(verdict, Verdict::Close);
        assert_eq!(option_replies(&bytes), [(opt::ABORT, rep::ACK, vec![])]);
        world.finish();
    }
}

#[test]
fn meta_context_abuse() {
    let (mut world, slot) = negotiating();
    let set = opt::SET_META_CONTEXT;
    let good = meta_data(b"vol0", &[b"base:allocation"]);
    assert_eq!(
        kinds(&mut world, slot, set, &good),
        [rep::ERR_INVALID],
        "too early"
    );
    kinds(&mut world, slot, opt::STRUCTURED_REPLY, &[]);
    let unknown = meta_data(b"vol0", &[b"acme:thing", b"base:alloc", b"base:"]);
    assert_eq!(kinds(&mut world, slot, set, &unknown), [rep::ACK]);

    let mut overrun = good.clone();
    overrun[15] = 200;
    let mut count = good.clone();
    count[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut trailing = good.clone();
    trailing.push(1);
    let nul = meta_data(b"vol0", &[b"base:\0llocation"]);
    for bad in [
        &overrun,
        &count,
        &trailing,
        &nul,
        &good[..10].to_vec(),
        &vec![],
    ] {
        for number in [set, opt::LIST_META_CONTEXT] {
            assert_eq!(kinds(&mut world, slot, number, bad), [rep::ERR_INVALID]);
        }
    }
    let nowhere = meta_data(b"vol9", &[b"base:allocation"]);
    assert_eq!(kinds(&mut world, slot, set, &nowhere), [rep::ERR_UNKNOWN]);
    let many = meta_data(b"vol0", &vec![b"acme:thing".as_slice(); 1000]);
    assert_eq!(kinds(&mut world, slot, set, &many), [rep::ERR_TOO_BIG]);
    assert_eq!(
        kinds(&mut world, slot, set, &good),
        [rep::META_CONTEXT, rep::ACK]
    );
    world.finish();
}

#[test]
fn bad_request_magic_disconnects() {
    let (mut world, slot) = opened(false, false);
    let mut bad = request(cmd::READ, 0, 1, 0, 512);
    bad[0] ^= 0x80;
    world.say(slot, &bad);
    let (verdict, bytes) = world.ended(slot);
    assert_eq!((verdict, bytes.len()), (Verdict::Abort, 0));
    world.finish();
}

#[test]
fn unknown_commands_and_flags_are_einval_and_fua_is_tolerated() {
    for structured in [false, true] {
        let (mut world, slot) = opened(structured, structured);
        for command in [8, 9, 100, 0x8000, 0xffff] {
            let ask = request(command, 0, 1, 0, 512);
            assert_eq!(error(&mut world, slot, &ask), EINVAL);
        }
        for command in [
            cmd::READ,
            cmd::FLUSH,
            cmd::TRIM,
            cmd::CACHE,
            cmd::WRITE_ZEROES,
            cmd::BLOCK_STATUS,
        ] {
            let len = if command == cmd::FLUSH { 0 } else { 512 };
            for bit in 0..16 {
                let flag = 1 << bit;
                let known = match command {
                    cmd::READ => structured && flag == cflag::DF,
                    cmd::WRITE_ZEROES => flag == cflag::NO_HOLE || flag == cflag::FAST_ZERO,
                    cmd::BLOCK_STATUS => flag == cflag::REQ_ONE,
                    _ => false,
                };
                if command == cmd::BLOCK_STATUS && !structured {
                    continue;
                }
                let ask = request(command, flag, 1, 0, len);
                world.say(slot, &ask);
                let read = [(1, 0, 512)];
                let reads = if command == cmd::READ { &read[..] } else { &[] };
                let got = replies(&world.received(slot), reads).remove(0);
                let good = known || flag == cflag::FUA;
                assert_eq!(
                    got.error,
                    if good { 0 } else { EINVAL },
                    "{command} {flag:#x}"
                );
            }
        }
        for bit in 1..16 {
            let bad = write(1 << bit, 1, 0, &[7; 512]);
            assert_eq!(error(&mut world, slot, &bad), EINVAL);
        }
        assert_eq!(world.engine.disk[0], 0, "refused writes left nothing");
        assert!(is_alive(&mut world, slot));
        world.finish();
    }
}

#[test]
fn ranges_beyond_the_end_or_around_the_world() {
    let (mut world, slot) = opened(true, true);
    let size = DISK as u64;
    for (offset, len) in [
        (size, 512),
        (size - 512, 1024),
        (u64::MAX - 511, 512),
        (u64::MAX - 511, 1024),
        (1 << 63, 512),
    ] {
        for command in [cmd::READ, cmd::TRIM, cmd::BLOCK_STATUS, cmd::CACHE] {
            let ask = request(command, 0, 1, offset, len);
            assert_eq!(error(&mut world, slot, &ask), EINVAL, "{command} {offset}");
        }
        let zeroes = request(cmd::WRITE_ZEROES, 0, 1, offset, len);
        assert_eq!(error(&mut world, slot, &zeroes), ENOSPC);
        let data = vec![7; len as usize];
        assert_eq!(error(&mut world, slot, &write(0, 1, offset, &data)), ENOSPC);
        assert!(is_alive(&mut world, slot), "the payload was drained");
    }
    let only_flushes = world.engine.seen.iter().all(|s| *s == Seen::Flush);
    assert!(only_flushes, "nothing of this reached the engine");
    world.finish();
}

#[test]
fn unaligned_requests_are_einval() {
    let mut world = World::new();
    let slot = open(&mut world, b"vol1", true, true);
    for (offset, len) in [(512, 4096), (0, 512), (1, 4095)] {
        for command in [cmd::READ, cmd::TRIM, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS] {
            let ask = request(command, 0, 1, offset, len);
            assert_eq!(error(&mut world, slot, &ask), EINVAL);
        }
        let data = vec![7; len as usize];
        assert_eq!(error(&mut world, slot, &write(0, 1, offset, &data)), EINVAL);
    }
    assert!(is_alive(&mut world, slot));
    world.finish();
}

#[test]
fn flush_with_an_offset_or_length_is_einval() {
    let (mut world, slot) = opened(false, false);
    for (offset, len) in [(512, 0), (0, 512)] {
        let ask = request(cmd::FLUSH, 0, 1, offset, len);
        assert_eq!(error(&mut world, slot, &ask), EINVAL);
    }
    world.finish();
}

#[test]
fn write_above_the_maximum() {
    // A pool of 8 MiB admits writes of 4 MiB.
    let mut world = World::with(1, 2048, super::mock::exports());
    world.serve(true);
    let slot = open(&mut world, b"", false, false);
    assert_eq!(world.server.max_block_size(), 4 << 20);
    let data = vec![7; 8 << 20];
    assert_eq!(
        error(&mut world, slot, &write(0, 1, 0, &data[..4 << 20])),
        0
    );
    assert_eq!(error(&mut world, slot, &write(0, 1, 0, &data)), EINVAL);
    assert!(is_alive(&mut world, slot));
    // Beyond any client's limit.
    let ask = request(cmd::WRITE, 0, 1, 0, (64 << 20) + 512);
    world.say(slot, &ask);
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn read_above_the_maximum_is_einval() {
    let size = 128 << 20;
    let export = crate::nbd::Export::new("big", "", 0, size, 512, true).expect("valid");
    let mut world = World::with(1, 2048, vec![export]);
    world.serve(true);
    let slot = open(&mut world, b"", true, false);
    let ask = request(cmd::READ, 0, 1, 0, (32 << 20) + 512);
    assert_eq!(error(&mut world, slot, &ask), EINVAL);
    assert!(is_alive(&mut world, slot));
    world.finish();
}

#[test]
fn trim_and_zeroes_of_almost_four_gib_are_cut_up() {
    let size = 8 << 30;
    let export = crate::nbd::Export::new("big", "", 0, size, 512, true).expect("valid");
    let mut world = World::with(1, 2048, vec![export]);
    world.serve(true);
    let slot = open(&mut world, b"", false, false);
    let most = u32::MAX - 511;
    for command in [cmd::TRIM, cmd::WRITE_ZEROES] {
        let ask = request(command, cflag::FUA, 1, 4096, most);
        assert_eq!(error(&mut world, slot, &ask), 0);
        let seen = core::mem::take(&mut world.engine.seen);
        let mut next = 4096;
        for op in &seen[..seen.len() - 1] {
            let (Seen::Discard(at, len, fua) | Seen::Zeroes(at, len, _, fua)) = *op else {
                panic!("{op:?}");
            };
            assert_eq!((at, fua), (next, false));
            next += u64::from(len);
        }
        assert_eq!(next, 4096 + u64::from(most));
        assert_eq!(seen.last(), Some(&Seen::Flush), "one flush for FUA");
        let ask = request(command, 0, 1, 4096, u32::MAX);
        assert_eq!(
            error(&mut world, slot, &ask),
            EINVAL,
            "not a multiple of 512"
        );
    }
    world.finish();
}

#[test]
fn zero_length_anything_does_not_disconnect() {
    for structured in [false, true] {
        let (mut world, slot) = opened(structured, structured);
        for (command, expected) in [
            (cmd::READ, 0),
            (cmd::WRITE, 0),
            (cmd::TRIM, 0),
            (cmd::CACHE, 0),
            (cmd::WRITE_ZEROES, 0),
            (cmd::BLOCK_STATUS, EINVAL),
        ] {
            for offset in [0, 4096, DISK as u64] {
                let ask = request(command, 0, 1, offset, 0);
                assert_eq!(error(&mut world, slot, &ask), expected, "{command}");
            }
        }
        assert!(is_alive(&mut world, slot));
        world.finish();
    }
}

/// A client that has sent eight writes and DISC to an engine that has `room` and does not answer.
fn writing_when_told_to_go(room: usize) -> (World, u16) {
    let (mut world, slot) = opened(false, false);
    world.engine.room = room;
    world.answering = false;
    for i in 0..8u64 {
        world
            .pipe(slot)
            .send(&write(0, i, i * 4096, &[i as u8 + 1; 4096]));
    }
    world.pipe(slot).send(&request(cmd::DISC, 0, 77, 0, 0));
    (world, slot)
}

#[test]
fn disc_finishes_writes_in_flight_then_closes() {
    let (mut world, slot) = writing_when_told_to_go(2);
    world.say(slot, b"this is never read");
    assert!(world.is_open(slot));
    world.answering = true;
    world.run();
    let (verdict, bytes) = world.ended(slot);
    assert_eq!(verdict, Verdict::Close);
    let mut cookies: Vec<_> = replies(&bytes, &[]).iter().map(|r| r.cookie).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, (0..8).collect::<Vec<_>>(), "no reply to DISC");
    for i in 0..8 {
        assert_eq!(world.engine.disk[i * 4096], i as u8 + 1);
    }
    world.finish();
}

#[test]
fn disc_and_hanging_up_at_once_still_finishes_the_writes() {
    let (mut world, slot) = writing_when_told_to_go(1);
    world.pipe(slot).closed = true;
    world.pipe(slot).window = 0;
    world.run();
    assert!(world.is_open(slot));
    world.answering = true;
    world.run();
    assert_eq!(world.ended(slot).0, Verdict::Close);
    for i in 0..8 {
        assert_eq!(world.engine.disk[i * 4096], i as u8 + 1);
    }
    world.finish();
}

#[test]
fn disconnect_in_mid_write_applies_nothing() {
    for cut in [29, 600, 300_000, 1_048_576 + 27] {
        let (mut world, slot) = opened(false, false);
        let whole = write(0, 1, 0, &vec![7; 1 << 20]);
        world.say(slot, &whole[..cut]);
        world.pipe(slot).closed = true;
        world.run();
        assert_eq!(world.ended(slot).0, Verdict::Close);
        assert_eq!(world.engine.seen, []);
        world.finish();
    }
}

#[test]
fn slow_loris_is_cut_off_after_the_handshake_limit() {
    let mut world = World::new();
    let slot = world.connect();
    world.run();
    world.received(slot);
    let hello = [vec![0, 0, 0, 3], option(opt::LIST, &[])].concat();
    for (second, byte) in hello.iter().cycle().take(9).enumerate() {
        world.pipe(slot).send(&[*byte]);
        world.pass(1_000_000);
        assert!(world.is_open(slot), "after {second} s");
    }
    world.pass(1_000_001);
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn an_idle_client_with_an_open_export_is_kept() {
    let (mut world, slot) = opened(false, false);
    assert_eq!(world.server.poll_timeout(), None);
    world.pass(3_600_000_000);
    assert!(is_alive(&mut world, slot));
    world.finish();
}

#[test]
fn hundreds_of_connections_do_not_starve_a_proper_client() {
    let mut world = World::new();
    let kept = open(&mut world, b"", false, false);
    for _ in 0..300 {
        world.now += 1000;
        let slot = world.connect();
        assert_ne!(slot, kept, "an open export is never evicted");
        world.run();
    }
    assert!(is_alive(&mut world, kept));
    // A proper client negotiates in the middle of the flood.
    let proper = world.connect();
    world.run();
    world.received(proper);
    world.say(proper, &[0, 0, 0, 3]);
    for _ in 0..100 {
        world.now += 1000;
        assert_ne!(world.connect(), proper, "silent connections go first");
        world.run();
    }
    world.say(proper, &option(opt::GO, &info_data(b"", &[])));
    world.received(proper);
    assert!(is_alive(&mut world, proper));
    world.finish();
}

#[test]
fn a_client_that_never_reads_replies_is_not_read_from() {
    let (mut world, slot) = opened(true, false);
    world.pipe(slot).window = 0;
    for i in 0..1000 {
        world.pipe(slot).send(&request(cmd::READ, 0, i, 0, 65536));
    }
    world.run();
    let held = world.engine.pool.total_bytes() - world.engine.pool.free_bytes();
    assert!(held <= 4 << 20, "{held} bytes held");
    assert!(
        world.pipe(slot).unread() >= 28 * (1000 - 64),
        "requests stay in TCP"
    );
    world.pipe(slot).window = usize::MAX;
    world.run();
    let expected: Vec<_> = (0..1000).map(|i| (i, 0, 65536)).collect();
    assert_eq!(replies(&world.received(slot), &expected).len(), 1000);
    world.finish();
}

#[test]
fn engine_errors_reach_the_client_as_eio() {
    for structured in [false, true] {
        let (mut world, slot) = opened(structured, false);
        world.engine.fault = Some((300_000, ClientError::Io));
        let read = request(cmd::READ, 0, 1, 299_520, 512);
        let read_2 = request(cmd::READ, 0, 1, 299_520, 1024);
        assert_eq!(error(&mut world, slot, &read_2), 5);
        assert_eq!(
            error(&mut world, slot, &write(0, 1, 0, &vec![1; 1 << 20])),
            5
        );
        world.engine.fault = Some((0, ClientError::Invalid));
        assert_eq!(
            error(&mut world, slot, &request(cmd::TRIM, 0, 1, 0, 512)),
            EINVAL
        );
        world.say(slot, &read);
        let reply = replies(&world.received(slot), &[(1, 299_520, 512)]).remove(0);
        assert_eq!((reply.error, reply.data.len()), (0, 512));
        world.finish();
    }
}
