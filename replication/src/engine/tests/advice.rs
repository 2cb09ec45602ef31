//! What operators are told.

use super::*;

impl Pair {
    fn reason(&self, n: usize) -> String {
        self.nodes[n].status().reason.to_string()
    }
}

#[test]
fn the_undecided_volumes_are_counted_and_the_commands_named_in_full() {
    let mut pair = Pair::new();
    for n in 0..2 {
        let reason = pair.reason(n);
        assert!(reason.starts_with("vol0 and 1 more: "), "{reason}");
        assert!(reason.contains("'primary --force' here"), "{reason}");
        assert!(
            reason.ends_with("'new-current-uuid --clear-bitmap'"),
            "{reason}"
        );
    }
    pair.ok(0, Command::NewCurrentUuid);
    assert_eq!(pair.reason(0) + &pair.reason(1), "");
}

#[test]
fn an_unfinished_copy_advises_to_force_the_other_node_and_that_works() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 7);
    pair.run();
    pair.nodes[0].disk_held = true;
    pair.network = true;
    pair.wait(600_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    let running = pair
        .command(1, Command::Primary { force: true })
        .unwrap_err();
    assert!(running.contains("is Primary"), "{running}");
    pair.reboot(0);
    let alone = pair
        .command(1, Command::Primary { force: true })
        .unwrap_err();
    assert!(alone.contains("bring peer a back"), "{alone}");
    pair.nodes[0].disk_held = false;
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn a_disk_without_metadata_advises_to_create_it() {
    let mut pair = Pair::ready();
    pair.nodes[1].metas[0].fill(0);
    pair.reboot(1);
    for force in [false, true] {
        let refused = pair.command(1, Command::Primary { force }).unwrap_err();
        assert!(
            refused.contains("create-md") && refused.contains("peer a"),
            "{refused}"
        );
    }
}

#[test]
fn metadata_is_created_as_soon_as_the_disk_is_known_to_have_none() {
    let mut pair = Pair::ready();
    pair.cut();
    // Its power fails, and somebody puts blank disks in.
    let config = pair.nodes[1].config.clone();
    pair.nodes[1] = Node::new(pair.now, config);
    pair.nodes[1].meta_held = true;
    pair.handle(1, Event::Tick);
    pair.run();
    let id = pair.start(
        1,
        Command::CreateMd {
            volume: 0,
            force: false,
        },
    );
    pair.run();
    assert!(!pair.nodes[1].done.contains_key(&id), "it waits");
    pair.nodes[1].meta_held = false;
    pair.run();
    assert_eq!(pair.nodes[1].done.get(&id).map(Result::is_ok), Some(true));
}

#[test]
fn what_is_longest_still_fits() {
    let name = |fill: &str| Name::try_from(fill.repeat(32).as_str()).unwrap();
    let many = |me: &str, other: &str| {
        let mut config = config(me, other);
        (config.node, config.peer) = (name(me), name(other));
        let volume = config.volumes[0].clone();
        config.volumes.clear();
        for index in 4000..4016 {
            let mut volume = volume.clone();
            volume.index = index;
            config.volumes.push(volume).unwrap();
        }
        config
    };
    let mut pair = Pair::with(many("a", "b"), many("b", "a"));
    pair.run();
    let fits = |reason: String| assert!(reason.ends_with('\''), "cut off: {reason}");
    fits(pair.reason(0));
    pair.ok(0, Command::NewCurrentUuid);
    pair.cut();
    pair.reboot(0);
    for n in 0..2 {
        let refused = pair.command(n, Command::Primary { force: false });
        fits(refused.unwrap_err());
    }
    pair.heal();
    assert_eq!(pair.reason(0) + &pair.reason(1), "");
}

#[test]
fn a_resync_that_waits_says_what_for() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 4096, 4096, 1);
    pair.run();
    pair.nodes[0].reads_fail = true;
    pair.network = true;
    pair.wait(3_600_000);
    let reason = pair.reason(0);
    assert!(
        reason.contains("cannot read the block at byte 4096"),
        "{reason}"
    );
    pair.nodes[0].reads_fail = false;
    pair.nodes[1].disk_held = true;
    pair.wait(1_100_000);
    while pair.nodes[0].out_of_sync() > 0 {
        pair.complete(1);
        pair.run();
    }
    let reason = pair.reason(0);
    assert!(reason.contains("waits for the disks to flush"), "{reason}");
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.assert_in_sync();
    assert_eq!(pair.reason(0), "");
}

#[test]
fn a_resync_without_memory_says_so_and_goes_on_when_there_is_some() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 4096, 4096, 1);
    pair.run();
    let mut hoard = Vec::new();
    while let Some(buf) = pair.nodes[0].pool.alloc_up_to(PAGE) {
        hoard.push(buf);
    }
    pair.network = true;
    pair.wait(2_000_000);
    let reason = pair.reason(0);
    assert!(reason.ends_with("all buffers are in use"), "{reason}");
    for buf in hoard {
        pair.nodes[0].pool.free(buf);
    }
    pair.wait(100_000);
    pair.assert_in_sync();
    assert_eq!(pair.reason(0), "");
}

#[test]
fn a_disk_that_failed_and_a_peer_that_does_not_answer_are_told() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    pair.write(0, 0, 4096, 1);
    pair.wait(3_000_000);
    let reason = pair.nodes[0].engine.status(pair.now).reason;
    assert!(reason.contains("none of 1 requests for 3 s"), "{reason}");
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.handle(
        1,
        Event::DiskChanged {
            volume: 1,
            metadata: false,
            size: 0,
        },
    );
    pair.run();
    assert!(pair.reason(1).contains("vol1: the disk here is Failed"));
    assert!(
        pair.reason(0)
            .contains("vol1: the disk of peer b is Failed")
    );
}

/// It is not out of order, and needs no command.
#[test]
fn a_disk_that_is_being_attached_is_called_that() {
    let mut pair = Pair::ready();
    pair.cut();
    let config = pair.nodes[1].config.clone();
    let (disks, metas) = (pair.nodes[1].disks.clone(), pair.nodes[1].metas.clone());
    pair.nodes[1] = Node::new(pair.now, config);
    (pair.nodes[1].disks, pair.nodes[1].metas) = (disks, metas);
    pair.nodes[1].meta_held = true;
    let attached = "vol0: the disk here is being attached: its metadata is being read";
    assert_eq!(pair.reason(1), attached, "before it has begun");
    pair.handle(1, Event::Tick);
    pair.run();
    assert_eq!(pair.nodes[1].disk(), DiskState::Attaching);
    assert_eq!(pair.reason(1), attached);
    pair.nodes[1].meta_held = false;
    pair.run();
    assert!(!pair.reason(1).contains("attached"), "{}", pair.reason(1));
    pair.heal();
    pair.assert_in_sync();
}
