//! Volumes that grow, and what gets in between. A crash after DRBD's resize lost the metadata (its issue 101): here
//! it is as durable at every step as before and after. That both nodes end with the same, largest size, and
//! with the same content, is judged at the end of every run.

use super::*;

const RESIZE: Command = Command::Resize {
    volume: 0,
    size: None,
    assume_clean: false,
};

fn busy() -> Plan {
    Plan {
        depth: 8,
        ..Plan::growing()
    }
}

fn size(world: &World, n: usize) -> u64 {
    world.status(n).map_or(0, |status| status.volumes[0].size)
}

fn grown(world: &World) -> u64 {
    world.plan.volumes[0].bytes()
}

fn enlarge_both(world: &mut World) {
    (0..2).for_each(|n| world.enlarge(n, 0));
}

/// A growth led by either node, to which something happens at a moment that differs from seed to seed.
fn interrupted(what: impl Fn(&mut World)) {
    for spread in [37, 211] {
        for seed in 0..SEEDS {
            let mut world = World::healthy_pair(seed, busy()).expect("a healthy pair");
            world.run_for(20_000);
            enlarge_both(&mut world);
            world.order((seed % 2) as usize, RESIZE);
            world.run_for(seed * spread);
            what(&mut world);
            world.heal();
            assert_eq!(
                world.violation(),
                None,
                "seed {seed}, after {} us",
                seed * spread
            );
            assert_eq!(
                (size(&world, 0), size(&world, 1)),
                (grown(&world), grown(&world))
            );
        }
    }
}

#[test]
fn resize() {
    each_seed(&busy(), |world| {
        world.run_for(20_000);
        let before = size(world, 0);
        world.command(0, RESIZE).expect("nothing to do");
        enlarge_both(world);
        assert_eq!(size(world, 1), before, "the operator has not said so yet");
        world.command(1, RESIZE).expect("it grows");
        assert_eq!(
            (size(world, 0), size(world, 1)),
            (grown(world), grown(world))
        );
        world.wait_in_sync().expect("the new part is copied");
        world.run_for(100_000);
    });
}

#[test]
fn resize_after_detach() {
    each_seed(&busy(), |world| {
        world
            .command(
                1,
                Command::Detach {
                    volume: 0,
                    force: false,
                },
            )
            .expect("detached");
        enlarge_both(world);
        world
            .command(0, RESIZE)
            .expect_err("one disk is out of use");
        world
            .command(1, Command::Attach { volume: 0 })
            .expect("found where it was");
        world.wait_in_sync().expect("what it lacks is copied");
        world.command(0, RESIZE).expect("it grows");
        world.wait_in_sync().expect("the new part is copied");
        assert_eq!(
            (size(world, 0), size(world, 1)),
            (grown(world), grown(world))
        );
        // And the Primary's, with the disk that has grown.
        world
            .command(
                0,
                Command::Detach {
                    volume: 0,
                    force: false,
                },
            )
            .expect("detached");
        world.run_for(50_000);
        world
            .command(0, Command::Attach { volume: 0 })
            .expect("found at its new place");
    });
}

#[test]
fn resize_then_crash_of_the_primary() {
    interrupted(|world| {
        world.power_cut(0);
        world.run_for(500_000);
        world.boot(0);
    });
}

#[test]
fn resize_then_crash_of_the_secondary() {
    interrupted(|world| {
        world.power_cut(1);
        world.run_for(500_000);
        world.boot(1);
    });
}

#[test]
fn resize_then_crash_of_both() {
    interrupted(|world| {
        world.power_cut_of_both();
        world.boot(1);
        world.run_for(10_000);
        world.boot(0);
    });
}

#[test]
fn resize_then_crash_and_failover() {
    interrupted(|world| {
        world.power_cut(0);
        wait_alone(world, 1);
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        world.write(1, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        world.boot(0);
    });
}

#[test]
fn resize_with_the_link_cut_in_the_middle() {
    interrupted(|world| {
        world.tear_link([true; 2]);
        world.run_for(100_000);
    });
    interrupted(|world| {
        world.block_network(true, true);
        wait_alone(world, 0);
        world.block_network(false, false);
    });
}

#[test]
fn disks_grow_while_a_node_is_down() {
    each_seed(&busy(), |world| {
        world.power_cut(1);
        enlarge_both(world);
        world.boot(1);
        world.wait_in_sync().expect("its metadata is found");
        world.power_cut_of_both();
        world.boot(0);
        world.boot(1);
        world
            .wait("both know their disks", |w| {
                (0..2).all(|n| w.disk(n, 0) >= Some(DiskState::Consistent))
            })
            .expect("found again");
    });
}

#[test]
fn rot_where_metadata_was_before_a_growth() {
    each_seed(&busy(), |world| {
        enlarge_both(world);
        world.command(0, RESIZE).expect("it grows");
        world.wait_in_sync().expect("the new part is copied");
        // Nothing can notice it, and no client ever writes there: it stays unjudged for good.
        let scar = world.plan.volumes[0].scar();
        world.rot(1, scar.start + 40);
    });
}
