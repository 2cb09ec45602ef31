//! Roles, limits, eviction, and answers that come too late.

use super::mock::World;
use super::wire::{
    begin, info_data, open, opened, option, option_replies, replies, request, write,
};
use crate::nbd::proto::{IHAVEOPT, NBDMAGIC, cmd, opt, rep};
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

/// The greeting of a node that has only to say why it does not serve, answered by the client.
fn greeted_to_refuse(world: &mut World, slot: u16) {
    let mut greeting = NBDMAGIC.to_be_bytes().to_vec();
    greeting.extend(IHAVEOPT.to_be_bytes());
    greeting.extend([0, 1]);
    world.run();
    assert_eq!(world.received(slot), greeting);
    world.say(slot, &[0, 0, 0, 1]);
}

const WHY: &str = "node b is not Primary";

#[test]
fn clients_that_are_refused_are_told_why_and_may_list_and_leave() {
    let mut world = World::with(4, 4096, super::mock::exports());
    let (slot, young) = (world.connect(), world.connect());
    world.run();
    assert_eq!(world.server.waiting_clients(), 2);
    world.engine.not_serving = Some(WHY);
    world.server.refuse_waiting();
    assert_eq!(world.server.waiting_clients(), 0);
    greeted_to_refuse(&mut world, slot);
    greeted_to_refuse(&mut world, young);
    for number in [opt::INFO, opt::GO] {
        world.say(slot, &option(number, &info_data(b"", &[])));
        let refusal = (number, rep::ERR_POLICY, WHY.as_bytes().to_vec());
        assert_eq!(option_replies(&world.received(slot)), [refusal]);
    }
    world.say(slot, &option(opt::LIST, &[]));
    let last = option_replies(&world.received(slot)).pop();
    assert_eq!(last, Some((opt::LIST, rep::ACK, vec![])));
    world.say(slot, &option(opt::ABORT, &[]));
    assert_eq!(world.ended(slot).0, Verdict::Close);
    world.say(young, &option(opt::EXPORT_NAME, b""));
    let (verdict, bytes) = world.ended(young);
    assert_eq!((verdict, bytes.len()), (Verdict::Close, 0));
    // The next one waits as they did.
    let next = world.connect();
    world.run();
    assert_eq!(
        (world.received(next), world.server.waiting_clients()),
        (vec![], 1)
    );
    world.finish();
}

#[test]
fn a_wait_that_is_over_ends_with_the_reason_if_there_is_one() {
    let mut world = World::with(4, 4096, super::mock::exports());
    world.engine.not_serving = Some(WHY);
    let slot = world.connect();
    world.pass(29_999_999);
    assert_eq!(world.received(slot), []);
    world.pass(1);
    greeted_to_refuse(&mut world, slot);
    world.pass(9_000_000);
    world.say(slot, &option(opt::GO, &info_data(b"", &[])));
    let replies = option_replies(&world.received(slot));
    assert_eq!(replies[0].1, rep::ERR_POLICY);
    // It does not hold its slot for ever either.
    world.pass(1_000_000);
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}

#[test]
fn who_was_refused_and_still_asks_is_served_once_the_node_serves() {
    let mut world = World::with(4, 4096, super::mock::exports());
    world.engine.not_serving = Some(WHY);
    let slot = world.connect();
    world.server.refuse_waiting();
    greeted_to_refuse(&mut world, slot);
    world.serve(true);
    world.say(slot, &option(opt::GO, &info_data(b"", &[])));
    let last = option_replies(&world.received(slot)).pop().unwrap();
    assert_eq!((last.0, last.1), (opt::GO, rep::ACK));
    assert_eq!(world.server.open_clients(), 1);
    // And dropped like all others when it stops.
    world.serve(false);
    world.run();
    assert_eq!(world.ended(slot).0, Verdict::Abort);
    world.finish();
}
