//! Volumes that grow: by whom, under what, and interrupted at every step.

use super::*;
use crate::lineage::Verdict;

const CONNECT: Command = Command::Connect {
    discard_my_data: false,
};
const OLD_DISK: u64 = 1 << 20;
const OLD: u64 = OLD_DISK - (20 << 10);
const NEW_DISK: u64 = 3 << 20;
const NEW: u64 = 2 << 20;
const MIB: u64 = 1 << 20;

fn resize(size: Option<u64>, assume_clean: bool) -> Command {
    Command::Resize {
        volume: 0,
        size,
        assume_clean,
    }
}

fn internal(node: &str, peer: &str) -> EngineConfig {
    let mut config = config(node, peer);
    config.volumes.truncate(1);
    config.volumes[0].disk_bytes = OLD_DISK;
    config.volumes[0].metadata = MetadataPlace::Internal;
    config
}

fn external(node: &str, peer: &str) -> EngineConfig {
    let mut config = config(node, peer);
    config.volumes.truncate(1);
    config.volumes[0].disk_bytes = OLD;
    config
}

/// Makes a node's configuration.
type Make = fn(&str, &str) -> EngineConfig;
/// Where the metadata is, and how large the volume can become.
const KINDS: [(Make, u64); 2] = [(internal, NEW), (external, NEW_DISK)];

fn pair_of(make: Make) -> Pair {
    let mut pair = Pair::with(make("a", "b"), make("b", "a"));
    for node in &mut pair.nodes {
        node.may_allocate = true;
    }
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.write(0, OLD - 8192, 8192, 3);
    pair.write(0, 0, 65536, 4);
    pair.run();
    pair
}

/// A node's data disk gets larger, and what is new of it holds `fill`.
fn enlarge(pair: &mut Pair, n: usize, bytes: u64, fill: u8) {
    pair.nodes[n].disks[0].resize(bytes as usize, fill);
    pair.nodes[n].config.volumes[0].disk_bytes = bytes;
    let changed = Event::DiskChanged {
        volume: 0,
        metadata: false,
        size: bytes,
    };
    pair.handle(n, changed);
}

fn enlarged(make: Make) -> Pair {
    let mut pair = pair_of(make);
    enlarge(&mut pair, 0, NEW_DISK, 0xaa);
    enlarge(&mut pair, 1, NEW_DISK, 0xbb);
    pair
}

fn size(pair: &Pair, n: usize) -> u64 {
    pair.nodes[n].status().volumes[0].size
}

/// Both nodes have this size, the same content, and what was written is there.
fn assert_same(pair: &Pair, bytes: u64) {
    for (n, node) in pair.nodes.iter().enumerate() {
        let volume = &node.status().volumes[0];
        assert_eq!(volume.size, bytes, "node {n}: {:?}", node.logs);
        assert_eq!((volume.disk, volume.out_of_sync), (DiskState::UpToDate, 0));
        assert_eq!(volume.replication, ReplicationState::Established);
        assert_eq!(node.sizes[&0], bytes, "node {n}: what clients are told");
        assert!(node.disks[0][..65536].iter().all(|byte| *byte == 4));
        assert_eq!(node.disks[0][OLD as usize - 1], 3);
        node.assert_no_buffer_missing();
    }
    let content = |n: usize| &pair.nodes[n].disks[0][..bytes as usize];
    assert!(content(0) == content(1), "the replicas differ");
}

#[test]
fn both_nodes_grow_whoever_leads_and_whoever_is_primary() {
    for (make, largest) in KINDS {
        for (leader, secondary) in [(0, false), (1, false), (0, true), (1, true)] {
            let mut pair = enlarged(make);
            if secondary {
                pair.ok(0, Command::Secondary { force: true });
            }
            pair.ok(leader, resize(None, false));
            pair.wait(1_000_000);
            assert_same(&pair, largest);
            if !secondary {
                let write = pair.write(0, largest - 4096, 4096, 9);
                pair.run();
                assert_eq!(pair.reply(0, write), Some(Ok(())));
            }
            pair.reboot(0);
            pair.reboot(1);
            pair.heal();
            assert_eq!((size(&pair, 0), size(&pair, 1)), (largest, largest));
            assert_eq!(
                pair.command(leader, resize(None, false)).map(|_| ()),
                Ok(())
            );
        }
    }
}

#[test]
fn what_is_assumed_clean_is_not_copied() {
    let mut pair = enlarged(internal);
    pair.ok(0, resize(Some(NEW - 4096), true));
    pair.wait(1_000_000);
    let disk = |n: usize| pair.nodes[n].disks[0][NEW as usize - 8192];
    assert_eq!((disk(0), disk(1)), (0xaa, 0xbb));
    assert_eq!(size(&pair, 1), NEW - 4096);
    assert_eq!(pair.nodes[0].replication(), ReplicationState::Established);
    // And again, within the room that there is now.
    pair.ok(1, resize(Some(NEW), false));
    pair.wait(1_000_000);
    assert_eq!((size(&pair, 0), size(&pair, 1)), (NEW, NEW));
}

#[test]
fn writes_go_on_meanwhile_and_beyond_the_old_end_only_afterwards() {
    let mut pair = enlarged(internal);
    let early = pair.write(0, OLD, 4096, 1);
    assert_eq!(pair.reply(0, early), Some(Err(ClientError::Invalid)));
    pair.start(0, resize(None, false));
    let mut writes = std::vec![];
    while pair.step() {
        let end = pair.nodes[0].sizes[&0];
        assert!(
            pair.nodes[1].status().volumes[0].size >= end,
            "one node alone told its clients"
        );
        if writes.len() < 300 && pair.nodes[0].engine.clients_live < 32 {
            writes.push(pair.write(0, 128 << 10, 4096, writes.len() as u8));
            writes.push(pair.write(0, end - 4096, 4096, writes.len() as u8));
        }
    }
    pair.wait(1_000_000);
    for write in writes {
        assert_eq!(pair.reply(0, write), Some(Ok(())));
    }
    assert_eq!((size(&pair, 0), size(&pair, 1)), (NEW, NEW));
    let content = |n: usize| &pair.nodes[n].disks[0][..NEW as usize];
    assert!(content(0) == content(1));
}

#[test]
fn a_dry_run_foretells_that_the_smaller_volume_grows_first() {
    for leader in 0..2 {
        let mut pair = enlarged(internal);
        pair.ok(0, Command::Secondary { force: true });
        pair.start(leader, resize(None, false));
        while size(&pair, 0) == size(&pair, 1) {
            assert!(pair.step(), "nobody grew");
        }
        pair.cut();
        pair.ok(0, Command::Disconnect);
        pair.network = true;
        pair.run();
        let small = (0..2)
            .find(|n| size(&pair, *n) == OLD)
            .expect("interrupted");
        pair.ok(
            0,
            Command::DryRun {
                discard_my_data: false,
            },
        );
        let found = [0, 1].map(|n: usize| pair.nodes[n].engine.forecasts(pair.now).1[0]);
        for (n, found) in found.iter().enumerate() {
            let grows = found.grows.expect("foretold");
            assert_eq!((grows.here, grows.from, grows.to), (n == small, OLD, NEW));
        }
        let source = (0..2)
            .find(|n| matches!(found[*n].decision.verdict, Verdict::Source { .. }))
            .expect("what is new of the volume is to be copied");
        let (least, most) = found[source].bounds(false);
        pair.ok(0, CONNECT);
        pair.wait(3_000_000);
        let told = |blocks: u64| std::format!("resync done: {} bytes in", blocks * 4096);
        assert!(
            (least..=most).any(|blocks| pair.nodes[source].logged(&told(blocks))),
            "{least} to {most} blocks foretold: {:?}",
            pair.nodes[source].logs
        );
        assert_same(&pair, NEW);
    }
}

/// Lets a growth come so far, and then something happen to it. Answers whether it had ended before.
fn interrupted(
    steps: usize,
    leader: usize,
    (make, largest): (Make, u64),
    what: impl Fn(&mut Pair),
) -> bool {
    let mut pair = enlarged(make);
    // Any part of what was not flushed may be lost.
    pair.submit(0, 0, |_| ClientOp::Flush);
    pair.run();
    pair.rng = 0x9e37_79b9 * (steps as u64 + 1);
    for node in &mut pair.nodes {
        node.cache = Some(std::vec![]);
    }
    let id = pair.start(leader, resize(None, false));
    let ended = (0..steps).any(|_| !pair.step());
    what(&mut pair);
    for node in &mut pair.nodes {
        node.may_allocate = true;
    }
    pair.heal();
    if !pair.nodes.iter().any(|node| node.role() == Role::Primary) {
        let first = pair.command(0, Command::Primary { force: false });
        assert!(
            first.is_ok(),
            "{steps} {leader}: {first:?} {:?}",
            pair.nodes[0].logs
        );
    }
    pair.wait(20_000_000);
    let bytes = size(&pair, 0);
    assert!(bytes == OLD || bytes == largest, "{bytes}");
    if pair.nodes[leader].done.get(&id).is_some_and(Result::is_ok) {
        assert_eq!(bytes, largest, "the operator was told so");
    }
    assert_same(&pair, bytes);
    pair.ok(leader, resize(None, false));
    pair.wait(1_000_000);
    assert_same(&pair, largest);
    ended
}

fn at_every_step(what: impl Fn(&mut Pair) + Copy) {
    for (kind, stride) in KINDS.into_iter().zip([2, 5]) {
        for leader in 0..2 {
            let mut steps = leader;
            while !interrupted(steps, leader, kind, what) {
                steps += stride;
            }
            assert!(steps > 20, "nothing was interrupted");
        }
    }
}

#[test]
fn the_link_is_cut_at_any_step() {
    at_every_step(Pair::cut);
}

#[test]
fn the_primary_crashes_at_any_step() {
    at_every_step(|pair| pair.reboot(0));
}

#[test]
fn the_secondary_crashes_at_any_step() {
    at_every_step(|pair| pair.reboot(1));
}

#[test]
fn both_crash_at_any_step() {
    at_every_step(|pair| {
        pair.reboot(0);
        pair.reboot(1);
    });
}

/// No handshake tells its clients of the size that it reaches only after its promotion.
#[test]
fn a_node_promoted_alone_while_it_grows_as_its_peer_has_offers_the_new_size() {
    for (make, largest) in KINDS {
        let mut pair = enlarged(make);
        pair.start(0, resize(None, false));
        while size(&pair, 1) == OLD {
            assert!(pair.step(), "the node that follows never grew");
        }
        pair.cut();
        pair.reboot(0);
        pair.nodes[0].may_allocate = true;
        pair.run();
        assert_eq!((size(&pair, 0), size(&pair, 1)), (OLD, largest));
        pair.network = true;
        while !pair.nodes[0].logged("and so does this node") {
            if !pair.step() {
                pair.wait(500_000);
            }
        }
        pair.cut();
        assert_eq!(size(&pair, 0), OLD, "it is promoted before it has grown");
        pair.ok(0, Command::Primary { force: true });
        assert_eq!(pair.nodes[0].role(), Role::Primary);
        pair.run();
        assert_eq!(size(&pair, 0), largest);
        assert_eq!(pair.nodes[0].sizes[&0], largest);
    }
}

#[test]
fn refusals_say_what_to_do() {
    let mut pair = pair_of(internal);
    let said = |pair: &mut Pair, n, size| pair.command(n, resize(size, false)).unwrap_err();
    assert!(
        pair.command(0, resize(None, false))
            .unwrap()
            .contains("enlarge the disks of both nodes")
    );
    assert!(said(&mut pair, 0, Some(OLD - 4096)).contains("never shrinks"));
    assert!(said(&mut pair, 0, Some(OLD + 512)).contains("at least"));
    assert!(said(&mut pair, 0, Some(OLD + 1)).contains("multiple of 512"));
    enlarge(&mut pair, 0, OLD_DISK + 8192, 0);
    assert!(said(&mut pair, 0, None).contains("grew too little"));
    enlarge(&mut pair, 0, NEW_DISK, 0);
    assert!(said(&mut pair, 0, None).contains("the disk of peer b allows"));
    assert!(said(&mut pair, 1, Some(MIB)).contains("at least"));
    enlarge(&mut pair, 1, NEW_DISK + MIB, 0);
    // More than the peer's disk allows: as much as it does, unless a size was named.
    assert!(said(&mut pair, 1, Some(3 * MIB)).contains("the disk of peer a allows 2097152 bytes"));
    pair.ok(1, resize(None, false));
    pair.wait(1_000_000);
    assert_eq!((size(&pair, 0), size(&pair, 1)), (NEW, NEW));
    pair.cut();
    assert!(said(&mut pair, 0, None).contains("not connected"));
}

#[test]
fn the_disks_of_two_leaders_grow_once() {
    let mut pair = enlarged(internal);
    let both = [
        pair.start(0, resize(None, false)),
        pair.start(1, resize(None, false)),
    ];
    pair.wait(1_000_000);
    assert!(pair.nodes[0].done[&both[0]].is_ok());
    assert!(
        pair.nodes[1].done[&both[1]]
            .clone()
            .unwrap_err()
            .contains("busy")
    );
    assert_same(&pair, NEW);
}

#[test]
fn metadata_is_found_on_a_disk_that_grew_while_the_node_was_down() {
    let mut pair = pair_of(internal);
    for n in 0..2 {
        pair.nodes[n].disks[0].resize(40 << 20, n as u8);
        pair.nodes[n].config.volumes[0].disk_bytes = 40 << 20;
        pair.reboot(n);
        pair.nodes[n].may_allocate = true;
    }
    pair.heal();
    assert_eq!((size(&pair, 0), size(&pair, 1)), (OLD, OLD));
    assert!(pair.nodes[0].logged("its metadata ends at 1048576"));
    pair.ok(0, Command::Primary { force: false });
    pair.ok(0, resize(None, false));
    pair.wait(1_000_000);
    assert_same(&pair, 39 << 20);
    // What was metadata is none any more.
    let old = |n: usize| &pair.nodes[n].disks[0];
    assert_eq!(crate::ondisk::find(&old(0)[..39 << 20], 0), None);
    assert_eq!(crate::ondisk::find(&old(1)[..39 << 20], 0), None);
}

#[test]
fn a_disk_that_fails_while_the_volume_grows_ends_that() {
    for failing in 0..2 {
        for steps in 0..40 {
            let mut pair = enlarged(internal);
            let id = pair.start(0, resize(None, false));
            for _ in 0..steps {
                pair.step();
            }
            pair.handle(
                failing,
                Event::DiskChanged {
                    volume: 0,
                    metadata: false,
                    size: 0,
                },
            );
            pair.wait(20_000_000);
            assert!(
                pair.nodes[0].done.contains_key(&id),
                "{failing} {steps}: no answer"
            );
            let write = pair.write(0, 0, 4096, 4);
            pair.wait(1_000_000);
            assert_eq!(
                pair.reply(0, write),
                Some(Ok(())),
                "{failing} {steps}: clients go on"
            );
            pair.ok(failing, Command::Attach { volume: 0 });
            pair.wait(20_000_000);
            assert_same(&pair, size(&pair, 0));
        }
    }
}
