//! The old content of a resync's target, read while the resync overwrites it.

use super::snapshot::{
    ROLLBACK, ROOMY, VOLUME, bereft, guarded, meet, parted, parted_of, same, volume,
};
use super::*;

/// Reads old content, and lets it end.
fn read_old(pair: &mut Pair, n: usize, offset: u64, len: u32) -> Result<Vec<u8>, ClientError> {
    let id = ask_old(pair, n, offset, len);
    while pair.reply(n, id).is_none() {
        assert!(pair.step(), "the read never ends");
    }
    let (result, data) = &pair.nodes[n].replies[&id];
    result.map(|()| data.clone())
}

fn ask_old(pair: &mut Pair, n: usize, offset: u64, len: u32) -> RequestId {
    pair.submit(n, offset, |node| {
        ClientOp::ReadSnapshot(node.pool.alloc(len).expect("memory"))
    })
}

fn offered(pair: &Pair, n: usize) -> bool {
    pair.nodes[n].old.get(&0) == Some(&true)
}

/// All of the old content, in reads of this length.
fn all_old(pair: &mut Pair, n: usize, len: u32) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < VOLUME {
        let left = (VOLUME - all.len()).min(len as usize) as u32;
        all.extend(read_old(pair, n, all.len() as u64, left).expect("it can be read"));
    }
    all
}

/// In the end both have the same, and nothing is left.
fn assert_equal(pair: &Pair) {
    same(&volume(pair, 0), &volume(pair, 1), "both");
    for node in &pair.nodes {
        assert_eq!(node.disk(), DiskState::UpToDate);
        assert!(node.engine.is_idle());
        node.assert_no_buffer_missing();
    }
}

#[test]
fn it_is_what_was_there_before_however_much_is_overwritten() {
    let mut all = 0;
    for len in [512, 3072, 4096, 20 << 10, 64 << 10] {
        let mut pair = parted();
        let old = volume(&pair, 1);
        assert!(!offered(&pair, 1), "before the resync");
        meet(&mut pair, 0);
        let mut looks = 0;
        for _ in 0..1_000_000 {
            if offered(&pair, 1) {
                looks += 1;
                let at = (looks * 4096 + looks * 512) % (VOLUME as u64 - u64::from(len));
                let at = at / 512 * 512;
                match read_old(&mut pair, 1, at, len) {
                    Ok(data) => same(&data, &old[at as usize..][..len as usize], "old"),
                    // It was dropped meanwhile.
                    Err(error) => {
                        assert_eq!(error, ClientError::NotServing);
                        assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
                    }
                }
            }
            if !pair.step() {
                break;
            }
        }
        assert!(looks > 1, "the old content was offered for {looks} steps");
        all += looks;
        pair.wait(5_000_000);
        assert!(!offered(&pair, 1), "after the resync");
        assert_eq!(
            read_old(&mut pair, 1, 0, len).err(),
            Some(ClientError::NotServing)
        );
        assert!(pair.nodes[0].old.is_empty(), "the source has none");
        assert_equal(&pair);
    }
    assert!(all > 40, "only {all} looks at it");
}

#[test]
fn it_is_whole_when_the_source_is_gone_and_through_the_rollback() {
    let (mut pair, old) = bereft();
    assert!(offered(&pair, 1));
    for len in [4096, 64 << 10, 512] {
        same(&all_old(&mut pair, 1, len), &old, "read");
    }
    // Reads that have begun before it, and go on beside it.
    let id = ask_old(&mut pair, 1, 0, 64 << 10);
    pair.ok(1, ROLLBACK);
    same(&volume(&pair, 1), &old, "rolled back");
    match &pair.nodes[1].replies[&id] {
        (Ok(()), data) => same(data, &old[..64 << 10], "read meanwhile"),
        (Err(error), _) => assert_eq!(*error, ClientError::NotServing),
    }
    assert!(!offered(&pair, 1), "the disk itself has it now");
    pair.heal();
    pair.wait(5_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
}

#[test]
fn after_a_reboot_it_can_be_read_again() {
    let (mut pair, old) = bereft();
    pair.reboot(1);
    pair.wait(1_000_000);
    assert!(offered(&pair, 1));
    same(&all_old(&mut pair, 1, 20 << 10), &old, "read");
}

/// A read holds its range: what would overwrite it waits, and what is being overwritten is waited for.
#[test]
fn reads_and_the_resync_keep_out_of_each_others_ranges() {
    let mut pair = parted();
    let old = volume(&pair, 1);
    meet(&mut pair, 0);
    while !offered(&pair, 1) {
        assert!(pair.step());
    }
    // All of it is being read, with nothing read yet.
    let whole: Vec<_> = (0..6u64)
        .map(|n| ask_old(&mut pair, 1, n * (64 << 10), 64 << 10))
        .collect();
    pair.nodes[1].disk_held = true;
    for _ in 0..2000 {
        pair.step();
    }
    same(&volume(&pair, 1), &old, "nothing is overwritten");
    pair.nodes[1].disk_held = false;
    pair.wait(5_000_000);
    for (n, id) in whole.into_iter().enumerate() {
        let (result, data) = &pair.nodes[1].replies[&id];
        assert_eq!(*result, Ok(()));
        same(data, &old[n * (64 << 10)..][..64 << 10], "read");
    }
    assert_equal(&pair);
}

#[test]
fn with_the_snapshot_it_is_given_up() {
    let (mut pair, _) = bereft();
    pair.nodes[1].disk_held = true;
    let id = ask_old(&mut pair, 1, 0, 64 << 10);
    pair.run();
    pair.ok(1, Command::DropSnapshot { volume: 0 });
    assert!(!offered(&pair, 1));
    pair.nodes[1].disk_held = false;
    pair.run();
    // What was read until then may belong to anything.
    assert_eq!(pair.reply(1, id), Some(Err(ClientError::NotServing)));
    pair.heal();
    pair.wait(5_000_000);
    assert_equal(&pair);
}

#[test]
fn a_damaged_reserve_is_an_error_and_not_data() {
    let (mut pair, old) = bereft();
    let disk = &mut pair.nodes[1].disks[0];
    // Each block of it, wherever it begins: one byte is enough.
    for page in disk[VOLUME..].chunks_exact_mut(4096).skip(2).take(96) {
        page[77] ^= 1;
    }
    let mut damaged = 0;
    for n in 0..VOLUME / 4096 {
        match read_old(&mut pair, 1, n as u64 * 4096, 4096) {
            Ok(data) => same(&data, &old[n * 4096..][..4096], "the volume's own"),
            Err(error) => {
                assert_eq!(error, ClientError::Io);
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0, "nothing was read from the reserve");
    pair.nodes[1].assert_no_buffer_missing();
}

#[test]
fn a_read_ends_with_its_disk() {
    let (mut pair, _) = bereft();
    pair.nodes[1].disk_errors.push_back(Some(DiskError::Io));
    let failed = read_old(&mut pair, 1, 128 << 10, 4096);
    assert_eq!(failed, Err(ClientError::Io));
    // A block that cannot be read costs only that read.
    assert!(read_old(&mut pair, 1, 128 << 10, 4096).is_ok());
    pair.nodes[1].assert_no_buffer_missing();
}

#[test]
fn a_read_does_not_wait_for_a_disk_that_hangs() {
    let mut b = guarded("b", SnapshotPolicy::Required, ROOMY);
    b.trouble.disk_timeout = 5_000_000;
    let mut pair = parted_of(b);
    meet(&mut pair, 0);
    while !offered(&pair, 1) {
        assert!(pair.step());
    }
    pair.cut();
    pair.run();
    pair.nodes[1].disk_held = true;
    let id = ask_old(&mut pair, 1, 128 << 10, 64 << 10);
    pair.wait(10_000_000);
    assert_eq!(pair.reply(1, id), Some(Err(ClientError::Io)));
    assert_eq!(pair.nodes[1].disk(), DiskState::Failed);
    assert!(!offered(&pair, 1), "there is no disk to read it from");
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.nodes[1].assert_no_buffer_missing();
}
