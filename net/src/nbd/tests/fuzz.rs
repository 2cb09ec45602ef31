//! Delivery in arbitrary pieces changes nothing; garbage breaks nothing and leaks nothing.

use super::mock::{DISK, World};
use super::wire::{info_data, meta_data, option, request, write};
use crate::nbd::proto::{cmd, info, opt};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use replication::api::ClientError;

/// A whole conversation of a well-behaved client, blind to the answers.
fn conversation(structured: bool, requests: &[(u16, u16, u64, u32)]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 3];
    out.extend(option(opt::LIST, &[]));
    if structured {
        out.extend(option(opt::STRUCTURED_REPLY, &[]));
        let contexts = meta_data(b"", &[b"base:allocation"]);
        out.extend(option(opt::SET_META_CONTEXT, &contexts));
    }
    out.extend(option(0x99, &[1; 100]));
    out.extend(option(
        opt::GO,
        &info_data(b"", &[info::NAME, info::BLOCK_SIZE]),
    ));
    for (cookie, &(command, flags, offset, len)) in requests.iter().enumerate() {
        if command == cmd::WRITE {
            let data: Vec<u8> = (0..len).map(|i| (i as usize + cookie) as u8).collect();
            out.extend(write(flags, cookie as u64, offset, &data));
        } else {
            out.extend(request(command, flags, cookie as u64, offset, len));
        }
    }
    out.extend(request(cmd::DISC, 0, 0, 0, 0));
    out
}

/// Requests to disjoint ranges (or beyond the end), so that their order does not matter.
fn requests() -> impl Strategy<Value = Vec<(u16, u16, u64, u32)>> {
    let one = (0u16..9, 0u16..4, 0u64..424, 0u32..600);
    prop::collection::vec(one, 0..12).prop_map(|requests| {
        let place = |(i, (command, flags, at, len)): (usize, (u16, u16, u64, u32))| {
            let own = (i as u64 * 1024 + at) * 512;
            let beyond = DISK as u64 - at * 512;
            match command {
                cmd::FLUSH => (command, flags, 0, 0),
                cmd::DISC => (cmd::WRITE, flags, beyond, len * 512),
                _ => (command, flags, own, len * 512),
            }
        };
        requests.into_iter().enumerate().map(place).collect()
    })
}

/// The server's bytes, and the disk afterwards, when `bytes` come in pieces of `pieces`, and it
/// may send in pieces of `windows`.
fn converse(bytes: &[u8], pieces: &[usize], windows: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let mut world = World::new();
    for (i, block) in world.engine.disk.chunks_mut(512).enumerate() {
        block.fill(i as u8);
    }
    let slot = world.connect();
    world.pipe(slot).send_later(bytes);
    let mut turn = 0;
    while world.is_open(slot) {
        assert!(turn < 10_000_000, "never ends");
        let piece = pieces[turn % pieces.len()];
        let pipe = world.pipe(slot);
        pipe.delivered = (pipe.delivered + piece).min(bytes.len());
        pipe.window = windows[turn % windows.len()];
        turn += 1;
        world.run();
    }
    let (_, sent) = world.ended(slot);
    let disk = core::mem::take(&mut world.engine.disk);
    world.finish();
    (sent, disk)
}

/// Replies may come in another order, but every byte of them comes.
fn tally(bytes: &[u8]) -> (usize, u64) {
    let sum = bytes.iter().map(|&b| u64::from(b)).sum();
    (bytes.len(), sum)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn delivery_in_pieces_gives_the_same(
        structured: bool,
        requests in requests(),
        pieces in prop::collection::vec(1usize..5000, 1..8),
        windows in prop::collection::vec(1usize..5000, 1..8),
    ) {
        let bytes = conversation(structured, &requests);
        let whole = converse(&bytes, &[usize::MAX / 2], &[usize::MAX]);
        let cut = converse(&bytes, &pieces, &windows);
        prop_assert_eq!(tally(&whole.0), tally(&cut.0));
        prop_assert!(whole.1 == cut.1, "the disks differ");
    }

    #[test]
    fn garbage_breaks_nothing(
        garbage in prop::collection::vec(any::<u8>(), 0..600),
        prefix in 0usize..400,
        structured: bool,
        closed: bool,
    ) {
        let mut bytes = conversation(structured, &[(1, 0, 0, 4096), (0, 0, 0, 262_144)]);
        bytes.truncate(prefix);
        bytes.extend(garbage);
        let mut world = World::new();
        let slot = world.connect();
        world.say(slot, &bytes);
        if world.is_open(slot) {
            world.pipe(slot).closed = closed;
            world.run();
        }
        world.finish();
    }

    #[test]
    fn one_flipped_byte_breaks_nothing(at in 0usize..5000, flip in 1u8..=255, structured: bool) {
        let mut bytes = conversation(structured, &[(1, 1, 0, 4096), (0, 0, 0, 262_144), (6, 2, 512, 512)]);
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let mut world = World::new();
        let slot = world.connect();
        world.say(slot, &bytes);
        world.finish();
    }

    /// Several clients, an engine that answers in any order and fails here and there, clients
    /// that vanish, roles that change: the books balance at the end.
    #[test]
    fn storms_leak_nothing(
        steps in prop::collection::vec((0u8..12, any::<u16>(), requests()), 1..60),
        fault in prop::option::of((0..DISK as u64, 0..3)),
    ) {
        let mut world = World::new();
        world.answering = false;
        world.engine.fault = fault.map(|(at, kind)| (at, match kind {
            0 => ClientError::Io,
            1 => ClientError::Invalid,
            _ => ClientError::NotServing,
        }));
        for (kind, number, requests) in steps {
            let slot = number % 4;
            let open = world.is_open(slot);
            match kind {
                0 => { world.try_connect(); }
                1 | 2 if open => {
                    let bytes = conversation(number & 4 != 0, &requests);
                    let keep = bytes.len() - 28;
                    world.pipe(slot).send(&bytes[..keep]);
                }
                3 if open => world.pipe(slot).closed = true,
                4 if open => world.pipe(slot).window = usize::from(number),
                5 if open => world.pipe(slot).window = usize::MAX,
                6 => world.serve(number & 8 == 0),
                7 => world.now += 1_000_000,
                8..=10 => for _ in 0..number % 40 {
                    if world.engine.queue.is_empty() { break; }
                    let index = usize::from(number) % world.engine.queue.len();
                    world.answer_at(index);
                },
                _ => {}
            }
            while world.turn() {}
        }
        world.finish();
    }
}
