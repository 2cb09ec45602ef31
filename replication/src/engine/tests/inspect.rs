//! `inspect`: the metadata as it is on the disk.

use super::*;
use crate::ondisk::{PAGE, Verdict};

fn inspect(pair: &mut Pair, n: usize) -> (Result<String, String>, Verdict, String) {
    let said = pair.command(n, Command::Inspect { volume: 0 });
    let (index, found) = pair.nodes[n]
        .engine
        .inspection()
        .expect("something was found");
    assert_eq!(index, 0);
    let found = (said, found.verdict(), found.to_string());
    pair.nodes[n].assert_no_buffer_missing();
    found
}

#[test]
fn attached_and_in_use() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    let (said, verdict, text) = inspect(&mut pair, 0);
    assert!(said.unwrap().contains("good"));
    assert_eq!(verdict, Verdict::Good);
    for words in [
        "vol0 of resource r0 on node a",
        "Primary",
        "1 of 1 extents hot",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let uuid = pair.nodes[0].status().volumes[0].current_uuid;
    assert!(text.contains(&std::format!("{uuid:016X}")), "{text}");
    pair.assert_in_sync();
}

#[test]
fn a_save_that_comes_in_between_is_not_taken_for_a_crash() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.nodes[0].meta_held = true;
    let id = pair.start(0, Command::Inspect { volume: 0 });
    // The write begins nothing new; a promotion of the other node is not needed: the bitmap and the role are saved.
    pair.complete_meta(0);
    pair.start(0, Command::Secondary { force: false });
    pair.nodes[0].meta_held = false;
    pair.wait(3_000_000);
    assert!(pair.nodes[0].done[&id].is_ok(), "{:?}", pair.nodes[0].done);
    let (_, found) = pair.nodes[0].engine.inspection().unwrap();
    assert_eq!(found.verdict(), Verdict::Good, "{found}");
    assert!(found.to_string().contains("not Primary"), "{found}");
}

#[test]
fn detached_and_damaged_in_every_way() {
    let mut pair = Pair::ready();
    pair.ok(
        1,
        Command::Detach {
            volume: 0,
            force: false,
        },
    );
    let (said, verdict, text) = inspect(&mut pair, 1);
    assert!(said.is_ok() && verdict == Verdict::Good, "{text}");
    let sound = pair.nodes[1].metas[0].clone();
    let pages = sound.len() / PAGE;
    // The second copy of the superblock, the activity log, the bitmap, the first copy.
    for (page, words) in [
        (pages - 1, "superblock copy B"),
        (1, "activity log pages have one bad page"),
        (3, "bitmap page(s) are bad"),
        (0, "superblock copy A"),
    ] {
        pair.nodes[1].metas[0][page * PAGE + 40] ^= 4;
        let (said, _, text) = inspect(&mut pair, 1);
        assert!(said.is_ok(), "{said:?}");
        assert!(text.contains(words), "{words}: {text}");
        pair.nodes[1].metas[0].clone_from(&sound);
    }
    for page in [0, pages - 1] {
        pair.nodes[1].metas[0][page * PAGE + 40] ^= 4;
    }
    let (said, verdict, text) = inspect(&mut pair, 1);
    assert!(said.unwrap_err().contains("cannot be used"));
    assert_eq!(verdict, Verdict::Unusable);
    assert!(text.contains("both superblock copies are bad"), "{text}");
    pair.nodes[1].metas[0].fill(0);
    let (said, _, text) = inspect(&mut pair, 1);
    assert!(
        said.is_err() && text.contains("there is no metadata"),
        "{text}"
    );
    pair.nodes[1].metas_fail = true;
    let (said, _, text) = inspect(&mut pair, 1);
    assert!(said.is_err() && text.contains("not usable"), "{text}");
}

#[test]
fn a_disk_that_does_not_answer_keeps_only_its_buffer() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.nodes[1].meta_held = true;
    let id = pair.start(1, Command::Inspect { volume: 0 });
    pair.wait(7_000_000);
    let said = pair.nodes[1].done[&id].clone().unwrap_err();
    assert!(said.contains("does not answer"), "{said}");
    let again = pair.command(1, Command::Inspect { volume: 0 }).unwrap_err();
    assert!(again.contains("earlier 'inspect'"), "{again}");
    assert!(!pair.nodes[1].engine.is_idle());
    pair.nodes[1].meta_held = false;
    pair.run();
    pair.nodes[1].assert_no_buffer_missing();
    let (said, ..) = inspect(&mut pair, 1);
    assert!(said.is_ok());
    for volume in [2, 9] {
        let said = pair.command(1, Command::Inspect { volume }).unwrap_err();
        assert!(said.contains("there is no vol"));
    }
}
