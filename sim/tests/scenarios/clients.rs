//! Clients, their connections and slow peers.

use super::*;

#[test]
fn s11_new_write_races_an_abandoned_connection() {
    each_seed(&Plan::scripted(16), |world| {
        for round in 0..40 {
            let block = round % 4;
            world
                .write(0, block * BLOCK, 2 * BLOCK, false)
                .expect("room");
            world.run_for(round as u64 * 13 % 300);
            world.reset_client(0);
            // The same client again, at once: its new write must win.
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
            world.wait_answers().expect("answers");
            world.read(0, block * BLOCK, 2 * BLOCK).expect("room");
            world.wait_answers().expect("answers");
        }
    });
}

#[test]
fn s13_late_acknowledgements_of_an_old_connection() {
    each_seed(&loaded(64), |world| {
        for round in 0..12 {
            world.run_for(20_000);
            world.tear_link([round % 3 != 0, round % 3 != 1]);
            world.run_for(100_000);
        }
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn s19_slow_peer_costs_time_not_errors() {
    each_seed(&Plan::scripted(32), |world| {
        world.slow_disk(1, 5_000_000);
        for block in 0..32 {
            world
                .write(0, block * BLOCK, BLOCK, block % 3 == 0)
                .expect("room");
        }
        world.wait_answers().expect("every write is answered");
    });
}

#[test]
fn s33_stalled_write_of_a_dead_connection() {
    each_seed(&Plan::scripted(8), |world| {
        for _ in 0..10 {
            // The peer's disk stalls; the client gives up, reconnects, writes again.
            world.slow_disk(1, 200_000);
            world.write(0, 0, BLOCK, false).expect("room");
            world.run_for(300);
            world.reset_client(0);
            world.write(0, 0, BLOCK, true).expect("room");
            world.wait_answers().expect("answers");
            let written = world.sector(0, 0);
            world.run_for(1_000_000);
            assert_eq!(world.sector(0, 0), written, "the stalled write came back");
            assert_eq!(
                world.sector(1, 0),
                written,
                "the stalled write came back on the peer"
            );
        }
    });
}

#[test]
fn link_loss_under_load() {
    each_seed(&loaded(64), |world| {
        for _ in 0..3 {
            world.run_for(150_000);
            world.block_network(true, true);
            world.run_for(1_000_000);
            assert_eq!(world.role(0), Some(Role::Primary));
            world.block_network(false, false);
            world.wait_in_sync().expect("in sync again");
        }
    });
}

#[test]
fn s19_a_hung_peer_costs_its_redundancy_not_the_clients_patience() {
    each_seed(&Plan::scripted(32), |world| {
        world.hang_disk(1, 20_000_000);
        for block in 0..8 {
            world
                .write(0, block * BLOCK, BLOCK, block % 3 == 0)
                .expect("room");
        }
        world.wait_answers().expect("every write is answered");
        assert!(
            world.now < 10_000_000,
            "a peer that answers nothing is given up"
        );
    });
}

#[test]
fn s24_a_discard_of_everything_while_the_peer_times_out() {
    each_seed(&Plan::scripted(128), |world| {
        for block in 0..16 {
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
        }
        world.wait_answers().expect("answers");
        world.block_network(true, true);
        world.discard(0, 0, 128 * BLOCK).expect("room");
        world.zero(0, 8 * BLOCK, 100 * BLOCK).expect("room");
        world.write(0, 127 * BLOCK, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        world.block_network(false, false);
        world.wait_in_sync().expect("in sync");
    });
}
