//! Every option of the negotiation.

use super::mock::{DISK, World};
use super::wire::{
    begin, info_data, meta_data, negotiating, open, option, option_replies, replies, request,
};
use crate::nbd::proto::{cmd, info, opt, rep};
use crate::nbd::{Phase, Verdict};
use alloc::vec;
use alloc::vec::Vec;

/// Flags of the exports without and with structured replies: 1 HAS_FLAGS, 4 FLUSH, 8 FUA,
/// 0x20 TRIM, 0x40 WRITE_ZEROES, 0x80 DF, 0x100 CAN_MULTI_CONN, 0x400 CACHE, 0x800 FAST_ZERO.
const FLAGS: [u8; 2] = [0x0d, 0x6d];
const FLAGS_DF: [u8; 2] = [0x0d, 0xed];

/// Sends one option and returns the answers.
fn ask(world: &mut World, slot: u16, number: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
    world.say(slot, &option(number, data));
    let bytes = world.received(slot);
    let strip = |(option, kind, data)| {
        assert_eq!(option, number);
        (kind, data)
    };
    option_replies(&bytes).into_iter().map(strip).collect()
}

fn size_and(flags: [u8; 2]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend((DISK as u64).to_be_bytes());
    out.extend(flags);
    out
}

#[test]
fn export_name_with_and_without_zeroes() {
    for (flags, zeroes) in [(1u8, 124), (3, 0)] {
        let mut world = World::new();
        let slot = world.connect();
        world.run();
        world.received(slot);
        world.pipe(slot).send(&[0, 0, 0, flags]);
        world.say(slot, &option(opt::EXPORT_NAME, b"vol1"));
        let answer = world.received(slot);
        assert_eq!(answer[..10], size_and(FLAGS)[2..]);
        assert_eq!(answer[10..], vec![0; zeroes]);
        assert_eq!(world.export_name(), "vol1");
        world.say(slot, &request(cmd::FLUSH, 0, 5, 0, 0));
        assert_eq!(replies(&world.received(slot), &[])[0].error, 0);
        world.finish();
    }
}

#[test]
fn an_old_client_without_fixed_newstyle_gets_its_export() {
    let mut world = World::new();
    let slot = world.connect();
    world.run();
    world.received(slot);
    world.pipe(slot).send(&[0; 4]);
    world.say(slot, &option(opt::EXPORT_NAME, b""));
    assert_eq!(world.received(slot).len(), 134);
    assert_eq!(world.export_name(), "vol0", "the default export");
    world.finish();
}

#[test]
fn list_names_every_export() {
    let (mut world, slot) = negotiating();
    let answers = ask(&mut world, slot, opt::LIST, &[]);
    let entry = |n: u8| (rep::SERVER, vec![0, 0, 0, 4, b'v', b'o', b'l', n]);
    assert_eq!(answers, [entry(b'0'), entry(b'1'), (rep::ACK, vec![])]);
    world.finish();
}

#[test]
fn a_list_longer_than_any_buffer_is_complete() {
    let export = |i: usize| {
        let name = alloc::format!("a-rather-long-volume-name-{i:05}");
        crate::nbd::Export::new(&name, "", i as u16, 4096, 512, false).expect("valid")
    };
    let mut world = World::with(1, 4096, (0..300).map(export).collect());
    world.serve(true);
    let slot = world.connect();
    begin(&mut world, slot);
    let answers = ask(&mut world, slot, opt::LIST, &[]);
    assert_eq!(answers.len(), 301);
    assert!(answers[299].1.ends_with(b"00299"));
    world.finish();
}

#[test]
fn info_gives_all_information_and_goes_on_negotiating() {
    let (mut world, slot) = negotiating();
    let wanted = [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE, 77];
    let answers = ask(&mut world, slot, opt::INFO, &info_data(b"", &wanted));
    let sizes = [[0, 3, 0, 0], [2, 0, 0, 0], [16, 0, 0, 0x80], [0, 0, 0, 0]].concat();
    let sizes = &sizes[..14];
    assert_eq!(answers[0], (rep::INFO, size_and(FLAGS)));
    // A pool of 16 MiB admits writes of 8 MiB.
    assert_eq!(answers[1], (rep::INFO, sizes.to_vec()));
    assert_eq!(answers[2], (rep::INFO, b"\0\x01vol0".to_vec()));
    assert_eq!(answers[3], (rep::INFO, b"\0\x02the first".to_vec()));
    assert_eq!(answers[4], (rep::ACK, vec![]));
    assert_eq!(world.server.open_clients(), 0);
    let answers = ask(&mut world, slot, opt::GO, &info_data(b"vol1", &[]));
    assert_eq!(answers.last(), Some(&(rep::ACK, vec![])));
    assert_eq!(world.server.open_clients(), 1);
    world.finish();
}

#[test]
fn a_block_size_that_no_client_would_assume_is_told_unasked() {
    let mut world = World::with(1, 10240, super::mock::exports());
    world.serve(true);
    assert_eq!(world.server.max_block_size(), 32 << 20);
    let slot = world.connect();
    begin(&mut world, slot);
    assert_eq!(
        ask(&mut world, slot, opt::INFO, &info_data(b"vol0", &[])).len(),
        2
    );
    let answers = ask(&mut world, slot, opt::INFO, &info_data(b"vol1", &[]));
    let sizes = vec![0, 3, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 2, 0, 0, 0];
    assert_eq!(answers[1], (rep::INFO, sizes));
    world.finish();
}

#[test]
fn df_is_offered_with_structured_replies_only() {
    let (mut world, slot) = negotiating();
    let ack = [(rep::ACK, vec![])];
    assert_eq!(ask(&mut world, slot, opt::STRUCTURED_REPLY, &[]), ack);
    assert_eq!(
        ask(&mut world, slot, opt::STRUCTURED_REPLY, &[]),
        ack,
        "twice is harmless"
    );
    let answers = ask(&mut world, slot, opt::GO, &info_data(b"vol0", &[]));
    assert_eq!(answers[0], (rep::INFO, size_and(FLAGS_DF)));
    world.finish();
}

#[test]
fn abort_is_acknowledged_and_closes() {
    let (mut world, slot) = negotiating();
    world.say(slot, &option(opt::ABORT, &[]));
    let (verdict, bytes) = world.ended(slot);
    assert_eq!(verdict, Verdict::Close);
    assert_eq!(option_replies(&bytes), [(opt::ABORT, rep::ACK, vec![])]);
    world.finish();
}

#[test]
fn starttls_and_extended_headers_are_unsupported() {
    let (mut world, slot) = negotiating();
    for number in [opt::STARTTLS, 11, 4, 0, u32::MAX] {
        assert_eq!(
            ask(&mut world, slot, number, &[]),
            [(rep::ERR_UNSUP, vec![])]
        );
    }
    assert_eq!(
        ask(&mut world, slot, opt::LIST, &[]).len(),
        3,
        "still in step"
    );
    world.finish();
}

#[test]
fn meta_contexts_are_listed() {
    let (mut world, slot) = negotiating();
    let context = (rep::META_CONTEXT, b"\0\0\0\0base:allocation".to_vec());
    let ack = (rep::ACK, vec![]);
    let mut list = |queries: &[&[u8]]| {
        ask(
            &mut world,
            slot,
            opt::LIST_META_CONTEXT,
            &meta_data(b"vol0", queries),
        )
    };
    assert_eq!(list(&[]), [context.clone(), ack.clone()]);
    assert_eq!(list(&[b"base:"]), [context.clone(), ack.clone()]);
    let twice: [&[u8]; 2] = [b"base:allocation", b"base:allocation"];
    assert_eq!(list(&twice), [context, ack.clone()]);
    assert_eq!(list(&[b"qemu:"]), [ack]);
    world.finish();
}

#[test]
fn a_chosen_context_counts_for_its_export_only() {
    let status = |world: &mut World, slot: u16| {
        let ask = request(cmd::BLOCK_STATUS, 8, 1, 4096, 8192);
        world.say(slot, &ask);
        replies(&world.received(slot), &[]).remove(0)
    };
    let mut world = World::new();
    let slot = open(&mut world, b"vol0", true, true);
    let reply = status(&mut world, slot);
    assert_eq!((reply.error, reply.extents), (0, vec![(8192, 0)]));

    let slot = open(&mut world, b"vol0", true, false);
    assert_eq!(status(&mut world, slot).error, 22, "not chosen");

    // Chosen for another export, and chosen and then unchosen.
    for (name, queries) in [
        (b"vol1", &[b"base:allocation".as_slice()][..]),
        (b"vol0", &[]),
    ] {
        let slot = world.connect();
        begin(&mut world, slot);
        ask(&mut world, slot, opt::STRUCTURED_REPLY, &[]);
        let first = meta_data(b"vol0", &[b"base:allocation"]);
        let answers = ask(&mut world, slot, opt::SET_META_CONTEXT, &first);
        assert_eq!(
            answers[0],
            (rep::META_CONTEXT, b"\0\0\0\x01base:allocation".to_vec())
        );
        ask(
            &mut world,
            slot,
            opt::SET_META_CONTEXT,
            &meta_data(name, queries),
        );
        ask(&mut world, slot, opt::GO, &info_data(b"vol0", &[]));
        assert_eq!(status(&mut world, slot).error, 22);
        world.pipe(slot).closed = true;
        world.run();
    }
    world.finish();
}

#[test]
fn the_default_export_and_its_name_are_one() {
    let (mut world, slot) = negotiating();
    ask(&mut world, slot, opt::STRUCTURED_REPLY, &[]);
    let data = meta_data(b"", &[b"base:allocation"]);
    ask(&mut world, slot, opt::SET_META_CONTEXT, &data);
    ask(&mut world, slot, opt::GO, &info_data(b"vol0", &[]));
    world.say(slot, &request(cmd::BLOCK_STATUS, 0, 1, 0, 512));
    assert_eq!(replies(&world.received(slot), &[])[0].extents, [(512, 0)]);
    let status = world.server.sessions().next().expect("a session");
    assert_eq!((status.phase, status.export), (Phase::Transmission, "vol0"));
    assert_eq!((status.requests, status.peer.port()), (1, 40000));
    world.finish();
}
