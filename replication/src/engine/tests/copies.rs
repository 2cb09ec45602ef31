//! The two copies of a superblock: what waits for a save goes on only when both have it.

use super::*;
use crate::ondisk::{Layout, Superblock};

/// Both copies, as they are on a node's disk.
fn copies(pair: &Pair, n: usize) -> [Superblock; 2] {
    let node = &pair.nodes[n];
    let layout = Layout::external(META, SIZE).expect("a layout");
    [layout.superblock_a, layout.superblock_b].map(|offset| {
        let page = &node.metas[0][offset as usize..];
        Superblock::decode(page.first_chunk().expect("a page")).expect("a sound copy")
    })
}

/// Lets a node's metadata reach the disk, one operation after the other, until `done`; answers how many it took.
fn save_until(pair: &mut Pair, n: usize, done: impl Fn(&Pair) -> bool) -> usize {
    for count in 0..100 {
        if done(pair) {
            return count;
        }
        assert!(pair.complete_meta(n), "nothing more is saved");
        pair.run();
    }
    panic!("it never came");
}

#[test]
fn a_write_alone_waits_for_both_copies_of_its_generation() {
    let mut pair = Pair::ready();
    pair.nodes[0].meta_held = true;
    pair.cut();
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    let operations = save_until(&mut pair, 0, |pair| pair.reply(0, id).is_some());
    assert!(operations >= 4, "{operations}");
    let generation = pair.nodes[0].status().volumes[0].current_uuid;
    assert_eq!(copies(&pair, 0).map(|copy| copy.current), [generation; 2]);
}

#[test]
fn clients_are_let_in_when_both_copies_say_primary() {
    let mut pair = Pair::new();
    pair.ok(0, Command::NewCurrentUuid);
    pair.nodes[0].meta_held = true;
    pair.start(0, Command::Primary { force: false });
    pair.run();
    save_until(&mut pair, 0, |pair| pair.nodes[0].serving);
    assert_eq!(copies(&pair, 0).map(|copy| copy.primary), [true; 2]);
}

#[test]
fn a_target_is_overwritten_when_both_copies_say_inconsistent() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.nodes[1].meta_held = true;
    pair.heal();
    let writes = |(_, _, op): &(_, _, DiskOp)| matches!(op, DiskOp::Write { .. });
    pair.nodes[1].disk_held = true;
    save_until(&mut pair, 1, |pair| pair.nodes[1].ops.iter().any(writes));
    assert_eq!(
        copies(&pair, 1).map(|copy| copy.disk),
        [DiskState::Inconsistent; 2]
    );
}

/// The disk fails between the two copies, and later only the older one can be read: nothing was done that it does not know of.
#[test]
fn a_disk_that_fails_between_the_copies_is_what_it_was() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 1);
    pair.run();
    let before = pair.nodes[1].disks[0][..4096].to_vec();
    pair.nodes[1].meta_held = true;
    pair.heal();
    let marked = |pair: &Pair| copies(pair, 1)[0].disk == DiskState::Inconsistent;
    save_until(&mut pair, 1, marked);
    pair.complete_meta(1);
    pair.nodes[1].metas_fail = true;
    pair.nodes[1].meta_held = false;
    pair.run();
    assert_eq!(pair.nodes[1].disk(), DiskState::Failed);
    assert_eq!(copies(&pair, 1)[1].disk, DiskState::UpToDate);
    assert_eq!(pair.nodes[1].disks[0][..4096], before);
}
