//! Disks that fail (issue 3, item 6): by QEMU's blkdebug, and by disks with unreadable sectors.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::forgetful::Disk;
use e2e::tools::{disk_bytes, wait_for};
use e2e::{Node, Pair};

/// A pair whose disks are under blkdebug; `fails` is what node `node` injects.
fn under_blkdebug(node: Node, fails: &str) -> Pair {
    let mut pair = Pair::prepare();
    pair.set(
        "PALISADE_DISK",
        "driver=raw,discard=unmap,file.driver=blkdebug,file.config=NODE.blkdebug,file.image.driver=file,\
         file.image.discard=unmap,file.image.filename=IMAGE",
    );
    for each in [Node::A, Node::B] {
        let rules = if each == node { fails } else { "" };
        inject(&pair, each, rules);
    }
    pair.must_up(&[]);
    pair
}

/// What blkdebug does to a node's disk from its next start on.
fn inject(pair: &Pair, node: Node, rules: &str) {
    let file = pair.dir().join(format!("{}.blkdebug", node.name()));
    std::fs::write(file, rules).expect("writable");
}

/// A rule of blkdebug: requests of this kind that touch the sector at 4 MiB fail.
fn rule(kind: &str) -> String {
    format!(
        "[inject-error]\nevent = \"none\"\niotype = \"{kind}\"\nerrno = \"5\"\nsector = \"8192\"\n"
    )
}

#[test]
#[ignore = "needs the disk trouble of issue 3, item 6"]
fn a_read_error_is_served_by_the_peer() {
    let pair = under_blkdebug(Node::A, &rule("read"));
    let uri = pair.uri(0);
    pair.qemu_io(&uri, &["write -P 0x51 0 8M", "flush"], 60);
    pair.qemu_io(&uri, &["read -P 0x51 0 8M"], 60);
    let log = pair.must_exec(Node::A, "log 100");
    assert!(log.contains("read"), "the operator is told: {log}");
    assert_eq!(pair.status(Node::A).role(), "Primary");
    pair.assert_identical_after_clean_stop(1);
}

#[test]
#[ignore = "needs the disk trouble of issue 3, item 6"]
fn a_write_error_detaches_the_disk_and_the_node_goes_on_through_its_peer() {
    let pair = under_blkdebug(Node::A, &rule("write"));
    let uri = pair.uri(0);
    pair.qemu_io(&uri, &["write -P 0x52 0 2M", "flush"], 60);
    // The client sees none of it.
    pair.qemu_io(
        &uri,
        &[
            "write -P 0x53 3M 2M",
            "flush",
            "read -P 0x53 3M 2M",
            "read -P 0x52 0 2M",
        ],
        60,
    );
    let status = pair.status(Node::A);
    assert!(
        ["Failed", "Diskless"].contains(&status.disk(0)),
        "{status:?}"
    );
    assert_eq!(
        (status.role(), status.peer_disk(0)),
        ("Primary", "UpToDate")
    );
    pair.qemu_io(
        &uri,
        &["write -P 0x54 16M 4M", "flush", "read -P 0x54 16M 4M"],
        60,
    );
    // With a good disk it is brought up to date.
    pair.must_exec(Node::A, "secondary");
    pair.must_exec(Node::B, "primary");
    pair.kill(Node::A);
    inject(&pair, Node::A, "");
    pair.start(Node::A);
    pair.wait_in_sync(60);
    pair.qemu_io(&uri, &["read -P 0x53 3M 2M", "read -P 0x54 16M 4M"], 60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_write_error_on_the_secondary_leaves_the_primary_alone() {
    let pair = under_blkdebug(Node::B, &rule("write"));
    let uri = pair.uri(0);
    pair.qemu_io(
        &uri,
        &["write -P 0x55 3M 2M", "flush", "read -P 0x55 3M 2M"],
        60,
    );
    let status = pair.wait_status(Node::A, "told of it", 20, |s| {
        ["Failed", "Diskless"].contains(&s.peer_disk(0))
    });
    assert_eq!((status.role(), status.disk(0)), ("Primary", "UpToDate"));
    assert!(!status.0["reason"].as_str().expect("text").is_empty());
    pair.kill(Node::B);
    inject(&pair, Node::B, "");
    pair.start(Node::B);
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
#[ignore = "needs the disk trouble of issue 3, item 6"]
fn an_unreadable_sector_is_repaired_from_the_peer() {
    let mut pair = Pair::prepare();
    pair.set(
        "PALISADE_DISK",
        "driver=nbd,export=disk,discard=unmap,server.type=unix,server.path=NODE.disk",
    );
    let disks = [Node::A, Node::B].map(|node| {
        let socket = pair.dir().join(format!("{}.disk", node.name()));
        Disk::serve(&socket, disk_bytes(64 << 20))
    });
    pair.must_up(&[]);
    let uri = pair.uri(0);
    pair.qemu_io(&uri, &["write -P 0x56 0 8M", "flush"], 60);
    disks[0].spoil(4 << 20, 4096);
    pair.qemu_io(&uri, &["read -P 0x56 0 8M"], 60);
    wait_for("the sectors were written again", 20, || {
        (disks[0].unreadable() == 0).then_some(())
    });
    pair.qemu_io(&uri, &["read -P 0x56 0 8M"], 60);
    assert_eq!(pair.status(Node::A).disk(0), "UpToDate");
    // Both bad: an error, never wrong data.
    for disk in &disks {
        disk.spoil(6 << 20, 512);
    }
    let output = e2e::tools::run("qemu-io", &["-f", "raw", &uri, "-c", "read 6M 4k"], 60);
    let said = e2e::tools::text(&output.stdout) + &e2e::tools::text(&output.stderr);
    assert!(said.contains("read failed"), "{said}");
}
