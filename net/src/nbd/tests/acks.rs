//! When acknowledgements may wait for replies.

use super::mock::World;
use super::wire::{opened, request, write};
use crate::nbd::proto::cmd;
use crate::nbd::session::PROMPT_TURNS;

fn delays(world: &mut World, slot: u16) -> bool {
    world.pipe(slot).ack_delay.is_some()
}

#[test]
fn acknowledgements_wait_between_requests() {
    let (mut world, slot) = opened(false, false);
    world.say(slot, &request(cmd::READ, 0, 1, 0, 4096));
    assert!(delays(&mut world, slot));
    world.answering = false;
    world.say(slot, &write(0, 2, 0, &[7; 4096]));
    assert!(delays(&mut world, slot), "the reply is still to come");
    world.answering = true;
    world.finish();
}

#[test]
fn before_an_export_is_open_they_do_not_wait() {
    let mut world = World::new();
    let slot = world.connect();
    world.run();
    assert!(!delays(&mut world, slot));
    world.finish();
}

#[test]
fn whoever_sends_requests_in_pieces_is_acknowledged_at_once() {
    let (mut world, slot) = opened(false, false);
    let piecemeal = write(0, 1, 0, &[7; 4096]);
    // Within the header, at the start of the payload, and within it.
    for cut in [5, 28, 1000] {
        for _ in 0..PROMPT_TURNS {
            world.say(slot, &request(cmd::READ, 0, 1, 0, 512));
        }
        assert!(delays(&mut world, slot), "it had been given up in between");
        world.say(slot, &piecemeal[..cut]);
        assert!(!delays(&mut world, slot), "cut after {cut} bytes");
        world.say(slot, &piecemeal[cut..]);
        assert!(!delays(&mut world, slot), "the next will be in pieces too");
    }
    world.finish();
}

#[test]
fn the_next_connection_of_the_slot_begins_anew() {
    let (mut world, slot) = opened(false, false);
    world.say(slot, &write(0, 1, 0, &[7; 4096])[..28]);
    assert!(!delays(&mut world, slot));
    world.server.hang_up(slot, &mut world.engine.pool);
    world.pipes[usize::from(slot)] = None;
    let again = super::wire::open(&mut world, b"", false, false);
    assert_eq!(again, slot);
    world.say(slot, &request(cmd::READ, 0, 1, 0, 512));
    assert!(delays(&mut world, slot));
    world.finish();
}
