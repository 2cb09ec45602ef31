//! What requests do when all is well, and how replies look.

use super::mock::{DISK, Seen, World};
use super::wire::{open, opened, replies, request, write};
use crate::nbd::proto::{cflag, cmd};
use crate::nbd::{Phase, Verdict};
use alloc::vec;
use alloc::vec::Vec;
use replication::api::ClientError;

/// Bytes that tell where they belong.
fn pattern(offset: usize, len: usize) -> Vec<u8> {
    (offset..offset + len)
        .map(|i| (i ^ i >> 8 ^ i >> 16) as u8)
        .collect()
}

#[test]
fn what_is_written_is_read_in_every_layout() {
    for (structured, flags) in [(false, 0), (true, 0), (true, cflag::DF)] {
        let (mut world, slot) = opened(structured, false);
        for (cookie, (offset, len)) in [
            (0, 512),
            (512, 4096),
            (4096, 131_072),
            (65_536, 1 << 20),
            (3 << 20, 5 << 20),
        ]
        .into_iter()
        .enumerate()
        {
            let cookie = cookie as u64;
            let data = pattern(offset, len);
            world.say(slot, &write(0, cookie, offset as u64, &data));
            assert_eq!(replies(&world.received(slot), &[])[0].error, 0);
            let ask = request(cmd::READ, flags, cookie, offset as u64, len as u32);
            world.say(slot, &ask);
            let wanted = [(cookie, offset as u64, len as u32)];
            let reply = replies(&world.received(slot), &wanted).remove(0);
            assert_eq!((reply.cookie, reply.error), (cookie, 0));
            assert!(reply.data == data, "wrong data at {offset}");
            match (structured, flags) {
                (false, _) => assert_eq!(reply.chunks, 0),
                (true, cflag::DF) => assert_eq!(reply.chunks, 1),
                _ => assert_eq!(reply.chunks, len.div_ceil(131_072)),
            }
        }
        world.finish();
    }
}

#[test]
fn chunks_leave_as_they_complete() {
    let (mut world, slot) = opened(true, false);
    world.engine.disk = pattern(0, DISK);
    world.answering = false;
    world.say(slot, &request(cmd::READ, 0, 1, 0, 512 << 10));
    assert_eq!(world.engine.queue.len(), 4);
    let mut sent = Vec::new();
    for index in [3, 0, 1, 0] {
        world.answer_at(index);
        world.run();
        let more = world.received(slot);
        assert!(more.len() > 128 << 10, "not held back");
        sent.extend(more);
    }
    let reply = replies(&sent, &[(1, 0, 512 << 10)]).remove(0);
    assert!(reply.chunks == 4 && reply.data == world.engine.disk[..512 << 10]);
    world.finish();
}

#[test]
fn ordered_replies_wait_for_their_next_part_and_let_none_between() {
    for (structured, flags) in [(false, 0), (true, cflag::DF)] {
        let (mut world, slot) = opened(structured, false);
        world.engine.disk = pattern(0, DISK);
        world.answering = false;
        world
            .pipe(slot)
            .send(&request(cmd::READ, flags, 1, 0, 384 << 10));
        world.say(slot, &request(cmd::READ, flags, 2, 4096, 512));
        // Queue: parts 0, 1, 2 of the first, then the second.
        world.answer_at(2);
        world.run();
        assert_eq!(world.received(slot), []);
        world.answer_at(0);
        world.run();
        let mut sent = world.received(slot);
        world.answer_at(1);
        world.run();
        assert_eq!(world.received(slot), [], "the second must not cut in");
        world.answer_at(0);
        world.run();
        sent.extend(world.received(slot));
        let all = replies(&sent, &[(1, 0, 384 << 10), (2, 4096, 512)]);
        assert_eq!(all.iter().map(|r| r.cookie).collect::<Vec<_>>(), [1, 2]);
        assert!(all[0].data == world.engine.disk[..384 << 10]);
        assert!(all[1].data == world.engine.disk[4096..4608]);
        world.finish();
    }
}

#[test]
fn a_late_error_in_a_simple_reply_ends_the_connection() {
    let (mut world, slot) = opened(false, false);
    world.answering = false;
    world.engine.fault = Some((256 << 10, ClientError::Io));
    world.say(slot, &request(cmd::READ, 0, 1, 0, 512 << 10));
    world.answer();
    world.run();
    assert!(!world.received(slot).is_empty(), "the reply has begun");
    world.answering = true;
    world.run();
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn an_early_error_in_a_simple_reply_is_an_error_reply() {
    let (mut world, slot) = opened(false, false);
    world.answering = false;
    world.engine.fault = Some((256 << 10, ClientError::Io));
    world.say(slot, &request(cmd::READ, 0, 1, 0, 512 << 10));
    world.answer_at(2);
    world.answering = true;
    world.run();
    let reply = replies(&world.received(slot), &[]).remove(0);
    assert_eq!((reply.error, reply.data.len()), (5, 0));
    world.finish();
}

#[test]
fn an_error_in_chunks_tells_its_place() {
    let (mut world, slot) = opened(true, false);
    world.engine.fault = Some((256 << 10, ClientError::Io));
    world.say(slot, &request(cmd::READ, 0, 1, 0, 512 << 10));
    let reply = replies(&world.received(slot), &[(1, 0, 512 << 10)]).remove(0);
    assert_eq!((reply.error, reply.error_at), (5, Some(256 << 10)));
    world.finish();
}

#[test]
fn an_error_in_one_chunk_is_padded_and_told_behind_it() {
    let (mut world, slot) = opened(true, false);
    world.answering = false;
    world.engine.disk = pattern(0, DISK);
    world.engine.fault = Some((256 << 10, ClientError::Io));
    world.say(slot, &request(cmd::READ, cflag::DF, 1, 0, 512 << 10));
    world.answer();
    world.run();
    let mut sent = world.received(slot);
    assert!(sent.len() > 128 << 10);
    world.answering = true;
    world.run();
    sent.extend(world.received(slot));
    let reply = replies(&sent, &[(1, 0, 512 << 10)]).remove(0);
    assert_eq!((reply.error, reply.error_at), (5, Some(256 << 10)));
    assert_eq!((reply.chunks, reply.data.len()), (1, 512 << 10));
    assert!(reply.data[..128 << 10] == world.engine.disk[..128 << 10]);
    world.finish();
}

#[test]
fn fua_is_a_flag_on_one_piece_and_a_flush_behind_several() {
    let (mut world, slot) = opened(false, false);
    world.pipe(slot).send(&write(cflag::FUA, 1, 0, &[1; 4096]));
    world.run();
    assert_eq!(world.engine.seen, [Seen::Write(0, 4096, true)]);
    world.engine.seen.clear();
    world
        .pipe(slot)
        .send(&write(cflag::FUA, 2, 0, &[2; 256 << 10]));
    world.run();
    let half = 128 << 10;
    let writes = [
        Seen::Write(0, half, false),
        Seen::Write(u64::from(half), half, false),
    ];
    assert_eq!(world.engine.seen[..2], writes);
    assert_eq!(world.engine.seen[2..], [Seen::Flush]);
    assert_eq!(replies(&world.received(slot), &[]).len(), 2);
    world.finish();
}

#[test]
fn the_flush_of_a_fua_write_waits_for_all_its_pieces() {
    let (mut world, slot) = opened(false, false);
    world.answering = false;
    world
        .pipe(slot)
        .send(&write(cflag::FUA, 2, 0, &[2; 384 << 10]));
    world.run();
    assert_eq!(world.engine.queue.len(), 3);
    for left in [2, 1] {
        world.answer_at(left);
        world.run();
        assert_eq!(world.engine.queue.len(), left);
    }
    world.answer();
    world.run();
    assert_eq!(world.engine.queue.len(), 1, "now the flush");
    assert_eq!(world.received(slot), []);
    world.answer();
    world.run();
    assert_eq!(replies(&world.received(slot), &[])[0].error, 0);
    world.finish();
}

#[test]
fn trim_and_zeroes_carry_their_flags() {
    let (mut world, slot) = opened(true, false);
    let ops = [
        (cmd::TRIM, 0, Seen::Discard(4096, 8192, false)),
        (cmd::TRIM, cflag::FUA, Seen::Discard(4096, 8192, true)),
        (cmd::WRITE_ZEROES, 0, Seen::Zeroes(4096, 8192, true, false)),
        (
            cmd::WRITE_ZEROES,
            cflag::NO_HOLE,
            Seen::Zeroes(4096, 8192, false, false),
        ),
        (
            cmd::WRITE_ZEROES,
            cflag::FUA | cflag::FAST_ZERO,
            Seen::Zeroes(4096, 8192, true, true),
        ),
    ];
    for (command, flags, expected) in ops {
        world.engine.seen.clear();
        world.say(slot, &request(command, flags, 1, 4096, 8192));
        assert_eq!(replies(&world.received(slot), &[])[0].error, 0);
        assert_eq!(world.engine.seen, [expected]);
    }
    world.finish();
}

#[test]
fn a_fast_zero_that_would_be_slow_is_refused() {
    let mut world = World::new();
    let slot = open(&mut world, b"vol1", true, false);
    let ask = request(cmd::WRITE_ZEROES, cflag::FAST_ZERO, 1, 0, 4096);
    world.say(slot, &ask);
    assert_eq!(replies(&world.received(slot), &[])[0].error, 95);
    assert_eq!(world.engine.seen, []);
    world.finish();
}

#[test]
fn cache_and_block_status_do_not_trouble_the_engine() {
    let (mut world, slot) = opened(true, true);
    world.pipe(slot).send(&request(cmd::CACHE, 0, 1, 0, 65536));
    let status = request(cmd::BLOCK_STATUS, cflag::REQ_ONE, 2, 512, 1 << 20);
    world.say(slot, &status);
    let all = replies(&world.received(slot), &[]);
    assert_eq!((all[0].cookie, all[0].error), (1, 0));
    assert_eq!((all[1].error, &all[1].extents), (0, &vec![(1 << 20, 0)]));
    assert_eq!(world.engine.seen, []);
    world.finish();
}

#[test]
fn sixty_four_requests_are_in_flight_at_once() {
    let (mut world, slot) = opened(true, false);
    world.answering = false;
    for i in 0..100 {
        world
            .pipe(slot)
            .send(&request(cmd::READ, 0, i, i * 512, 512));
    }
    world.run();
    assert_eq!(world.engine.queue.len(), 64);
    world.answering = true;
    world.run();
    let wanted: Vec<_> = (0..100).map(|i| (i, i * 512, 512)).collect();
    assert_eq!(replies(&world.received(slot), &wanted).len(), 100);
    world.finish();
}

#[test]
fn two_exports_go_to_their_volumes_and_are_counted() {
    let mut world = World::new();
    let first = open(&mut world, b"vol0", false, false);
    let second = open(&mut world, b"vol1", false, false);
    world.answering = false;
    world.pipe(first).send(&write(0, 1, 0, &[1; 512]));
    world.say(second, &request(cmd::READ, 0, 1, 4096, 4096));
    let volumes: Vec<_> = world.engine.queue.iter().map(|r| r.volume).collect();
    assert_eq!(volumes, [0, 1]);
    world.answering = true;
    world.run();
    let seen: Vec<_> = world.server.sessions().collect();
    assert!(
        seen.iter()
            .all(|s| s.phase == Phase::Transmission && s.requests == 1)
    );
    assert_eq!(
        (seen[0].export, seen[0].written_bytes, seen[0].read_bytes),
        ("vol0", 512, 0)
    );
    assert_eq!(
        (seen[1].export, seen[1].written_bytes, seen[1].read_bytes),
        ("vol1", 0, 4096)
    );
    assert_eq!(world.server.open_clients(), 2);
    world.finish();
}
