//! Blocks that a disk cannot read: they come from the peer, and are written anew.

use super::*;

#[test]
fn a_block_that_cannot_be_read_comes_from_the_peer_and_is_repaired() {
    let mut pair = Pair::ready();
    pair.write(0, 8192, 4096, 7);
    pair.run();
    // The medium has lost it.
    pair.nodes[0].disks[0][8192..12288].fill(0xee);
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    assert_eq!(pair.read(0, 8192, 4096), [7; 4096]);
    assert!(pair.nodes[0].logged("came from the peer and were written anew"));
    assert_eq!(pair.nodes[0].disk(), DiskState::UpToDate);
    pair.assert_in_sync();
}

#[test]
fn the_repair_of_a_block_keeps_its_place_among_writes() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    let read = pair.submit(0, 0, |node| ClientOp::Read(node.pool.alloc(4096).unwrap()));
    // Comes while the peer is asked: it must not be overwritten by what the peer has read before.
    pair.complete(0);
    let write = pair.write(0, 0, 4096, 2);
    pair.run();
    assert_eq!(pair.reply(0, read), Some(Ok(())));
    assert_eq!(pair.nodes[0].replies[&read].1, [1; 4096]);
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    assert_eq!(pair.nodes[0].disks[0][..4096], [2; 4096]);
    pair.assert_in_sync();
}

#[test]
fn a_block_that_neither_disk_can_read_is_an_error() {
    let mut pair = Pair::ready();
    pair.nodes[0].reads_fail = true;
    pair.nodes[1].reads_fail = true;
    let id = pair.submit(0, 0, |node| ClientOp::Read(node.pool.alloc(4096).unwrap()));
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Err(ClientError::Io)));
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
    pair.nodes[0].reads_fail = false;
    pair.assert_in_sync();
}

#[test]
fn a_disk_that_cannot_be_repaired_is_given_up_and_the_client_has_its_data() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 5);
    pair.run();
    let errors = [Some(DiskError::Io), Some(DiskError::Io)];
    pair.nodes[0].disk_errors.extend(errors);
    assert_eq!(pair.read(0, 0, 4096), [5; 4096]);
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
}

/// A Primary whose disk could not read a block, has it from the peer, and is at writing it anew.
fn repairing(a: EngineConfig) -> (Pair, RequestId) {
    let mut pair = Pair::of(a);
    pair.write(0, 8192, 4096, 7);
    pair.run();
    pair.nodes[0].disks[0][8192..12288].fill(0xee);
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    let read = pair.submit(0, 8192, |node| {
        ClientOp::Read(node.pool.alloc(4096).unwrap())
    });
    pair.complete(0);
    pair.nodes[0].disk_held = true;
    pair.run();
    let writes = |(_, _, op): &(_, _, DiskOp)| matches!(op, DiskOp::Write { offset: 8192, .. });
    assert!(pair.nodes[0].ops.iter().any(writes));
    assert_eq!(pair.reply(0, read), None);
    (pair, read)
}

#[test]
fn a_repair_ends_although_the_connection_does() {
    for refuses in [false, true] {
        let (mut pair, read) = repairing(config("a", "b"));
        pair.cut();
        if refuses {
            pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
        }
        pair.nodes[0].disk_held = false;
        pair.run();
        assert_eq!(pair.reply(0, read), Some(Ok(())), "refuses: {refuses}");
        assert_eq!(pair.nodes[0].replies[&read].1, [7; 4096]);
        let left = if refuses {
            DiskState::Failed
        } else {
            DiskState::UpToDate
        };
        assert_eq!(pair.nodes[0].disk(), left);
        pair.heal();
        if refuses {
            pair.ok(0, Command::Attach { volume: 0 });
            pair.wait(3_000_000);
        }
        pair.assert_in_sync();
    }
}

#[test]
fn a_repair_that_the_disk_does_not_end_is_no_error_of_the_client() {
    let mut hangs = config("a", "b");
    hangs.trouble.disk_timeout = 5_000_000;
    let (mut pair, read) = repairing(hangs);
    pair.wait(5_100_000);
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert_eq!(pair.reply(0, read), Some(Ok(())));
    assert_eq!(pair.nodes[0].replies[&read].1, [7; 4096]);
    pair.nodes[0].disk_held = false;
    pair.run();
    pair.ok(0, Command::Attach { volume: 0 });
    pair.wait(3_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_repair_that_the_disk_does_not_end_goes_on_when_the_peer_is_back() {
    let mut hangs = config("a", "b");
    hangs.trouble.disk_timeout = 5_000_000;
    let (mut pair, read) = repairing(hangs);
    pair.cut();
    pair.wait(5_100_000);
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert_eq!(pair.reply(0, read), None);
    pair.nodes[0].disk_held = false;
    pair.run();
    pair.ok(0, Command::Attach { volume: 0 });
    pair.heal();
    assert_eq!(pair.reply(0, read), Some(Ok(())));
    assert_eq!(pair.nodes[0].replies[&read].1, [7; 4096]);
    pair.assert_in_sync();
}
