//! What is done when more is on its way to the peer than the limits allow.

use super::*;

const FILL: u64 = 64 << 10;

fn with(on_congestion: OnCongestion, extents: Option<u32>) -> Pair {
    let mirroring = Mirroring {
        protocol: Protocol::A,
        on_congestion,
        congestion_fill: FILL,
        congestion_extents: extents,
    };
    let node = |me, peer| EngineConfig {
        mirroring,
        ..config(me, peer)
    };
    let mut pair = Pair::with(node("a", "b"), node("b", "a"));
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair
}

/// Writes 4 KiB each, one after the answer to the other, as long as they are answered.
fn write_until_it_waits(pair: &mut Pair, most: u64) -> (u64, RequestId) {
    let mut last = 0;
    for n in 0..most {
        last = pair.write(0, n * 4096, 4096, 1 + n as u8);
        pair.run();
        if pair.reply(0, last).is_none() {
            return (n, last);
        }
    }
    (most, last)
}

#[test]
fn clients_wait_for_the_peer_by_default() {
    let mut pair = with(OnCongestion::Block, None);
    pair.nodes[1].disk_held = true;
    let (answered, last) = write_until_it_waits(&mut pair, 40);
    assert_eq!(answered * 4096, FILL);
    assert_eq!(pair.nodes[0].status().volumes[0].lag_bytes, FILL);
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, last), Some(Ok(())));
    pair.assert_in_sync();
}

#[test]
fn the_peer_is_left_and_resynced_later() {
    let mut pair = with(OnCongestion::Disconnect, None);
    pair.nodes[1].disk_held = true;
    let (answered, _) = write_until_it_waits(&mut pair, 20);
    assert_eq!(answered, 20, "alone, and nothing waits");
    assert!(pair.nodes[0].logged("the peer is left: 65536 bytes"));
    assert_ne!(
        pair.nodes[0].status().connection,
        ConnectionState::Connected
    );
    assert_eq!(pair.nodes[0].out_of_sync(), 20 * 4096);
    pair.nodes[1].disk_held = false;
    pair.wait(5_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_single_large_write_is_no_congestion() {
    let mut pair = with(OnCongestion::Disconnect, None);
    let id = pair.write(0, 0, 128 << 10, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.assert_in_sync();
}

#[test]
fn the_primary_pulls_ahead_when_the_peer_is_durably_outdated_and_resyncs_by_itself() {
    let mut pair = with(OnCongestion::PullAhead, None);
    pair.nodes[1].disk_held = true;
    pair.nodes[1].meta_held = true;
    let (answered, waits) = write_until_it_waits(&mut pair, 40);
    assert_eq!(answered * 4096, FILL);
    assert_eq!(pair.nodes[0].replication(), ReplicationState::Ahead);
    assert_eq!(pair.nodes[1].replication(), ReplicationState::Behind);
    assert_eq!(
        pair.reply(0, waits),
        None,
        "the peer may be taken for whole yet"
    );
    assert_eq!(pair.nodes[0].out_of_sync(), 0);
    let uuid = pair.nodes[0].status().volumes[0].current_uuid;
    pair.nodes[1].meta_held = false;
    pair.run();
    assert_eq!(pair.reply(0, waits), Some(Ok(())));
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    assert_eq!(
        pair.nodes[0].status().volumes[0].peer_disk,
        DiskState::Outdated
    );
    assert_ne!(pair.nodes[0].status().volumes[0].current_uuid, uuid);
    assert_eq!(pair.nodes[0].out_of_sync(), 4096);
    // A flush is this node's alone now, as without a peer.
    let flush = pair.submit(0, 0, |_| ClientOp::Flush);
    pair.run();
    assert_eq!(pair.reply(0, flush), Some(Ok(())));
    pair.wait(1_000_000);
    assert_eq!(
        pair.nodes[0].replication(),
        ReplicationState::Ahead,
        "what was sent is not acknowledged"
    );
    pair.nodes[1].disk_held = false;
    pair.wait(1_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[1].disks[0][(answered * 4096) as usize], 17);
}

#[test]
fn every_mirrored_volume_is_pulled_ahead_and_none_is_promoted_there() {
    let mut pair = with(OnCongestion::PullAhead, None);
    pair.nodes[1].disk_held = true;
    write_until_it_waits(&mut pair, 20);
    for volume in pair.nodes[1].status().volumes {
        assert_eq!(volume.replication, ReplicationState::Behind);
        assert_eq!(volume.disk, DiskState::Outdated);
    }
    pair.cut();
    pair.nodes[1].disk_held = false;
    pair.run();
    let refused = pair.command(1, Command::Primary { force: false });
    assert!(refused.is_err(), "{refused:?}");
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn a_peer_that_restarts_behind_is_still_outdated() {
    let mut pair = with(OnCongestion::PullAhead, None);
    pair.nodes[1].disk_held = true;
    write_until_it_waits(&mut pair, 20);
    pair.reboot(1);
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn a_resync_that_is_congested_is_interrupted_and_goes_on() {
    let mut pair = with(OnCongestion::PullAhead, None);
    pair.nodes[1].disk_held = true;
    write_until_it_waits(&mut pair, 60);
    pair.nodes[1].disk_held = false;
    pair.run();
    let resync = |pair: &Pair| pair.nodes[0].replication() == ReplicationState::SyncSource;
    while !resync(&pair) {
        pair.now += 10_000;
        pair.handle(0, Event::Tick);
        pair.nodes[1].disk_held = true;
        pair.run();
    }
    // The other volume has nothing to copy, and comes to its end.
    while let Some(at) = pair.nodes[1].ops.iter().position(|op| op.1 == 1) {
        let op = pair.nodes[1].ops.remove(at).unwrap();
        pair.nodes[1].ops.push_front(op);
        pair.complete(1);
        pair.run();
    }
    assert!(resync(&pair));
    // Beyond what the runs in flight hold.
    for n in 0..20 {
        pair.write(0, (128 + n) * 4096, 4096, 9);
        pair.run();
    }
    assert_eq!(pair.nodes[0].replication(), ReplicationState::Ahead);
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    pair.nodes[1].disk_held = false;
    pair.wait(5_000_000);
    pair.assert_in_sync();
}

#[test]
fn extents_on_their_way_count_too() {
    let mut pair = with(OnCongestion::Disconnect, Some(1));
    pair.nodes[1].disk_held = true;
    // The volume has one extent of 4 MiB.
    let (answered, _) = write_until_it_waits(&mut pair, 10);
    assert_eq!(answered, 10);
    assert_eq!(
        pair.nodes[0].status().connection,
        ConnectionState::Connected
    );
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.assert_in_sync();
}

#[test]
fn no_copy_is_given_up_while_the_primary_pulls_ahead() {
    let mut pair = with(OnCongestion::PullAhead, None);
    pair.nodes[1].disk_held = true;
    for n in 0..FILL / 4096 {
        pair.write(0, n * 4096, 4096, 1 + n as u8);
        pair.run();
    }
    // The two words cross: the peer asks while it does not know that it is left behind.
    let given_up = pair.start(1, Command::Invalidate { volume: 0 });
    pair.write(0, FILL, 4096, 99);
    assert_eq!(pair.nodes[0].replication(), ReplicationState::Ahead);
    pair.run();
    let refused = pair.nodes[1].done[&given_up].as_ref().unwrap_err();
    assert!(refused.contains("did not consent"), "{refused}");
    pair.nodes[1].disk_held = false;
    pair.wait(5_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_whole_resync_that_was_agreed_on_is_not_forgotten_by_a_congested_neighbour() {
    let mut pair = with(OnCongestion::PullAhead, None);
    pair.nodes[1].disk_held = true;
    // It waits for this one.
    pair.write(0, 0, 4096, 1);
    pair.ok(0, Command::InvalidateRemote { volume: 0 });
    for n in 0..FILL / 4096 + 1 {
        pair.submit_to(0, 1, n * 4096, |_| ClientOp::WriteZeroes {
            len: 4096,
            unmap: false,
            fua: false,
        });
        pair.run();
    }
    pair.nodes[1].disk_held = false;
    pair.run();
    assert!(pair.nodes[0].logged("the operator gave the peer's copy up"));
    pair.wait(5_000_000);
    pair.assert_in_sync();
}
