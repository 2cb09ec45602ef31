//! What is exported of a resync's target: on connections of its own, read-only, and only while it is there.

use super::mock::{DISK, Seen, World, exports};
use super::wire::{begin, info_data, option, option_replies, replies, request, write};
use crate::nbd::proto::{cmd, info, opt, rep};
use crate::nbd::{Export, ExportError, Verdict};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use replication::api::ClientError;

const NAME: &[u8] = b"vol1@before-resync";

/// A standby with snapshots of both volumes exported, none of them there.
fn standby() -> World {
    let mut world = World::with(4, 4096, exports());
    let old = exports();
    let old = old.iter().map(Export::before_resync);
    world
        .server
        .export_snapshots(old.collect::<Result<_, _>>().expect("short names"));
    world
}

fn offer(world: &mut World, volume: u16, offered: bool) {
    let now = world.now;
    world
        .server
        .offer_snapshot(now, volume, offered, &mut world.engine.pool);
    world.run();
}

/// A connection that has been greeted.
fn negotiating(world: &mut World) -> u16 {
    let peer: SocketAddr = super::mock::PEER.parse().expect("an address");
    let accepted = world
        .server
        .accept_snapshots(world.now, peer, &mut world.engine.pool);
    let slot = accepted.expect("a slot").slot;
    world.pipes[usize::from(slot)] = Some(super::mock::Pipe::new());
    begin(world, slot);
    slot
}

fn ask(world: &mut World, slot: u16, number: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
    world.say(slot, &option(number, data));
    let answers = option_replies(&world.received(slot));
    answers
        .into_iter()
        .map(|(_, kind, data)| (kind, data))
        .collect()
}

fn open(world: &mut World) -> u16 {
    let slot = negotiating(world);
    let answers = ask(world, slot, opt::GO, &info_data(NAME, &[info::BLOCK_SIZE]));
    assert_eq!(answers.last(), Some(&(rep::ACK, vec![])));
    slot
}

fn listed(world: &mut World, slot: u16) -> Vec<Vec<u8>> {
    let mut answers = ask(world, slot, opt::LIST, &[]);
    assert_eq!(answers.pop(), Some((rep::ACK, vec![])));
    let name = |(kind, data): (u32, Vec<u8>)| {
        assert_eq!(kind, rep::SERVER);
        data[4..].to_vec()
    };
    answers.into_iter().map(name).collect()
}

#[test]
fn is_listed_and_had_only_while_it_is_there() {
    let mut world = standby();
    let slot = negotiating(&mut world);
    assert_eq!(listed(&mut world, slot), [] as [Vec<u8>; 0]);
    for name in [NAME, b"", b"vol1"] {
        let answers = ask(&mut world, slot, opt::GO, &info_data(name, &[]));
        assert_eq!(answers[0].0, rep::ERR_UNKNOWN, "{name:?}");
    }
    offer(&mut world, 1, true);
    assert_eq!(listed(&mut world, slot), [NAME.to_vec()]);
    // The volumes themselves are not to be had here, whoever serves them.
    world.serve(true);
    let answers = ask(&mut world, slot, opt::INFO, &info_data(b"vol1", &[]));
    assert_eq!(answers[0].0, rep::ERR_UNKNOWN);
    // Without a name it is the first one that is there. 1 HAS_FLAGS, 2 READ_ONLY, 0x100 CAN_MULTI_CONN, 0x400 CACHE.
    let answers = ask(&mut world, slot, opt::GO, &info_data(b"", &[info::NAME]));
    let size_and_flags = [&[0, 0][..], &(DISK as u64).to_be_bytes(), &[5, 3]].concat();
    assert_eq!(answers[0], (rep::INFO, size_and_flags));
    assert!(answers.contains(&(rep::INFO, [b"\0\x01", NAME].concat())));
    assert_eq!(world.export_name().as_bytes(), NAME);
    // It is nobody's reason to keep this node Primary.
    assert_eq!(world.server.open_clients(), 0);
    world.finish();
}

#[test]
fn is_no_part_of_what_a_primary_lists() {
    let mut world = standby();
    offer(&mut world, 0, true);
    offer(&mut world, 1, true);
    world.serve(true);
    let slot = world.connect();
    begin(&mut world, slot);
    assert_eq!(
        listed(&mut world, slot),
        [b"vol0".to_vec(), b"vol1".to_vec()]
    );
    let answers = ask(&mut world, slot, opt::GO, &info_data(NAME, &[]));
    assert_eq!(answers[0].0, rep::ERR_UNKNOWN);
    world.finish();
}

#[test]
fn reads_give_the_old_content_and_nothing_can_be_changed() {
    let mut world = standby();
    offer(&mut world, 1, true);
    let slot = open(&mut world);
    world.engine.disk[4096..8192].fill(0x0f);
    let ask = request(cmd::READ, 0, 1, 4096, 4096);
    world.say(slot, &ask);
    let reply = replies(&world.received(slot), &[(1, 4096, 4096)]).remove(0);
    assert_eq!((reply.error, reply.data), (0, vec![0xf0; 4096]));
    assert_eq!(world.engine.seen, [Seen::Old(4096, 4096)]);
    let before = world.engine.disk.clone();
    // EPERM, and with a payload that is taken off the stream; EINVAL for a flush, which was not offered.
    for (bytes, error) in [
        (write(0, 2, 0, &[7; 4096]), 1),
        (request(cmd::TRIM, 0, 2, 0, 4096), 1),
        (request(cmd::WRITE_ZEROES, 0, 2, 0, 4096), 1),
        (request(cmd::FLUSH, 0, 2, 0, 0), 22),
    ] {
        world.say(slot, &bytes);
        assert_eq!(replies(&world.received(slot), &[])[0].error, error);
    }
    world.say(slot, &request(cmd::CACHE, 0, 3, 0, 4096));
    assert_eq!(replies(&world.received(slot), &[])[0].error, 0);
    assert_eq!(world.engine.disk, before);
    assert_eq!(world.engine.seen.len(), 1, "{:?}", world.engine.seen);
    world.finish();
}

#[test]
fn who_reads_it_is_dropped_when_it_goes() {
    let mut world = standby();
    offer(&mut world, 0, true);
    offer(&mut world, 1, true);
    let (reader, haggling) = (open(&mut world), negotiating(&mut world));
    world.answering = false;
    world.say(reader, &request(cmd::READ, 0, 1, 0, 65536));
    // That of another volume is nobody's business.
    offer(&mut world, 0, false);
    assert!(world.is_open(reader));
    offer(&mut world, 1, false);
    let (verdict, bytes) = world.ended(reader);
    assert_eq!((verdict, bytes.len()), (Verdict::Abort, 0));
    // Who has not chosen yet learns that there is nothing.
    assert!(world.is_open(haggling));
    assert_eq!(listed(&mut world, haggling), [] as [Vec<u8>; 0]);
    // What the engine answers of before is nobody's.
    world.answering = true;
    offer(&mut world, 1, true);
    let next = open(&mut world);
    assert_eq!(next, reader, "the slot is used again");
    world.run();
    assert_eq!(world.received(next), []);
    world.finish();
}

#[test]
fn the_role_changes_nothing_for_who_reads_it() {
    let mut world = standby();
    offer(&mut world, 1, true);
    let slot = open(&mut world);
    for serving in [true, false] {
        world.serve(serving);
        world.run();
        world.say(slot, &request(cmd::READ, 0, 1, 0, 4096));
        let reply = replies(&world.received(slot), &[(1, 0, 4096)]).remove(0);
        assert_eq!(reply.error, 0);
    }
    // The engine does not have it any more, whatever it said before.
    world.engine.fault = Some((0, ClientError::NotServing));
    world.say(slot, &request(cmd::READ, 0, 1, 0, 4096));
    assert_eq!(world.ended(slot), (Verdict::Abort, vec![]));
    world.finish();
}

#[test]
fn a_name_that_would_be_too_long_is_refused() {
    let volume = |len| {
        let name = "v".repeat(len);
        Export::new(&name, "", 0, 4096, 512, false).expect("valid")
    };
    let old = Export::before_resync(&volume(18)).expect("it fits");
    assert_eq!(old.name().len(), 32);
    let error = Export::before_resync(&volume(19)).err();
    assert_eq!(error, Some(ExportError::Name));
}
