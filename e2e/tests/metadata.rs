//! Metadata as an operator meets it: creating it, disks of its own for it.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::{disk_bytes, must, pattern, text};
use e2e::{Node, Pair};
use std::os::unix::fs::FileExt;

#[test]
fn a_disk_that_holds_a_filesystem_is_not_overwritten() {
    let pair = Pair::prepare();
    let image = |node| pair.image(node, 0);
    for node in [Node::A, Node::B] {
        let file = std::fs::File::create(image(node)).expect("writable");
        file.set_len(disk_bytes(64 << 20)).expect("a sparse file");
        let path = image(node);
        let path = path.to_str().expect("UTF-8");
        must("mke2fs", &["-q", "-F", "-t", "ext4", path], 30);
    }
    let before = std::fs::read(image(Node::A)).expect("an image");
    let output = pair.up(&[]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("does not become Primary") && said.contains("create-md"),
        "what is wrong, and what to do: {said}"
    );
    for node in [Node::A, Node::B] {
        let refused = pair.exec(node, "create-md vol0").expect_err("it is used");
        assert!(
            refused.contains("ext") && refused.contains("create-md vol0 --force"),
            "what was found, and what would help: {refused}"
        );
    }
    assert!(
        std::fs::read(image(Node::A)).expect("an image") == before,
        "not a byte was changed"
    );
    for node in [Node::A, Node::B] {
        let said = pair.must_exec(node, "create-md vol0 --force");
        assert!(said.contains("metadata created"), "{said}");
        // Twice is once too often, by force or not.
        for again in ["create-md vol0", "create-md vol0 --force"] {
            let refused = pair.exec(node, again).expect_err("it is attached");
            assert!(refused.contains("has metadata"), "{refused}");
        }
    }
    // The disks are not known to be the same: one is chosen, the other gets all of it.
    pair.wait_status(Node::A, "connected", 20, |s| s.connection() == "Connected");
    pair.must_exec(Node::A, "primary --force");
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(1);
    // Metadata is found on disks that are used again, so a second creation meets it.
    assert!(pair.metadata(Node::B, 0)["superblock"]["node"] == "b");
}

#[test]
fn damaged_metadata_is_found_and_survived() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x27 0 8M", "flush"], 60);
    pair.assert_identical_after_clean_stop(1);
    let spoil = |place: &str| {
        let at = pair.metadata(Node::B, 0)["superblock"]["layout"][place]
            .as_u64()
            .expect("a place");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(pair.image(Node::B, 0));
        let file = file.expect("the image");
        file.write_all_at(&pattern(1, 4096), at).expect("writable");
    };
    // One copy of the superblock is lost: the other one serves, and the node mends it.
    spoil("superblock_a");
    // A page of the bitmap is lost: what it stands for is copied.
    spoil("bitmap");
    assert_eq!(pair.metadata(Node::B, 0)["verdict"], "problems");
    pair.must_up(&[]);
    pair.wait_in_sync(60);
    // From whichever node: they had the same data.
    let copied = [pair.resyncs(Node::A), pair.resyncs(Node::B)].concat();
    assert_eq!(copied, [64 << 20], "all that one page stands for");
    pair.qemu_io(&pair.uri(0), &["read -P 0x27 0 8M"], 60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn disks_of_their_own_for_metadata() {
    let pair = Pair::boot_with(&["--metadata", "external", "--volumes", "2"]);
    let volumes = pair.status(Node::A).0["volumes"].clone();
    for volume in volumes.as_array().expect("volumes") {
        assert_eq!(volume["metadata"], "external");
        assert_eq!(volume["size"], 64 << 20, "the whole disk");
    }
    pair.qemu_io(&pair.uri(0), &["write -P 0x37 0 4M", "flush"], 60);
    pair.qemu_io(&pair.uri(1), &["write -P 0x38 60M 4M", "flush"], 60);
    pair.kill(Node::B);
    pair.qemu_io(&pair.uri(1), &["write -P 0x39 56M 4M", "flush"], 60);
    pair.start(Node::B);
    pair.wait_in_sync(60);
    let copied = pair.resyncs(Node::A);
    assert!(copied.iter().sum::<u64>() <= 16 << 20, "{copied:?}");
    pair.kill(Node::A);
    pair.must_exec(Node::B, "primary --force");
    pair.qemu_io(
        &pair.uri(1),
        &["read -P 0x39 56M 4M", "read -P 0x38 60M 4M"],
        60,
    );
    pair.start(Node::A);
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(2);
}
