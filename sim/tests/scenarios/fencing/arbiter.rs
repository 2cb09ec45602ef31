//! The arbiter is down, slow, restarted, or has lost what it knew.

use super::*;
use replication::api::{OnTimeout, Party};

/// Only the arbiter can be asked.
const ALONE: [bool; 3] = [false, false, true];

fn is_arbiters(message: &Message) -> bool {
    matches!(message, Message::Answer(_, Party::Arbiter, _))
}

#[test]
fn s30_the_arbiter_is_down_or_restarts_at_each_step() {
    each_seed(&fenced(16, 1), |world| {
        world.cut_management(ALONE);
        // Before it is asked.
        world.stop_arbiter(true);
        world.block_network(true, true);
        let waits = world.write(0, 0, BLOCK, false).expect("room");
        wait_alone(world, 0);
        world.run_for(DECIDED);
        assert!(
            is_frozen(world, 0) && world.open(waits),
            "nobody has decided"
        );
        world.stop_arbiter(false);
        // When it has stored the grant and not answered.
        world.hold_back(Some(is_arbiters));
        let granted = |w: &mut World| w.holder().is_some();
        world.wait("the grant", granted).expect("it is asked on");
        world.stop_arbiter(true);
        world.lose_held();
        world.run_for(DECIDED);
        assert!(
            is_frozen(world, 0) && world.open(waits),
            "no word of a grant"
        );
        world.hold_back(None);
        world.stop_arbiter(false);
        let first = wait_held(world, 0);
        world.wait_answers().expect("the fence is held");
        assert_eq!(world.holders(), [Some((0, first))]);
        // Before it is told of the end.
        world.stop_arbiter(true);
        meet(world);
        world.wait_in_sync().expect("in sync");
        assert_eq!(wait_releasing(world, 0), first);
        world.run_for(DECIDED);
        assert_eq!(world.fencing_record(0).own, Own::Releasing(first));
        write(world, 0, 2);
        // A loss meanwhile waits for it again.
        world.block_network(true, true);
        let waits = world.write(0, 0, BLOCK, false).expect("room");
        wait_alone(world, 0);
        world.run_for(DECIDED);
        assert!(
            is_frozen(world, 0) && world.open(waits),
            "nobody has decided"
        );
        world.stop_arbiter(false);
        let second = wait_held(world, 0);
        assert!(second > first);
        world.wait_answers().expect("the fence is held");
        assert_eq!(world.holder(), Some((0, second)));
        // When it has stored the end and not answered.
        world.hold_back(Some(is_arbiters));
        meet(world);
        let told = |w: &mut World| w.holder().is_none();
        world.wait("the end", told).expect("it is told");
        world.stop_arbiter(true);
        world.lose_held();
        world.run_for(DECIDED);
        world.hold_back(None);
        world.stop_arbiter(false);
        world.cut_management([false; 3]);
        wait_over(world);
    });
}

#[test]
fn s30_a_slow_arbiter_answers_a_standby_after_its_primary_is_back() {
    each_seed(&fenced(16, 1), |world| {
        world.cut_management([true, false, true]);
        world.block_network(true, true);
        wait_alone(world, 1);
        world.hold_back(Some(is_arbiters));
        world.order(1, PROMOTE);
        let granted = |w: &mut World| w.holder().is_some();
        world.wait("the grant", granted).expect("it is asked");
        meet(world);
        world
            .wait("the link", |w| {
                w.connection(1) == Some(ConnectionState::Connected)
            })
            .expect("connected");
        world.hold_back(None);
        world.deliver_held();
        world.run_for(DECIDED);
        assert_eq!(world.role(1), Some(Role::Secondary), "beside its Primary");
        assert_eq!(world.role(0), Some(Role::Primary));
        world.cut_management([false; 3]);
        write(world, 0, 2);
        wait_over(world);
    });
}

#[test]
fn s30_a_blank_arbiter_cannot_undo_what_the_peer_remembers() {
    each_seed(&fenced(16, 1), |world| {
        let episode = part(world);
        let both = |w: &mut World| {
            let by = w.fencing_record(0).own;
            matches!(by, Own::Held(_, by) if by.peer && by.arbiter)
        };
        world.wait("both grants", both).expect("it asks on");
        world.blank_arbiter();
        write(world, 0, 4);
        refused(world, 1);
        world.power_cut(1);
        world.run_for(10_000);
        world.boot(1);
        world.run_for(DECIDED);
        refused(world, 1);
        assert_eq!(held(world, 0), Some(episode));
        meet(world);
        wait_over(world);
    });
}

#[test]
fn s30_nobody_answers_and_the_policy_is_to_step_down() {
    let mut plan = fenced(16, 1);
    plan.fencing.on_timeout = OnTimeout::StepDown;
    each_seed(&plan, |world| {
        world.cut_management([true; 3]);
        world.block_network(true, true);
        let waits = world.write(0, 0, BLOCK, false).expect("room");
        wait_alone(world, 0);
        assert!(is_frozen(world, 0) && world.open(waits));
        let down = |w: &mut World| w.role(0) == Some(Role::Secondary);
        world.wait("it steps down", down).expect("its time is over");
        assert_eq!(held(world, 0), None);
        // Neither knows whether the other has gone on.
        (0..2).for_each(|n| refused(world, n));
        world.cut_management([false; 3]);
        world.command(1, PROMOTE).expect("somebody answers");
        world.write(1, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("it serves");
        meet(world);
        wait_over(world);
    });
}

#[test]
fn s30_the_operator_thaws_a_primary_that_nobody_answers() {
    each_seed(&fenced(16, 1), |world| {
        world.cut_management([true; 3]);
        world.block_network(true, true);
        let waits = world.write(0, 0, BLOCK, false).expect("room");
        wait_alone(world, 0);
        world.run_for(DECIDED);
        assert!(is_frozen(world, 0) && world.open(waits));
        world
            .command(0, Command::ResumeIo)
            .expect("the operator's word");
        world.wait_answers().expect("thawed");
        world.cut_management([false; 3]);
        wait_held(world, 0);
        refused(world, 1);
        meet(world);
        wait_over(world);
    });
}
