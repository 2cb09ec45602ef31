//! What waits while clients are frozen.

use super::*;

#[test]
fn s22_a_frozen_primary_connects_again_although_its_resync_waited_for_clients_writes() {
    each_seed(&fenced(256, 1), |world| {
        write(world, 0, 256);
        world.cut_management([true; 3]);
        // A resync without a fence.
        let give_up = Command::InvalidateRemote { volume: 0 };
        world.command(0, give_up).expect("both agree");
        let before = world.frames_of_resync();
        let runs = |w: &mut World| w.frames_of_resync() > before;
        world.wait("the resync", runs).expect("it runs");
        // What it has yet to read clients change; of that nothing arrives any more, but the peer answers what came before.
        world.block_network(true, false);
        for part in 0..16 {
            let first = part * 16 * BLOCK;
            world.write(0, first, 16 * BLOCK, false).expect("room");
        }
        wait_alone(world, 0);
        assert!(is_frozen(world, 0));
        meet(world);
        // Nobody decides anything but the two themselves.
        world.wait_answers().expect("the peer is back");
        assert_eq!(held(world, 0), None);
        world.cut_management([false; 3]);
        wait_over(world);
    });
}
