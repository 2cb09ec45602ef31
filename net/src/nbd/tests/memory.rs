//! The bounds: payload memory, fairness, slow readers.

use super::mock::{Pipe, World};
use super::wire::{open, replies, request, write};
use crate::nbd::proto::cmd;
use crate::nbd::{Export, Verdict};
use crate::stream::ByteStream;
use alloc::vec;
use alloc::vec::Vec;
use replication::buf::PAGE;

const MIB: u32 = 1 << 20;

fn export(size: u64) -> Vec<Export> {
    vec![Export::new("vol0", "", 0, size, 512, true).expect("valid")]
}

/// A client that sends a long write as fast as it is taken, without keeping it in memory.
struct Flood {
    header: Vec<u8>,
    left: usize,
    fill: u8,
    /// Bytes that TCP holds at once.
    burst: usize,
    pipe: Pipe,
}

impl ByteStream for Flood {
    fn readable(&self) -> usize {
        if self.header.is_empty() {
            self.left.min(self.burst)
        } else {
            self.header.len()
        }
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.readable());
        if self.header.is_empty() {
            out[..n].fill(self.fill);
            self.left -= n;
            self.burst -= n;
        } else {
            out[..n].copy_from_slice(&self.header[..n]);
            self.header.drain(..n);
        }
        n
    }
    fn at_end(&self) -> bool {
        false
    }
    fn writable(&self) -> usize {
        self.pipe.writable()
    }
    fn write(&mut self, data: &[u8]) -> usize {
        self.pipe.write(data)
    }
}

#[test]
fn sixteen_writes_of_32_mib_complete_in_a_pool_of_40_mib() {
    let mut world = World::with(16, 40 * MIB / PAGE, export(64 << 20));
    world.engine.disk = vec![0; 33 << 20];
    world.engine.room = 256;
    world.serve(true);
    let slots: Vec<u16> = (0..16)
        .map(|_| open(&mut world, b"", false, false))
        .collect();
    let mut floods: Vec<Flood> = slots
        .iter()
        .map(|&slot| Flood {
            header: request(cmd::WRITE, 0, u64::from(slot), 0, 32 * MIB),
            left: 32 << 20,
            fill: slot as u8 + 1,
            burst: 0,
            pipe: Pipe::new(),
        })
        .collect();
    let mut answered = [false; 16];
    let mut turns = 0u32;
    while answered.contains(&false) {
        turns += 1;
        assert!(turns < 100_000, "stuck");
        for (slot, flood) in floods.iter_mut().enumerate() {
            flood.burst = (flood.burst + 65536).min(262_144);
            if world.server.wants_poll(slot as u16, world.now, flood) {
                let verdict = world
                    .server
                    .poll(slot as u16, world.now, flood, &mut world.engine);
                assert_eq!(verdict, Verdict::Continue);
            }
            if !flood.pipe.outbound.is_empty() {
                let reply = replies(&flood.pipe.outbound, &[]).remove(0);
                assert_eq!((reply.cookie, reply.error), (slot as u64, 0));
                answered[slot] = true;
            }
        }
        for _ in 0..8 {
            world.answer();
        }
        world.now += 1000;
    }
    assert!(world.engine.in_memory_most <= u64::from(35 * MIB));
    let first = world.engine.disk[0];
    assert!(
        world.engine.disk[..32 << 20]
            .iter()
            .step_by(509)
            .all(|&b| b == first)
    );
    world.finish();
}

#[test]
fn a_large_write_is_not_starved_by_small_ones() {
    // 4 MiB of pool: at most 2 MiB a write, 3.5 MiB for all.
    let mut world = World::with(3, 1024, export(8 << 20));
    world.serve(true);
    let (small, large) = (
        open(&mut world, b"", false, false),
        open(&mut world, b"", false, false),
    );
    world.answering = false;
    for i in 0..28 {
        world.pipe(small).send(&write(0, i, 0, &vec![1; 128 << 10]));
    }
    world.run();
    world
        .pipe(large)
        .send(&write(0, 77, 4 << 20, &vec![2; 2 << 20]));
    world.run();
    let mut more = 0;
    let mut sent = Vec::new();
    while sent.is_empty() {
        more += 1;
        // 16 pieces make room for it, 12 are before its own 16.
        assert!(more <= 16 + 12 + 16, "starved");
        world
            .pipe(small)
            .send(&write(0, 100 + more, 0, &vec![1; 128 << 10]));
        world.answer();
        world.turn();
        while world.turn() {}
        sent = world.received(large);
    }
    world.answering = true;
    world.run();
    world.finish();
}

#[test]
fn a_stalled_write_does_not_starve_others() {
    let mut world = World::with(3, 1024, export(8 << 20));
    world.serve(true);
    let stalled = open(&mut world, b"", false, false);
    let other = open(&mut world, b"", false, false);
    let whole = write(0, 1, 0, &vec![1; 2 << 20]);
    world.say(stalled, &whole[..1000]);
    world.pipe(other).send(&write(0, 2, 0, &vec![2; 2 << 20]));
    world.run();
    assert_eq!(world.received(other), []);
    // Whoever holds the memory gets 5 s as long as others wait.
    for _ in 0..500 {
        world.pass(10_000);
    }
    assert_eq!(world.ended(stalled).0, Verdict::Abort);
    assert_eq!(replies(&world.received(other), &[])[0].error, 0);
    world.finish();
}

#[test]
fn a_waiting_write_asks_again_when_others_free_memory_silently() {
    let mut world = World::with(3, 1024, export(8 << 20));
    world.serve(true);
    let slot = open(&mut world, b"", false, false);
    let mut resync = Vec::new();
    while let Some(buf) = world.engine.pool.alloc(128 << 10) {
        resync.push(buf);
    }
    world.pipe(slot).send(&write(0, 1, 0, &[1; 4096]));
    world.say(slot, &request(cmd::READ, 0, 2, 0, 4096));
    assert_eq!(world.received(slot), []);
    for buf in resync {
        world.engine.pool.free(buf);
    }
    let at = world.server.poll_timeout().expect("a time to ask again");
    world.pass(at - world.now);
    assert_eq!(replies(&world.received(slot), &[(2, 0, 4096)]).len(), 2);
    world.finish();
}

#[test]
fn slow_readers_are_bounded_and_do_not_hold_up_others() {
    let mut world = World::with(8, 10 * MIB / PAGE, export(8 << 20));
    world.serve(true);
    let slow: Vec<u16> = (0..6).map(|_| open(&mut world, b"", true, false)).collect();
    for &slot in &slow {
        world.pipe(slot).window = 100;
        for i in 0..17 {
            world.pipe(slot).send(&request(cmd::READ, 0, i, 0, 4 * MIB));
        }
    }
    world.run();
    let held = world.engine.pool.total_bytes() - world.engine.pool.free_bytes();
    assert!(held <= u64::from(2 * MIB), "{held} bytes held by replies");
    let fast = open(&mut world, b"", true, false);
    world.pipe(fast).send(&request(cmd::READ, 0, 1, 0, 4 * MIB));
    world.pipe(fast).send(&write(0, 2, 0, &vec![1; 4 << 20]));
    world.run();
    let wanted = [(1, 0, 4 * MIB)];
    assert_eq!(replies(&world.received(fast), &wanted).len(), 2);
    // Slowly is not never.
    let slot = slow[0];
    let mut got = Vec::new();
    for _ in 0..800 {
        world.pipe(slot).window = 100_000;
        world.run();
        got.extend(world.received(slot));
    }
    assert!(got.len() > 64 << 20);
    world.finish();
}

#[test]
fn a_reader_that_stands_still_is_dropped_when_others_need_its_memory() {
    let mut world = World::with(3, 1024, export(8 << 20));
    world.serve(true);
    let slow = open(&mut world, b"", true, false);
    world.pipe(slow).window = 0;
    for i in 0..8 {
        world.pipe(slow).send(&request(cmd::READ, 0, i, 0, MIB));
    }
    world.run();
    world.pass(3_600_000_000);
    assert!(world.is_open(slow), "nobody needs it");
    // Somebody else holds so much that a write has to wait.
    let mut others = Vec::new();
    while let Some(buf) = world.engine.pool.alloc(4096) {
        others.push(buf);
    }
    let writer = open(&mut world, b"", false, false);
    world.pipe(writer).send(&write(0, 1, 0, &[1; 4096]));
    world.run();
    // The first look comes an hour late, as after a pause; then the limit counts.
    for _ in 0..3100 {
        world.pass(10_000);
    }
    assert_eq!(world.ended(slow).0, Verdict::Abort);
    for buf in others {
        world.engine.pool.free(buf);
    }
    world.pass(10_000);
    assert_eq!(replies(&world.received(writer), &[])[0].error, 0);
    world.finish();
}

#[test]
fn a_fragmented_pool_serves_in_small_pieces() {
    let mut world = World::new();
    let slots = [
        open(&mut world, b"", false, false),
        open(&mut world, b"", true, false),
    ];
    let mut pages: Vec<_> = (0..4096)
        .filter_map(|_| world.engine.pool.alloc(1))
        .collect();
    let mut kept = Vec::new();
    while let Some(page) = pages.pop() {
        world.engine.pool.free(page);
        kept.extend(pages.pop());
    }
    let data: Vec<u8> = (0..1_050_112).map(|i| (i / 512 + i) as u8).collect();
    for slot in slots {
        world.engine.seen.clear();
        world.say(slot, &write(1, 1, 4096, &data));
        assert_eq!(replies(&world.received(slot), &[])[0].error, 0);
        // 256 pages, one block, and the flush that FUA becomes.
        assert_eq!(world.engine.seen.len(), 258);
        let len = data.len() as u32;
        world.say(slot, &request(cmd::READ, 0, 2, 4096, len));
        let reply = replies(&world.received(slot), &[(2, 4096, len)]).remove(0);
        assert!(reply.error == 0 && reply.data == data);
    }
    for page in kept {
        world.engine.pool.free(page);
    }
    world.finish();
}

#[test]
fn a_session_costs_little_fixed_memory() {
    use super::super::session::Session;
    let fixed = size_of::<Session>() + Session::new(0).heap_bytes();
    assert!(fixed <= 20 << 10, "{fixed} bytes");
}

#[test]
fn a_full_engine_is_shared_in_turns() {
    let mut world = World::new();
    world.engine.room = 4;
    let greedy = open(&mut world, b"", true, false);
    let others = [
        open(&mut world, b"", true, false),
        open(&mut world, b"", true, false),
    ];
    world.answering = false;
    for i in 0..64 {
        world.pipe(greedy).send(&write(0, i, 0, &[1; 16 << 10]));
    }
    world.run();
    for slot in others {
        for i in 0..8 {
            world.pipe(slot).send(&request(cmd::READ, 0, i, 0, 512));
        }
    }
    world.run();
    let wanted: Vec<_> = (0..8).map(|i| (i, 0, 512)).collect();
    let mut done = [false; 2];
    let mut answers = 0;
    while done != [true; 2] {
        answers += 1;
        // Two turns of the greedy one, one of each other, and what was in the engine before.
        assert!(answers <= 4 + 16 + 16 + 4, "starved");
        world.answer();
        while world.turn() {}
        for (slot, done) in others.iter().zip(&mut done) {
            let pipe = world.pipe(*slot);
            *done = pipe.outbound.len() > 8 * 512 && replies(&pipe.outbound, &wanted).len() == 8;
        }
    }
    world.answering = true;
    world.run();
    assert_eq!(replies(&world.received(greedy), &[]).len(), 64);
    world.finish();
}

#[test]
fn a_dead_session_keeps_nobody_waiting() {
    // In the queue for memory, and in the queue for the engine.
    let mut world = World::with(3, 1024, export(8 << 20));
    world.serve(true);
    world.engine.room = 16;
    let slots = [(); 3].map(|()| open(&mut world, b"", false, false));
    world.answering = false;
    for i in 0..2 {
        let data = vec![1; 3 << 19];
        world.pipe(slots[0]).send(&write(0, i, 0, &data));
    }
    world.run();
    world
        .pipe(slots[1])
        .send(&write(0, 1, 0, &vec![2; 2 << 20]));
    world.run();
    world.pipe(slots[2]).send(&request(cmd::FLUSH, 0, 2, 0, 0));
    world.pipe(slots[2]).send(&write(0, 3, 0, &[3; 4096]));
    world.run();
    world.pipe(slots[1]).closed = true;
    world.server.hang_up(slots[1], &mut world.engine.pool);
    world.pipes[usize::from(slots[1])] = None;
    world.server.hang_up(slots[0], &mut world.engine.pool);
    world.pipes[usize::from(slots[0])] = None;
    world.answering = true;
    world.run();
    assert_eq!(replies(&world.received(slots[2]), &[]).len(), 2);
    world.finish();
}
