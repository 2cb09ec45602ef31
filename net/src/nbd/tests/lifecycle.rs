//! Roles, limits, eviction, and answers that come too late.

use super::mock::World;
use super::wire::{begin, info_data, open, opened, option, replies, request, write};
use crate::nbd::proto::{cmd, opt};
use crate::nbd::{Phase, Verdict};
use alloc::vec;
use replication::api::ClientError;

#[test]
fn a_standby_withholds_the_greeting_until_it_serves() {
    let mut world = World::with(4, 4096, super::mock::exports());
    let slot = world.connect();
    world.pass(8_000_000);
    assert_eq!(world.received(slot), []);
    assert_eq!(
        world.server.sessions().next().map(|s| s.phase),
        Some(Phase::Withheld)
    );
    world.serve(true);
    begin(&mut world, slot);
    // The handshake limit counts from the greeting on.
    world.pass(9_000_000);
    world.say(slot, &option(opt::GO, &info_data(b"", &[])));
    assert_eq!(world.server.open_clients(), 1);
    world.finish();
}

#[test]
fn a_withheld_connection_is_reset_after_its_limit() {
    let mut world = World::with(4, 4096, super::mock::exports());
    let slot = world.connect();
    world.run();
    assert_eq!(world.server.poll_timeout(), Some(world.now + 30_000_000));
    world.pass(29_999_999);
    assert!(world.is_open(slot));
    world.pass(1);
    let (verdict, bytes) = world.ended(slot);
    assert_eq!((verdict, bytes.len()), (Verdict::Abort, 0));
    world.finish();
}

#[test]
fn a_withheld_client_that_leaves_is_forgotten() {
    let mut world = World::with(4, 4096, super::mock::exports());
    let slot = world.connect();
    world.pipe(slot).closed = true;
    world.run();
    assert_eq!(world.ended(slot).0, Verdict::Close);
    world.finish();
}

#[test]
fn losing_the_role_drops_everybody_without_answers() {
    let mut world = World::new();
    let busy = open(&mut world, b"", true, false);
    let young = world.connect();
    world.run();
    world.received(young);
    world.answering = false;
    world.pipe(busy).send(&request(cmd::READ, 0, 1, 0, 65536));
    world.pipe(busy).send(&write(0, 2, 0, &[7; 4096]));
    let partial = write(0, 3, 0, &vec![8; 1 << 20]);
    world.say(busy, &partial[..500_000]);
    world.serve(false);
    world.run();
    for slot in [busy, young] {
        let (verdict, bytes) = world.ended(slot);
        assert_eq!((verdict, bytes.len()), (Verdict::Abort, 0));
    }
    assert_eq!(world.server.open_clients(), 0);
    // The slots may be used again before the engine has answered.
    world.serve(true);
    let next = open(&mut world, b"", true, false);
    assert_eq!(next, busy);
    world.answering = true;
    world.run();
    assert_eq!(world.received(next), [], "late answers are nobody's");
    world.say(next, &request(cmd::READ, 0, 1, 0, 512));
    let reply = replies(&world.received(next), &[(1, 0, 512)]).remove(0);
    assert_eq!(
        reply.data,
        vec![7; 512],
        "the whole write was applied, the partial one not"
    );
    world.finish();
}

#[test]
fn serving_again_at_once_does_not_revive_a_dropped_client() {
    let (mut world, slot) = opened(true, false);
    world.serve(false);
    world.serve(true);
    world.run();
    let (verdict, bytes) = world.ended(slot);
    assert_eq!((verdict, bytes.len()), (Verdict::Abort, 0));
    world.finish();
}

#[test]
fn not_serving_from_the_engine_drops_the_client_without_an_answer() {
    let mut world = World::new();
    for ask in [
        request(cmd::READ, 0, 1, 0, 4096),
        write(0, 1, 0, &[1; 4096]),
    ] {
        let slot = open(&mut world, b"", false, false);
        world.engine.fault = Some((0, ClientError::NotServing));
        world.say(slot, &ask);
        let (verdict, bytes) = world.ended(slot);
        assert_eq!((verdict, bytes.len()), (Verdict::Abort, 0));
    }
    world.finish();
}

#[test]
fn what_a_dead_session_had_not_submitted_is_never_submitted() {
    let (mut world, slot) = opened(false, false);
    world.answering = false;
    world.engine.room = 2;
    for i in 0..6u64 {
        world.pipe(slot).send(&write(0, i, i * 4096, &[7; 4096]));
    }
    world.run();
    world.pipe(slot).closed = true;
    world.run();
    assert_eq!(world.ended(slot).0, Verdict::Close);
    world.answering = true;
    world.run();
    assert_eq!(world.engine.seen.len(), 2);
    world.finish();
}

#[test]
fn eviction_takes_silent_old_handshakes_and_never_open_exports() {
    let mut world = World::new();
    let open_slot = open(&mut world, b"", false, false);
    let talking = world.connect();
    begin(&mut world, talking);
    world.run();
    world.now += 1;
    let silent = world.connect();
    world.now += 1;
    let younger = world.connect();
    world.run();
    world.now += 2_000_000;
    let next = world.try_connect().expect("a slot");
    assert!(next.evicted);
    assert_eq!(next.slot, silent, "the oldest silent one");
    world.run();
    assert_eq!(world.connect(), younger);
    world.now += 2_000_000;
    world.run();
    for slot in [talking, silent, younger] {
        world.pipe(slot).send(&[0, 0, 0, 3]);
        if slot == talking {
            continue;
        }
        world
            .pipe(slot)
            .send(&option(opt::GO, &info_data(b"", &[])));
    }
    world.run();
    assert_eq!(world.server.open_clients(), 3);
    assert_eq!(world.connect(), talking, "the only one that may go");
    begin(&mut world, talking);
    world.say(talking, &option(opt::GO, &info_data(b"", &[])));
    assert_eq!(world.try_connect(), None, "every slot has an export open");
    assert!(world.is_open(open_slot));
    world.finish();
}

#[test]
fn a_stalled_payload_is_given_up_after_its_limit() {
    let (mut world, slot) = opened(false, false);
    let whole = write(0, 1, 0, &vec![7; 1 << 20]);
    world.say(slot, &whole[..100_000]);
    assert_eq!(world.server.poll_timeout(), Some(world.now + 30_000_000));
    world.pass(29_000_000);
    world.say(slot, &whole[100_000..200_000]);
    world.pass(29_000_000);
    // A trickle is no progress.
    world.pipe(slot).send(&whole[200_000..200_010]);
    world.pass(1_000_000);
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn a_node_that_stood_still_gives_its_clients_their_time_again() {
    let (mut world, slot) = opened(false, false);
    let whole = write(0, 1, 0, &vec![7; 1 << 20]);
    world.say(slot, &whole[..100_000]);
    world.pass(300_000_000);
    assert!(world.is_open(slot));
    world.say(slot, &whole[100_000..]);
    assert_eq!(replies(&world.received(slot), &[])[0].error, 0);
    world.finish();
}

#[test]
fn a_standby_that_stood_still_keeps_its_withheld_clients() {
    let mut world = World::with(4, 4096, super::mock::exports());
    let slot = world.connect();
    world.pass(300_000_000);
    world.serve(true);
    begin(&mut world, slot);
    world.finish();
}

#[test]
fn a_client_that_says_goodbye_and_takes_no_answers_is_given_up() {
    let (mut world, slot) = opened(true, false);
    world.pipe(slot).window = 10;
    world.pipe(slot).send(&request(cmd::READ, 0, 1, 0, 65536));
    world.say(slot, &request(cmd::DISC, 0, 2, 0, 0));
    assert!(world.is_open(slot));
    world.pass(30_000_000);
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn a_late_answer_is_not_taken_for_the_next_client_s() {
    let mut world = World::new();
    world.engine.disk[..512].fill(1);
    world.engine.disk[512..1024].fill(2);
    world.answering = false;
    let slot = open(&mut world, b"", true, false);
    world.say(slot, &request(cmd::READ, 0, 1, 0, 512));
    world.server.hang_up(slot, &mut world.engine.pool);
    assert_eq!(open(&mut world, b"", true, false), slot);
    world.say(slot, &request(cmd::READ, 0, 1, 512, 512));
    assert_eq!(world.engine.queue.len(), 2);
    world.answer();
    world.run();
    assert_eq!(world.received(slot), []);
    world.answer();
    world.run();
    let reply = replies(&world.received(slot), &[(1, 512, 512)]).remove(0);
    assert_eq!(reply.data, [2; 512]);
    world.finish();
}
