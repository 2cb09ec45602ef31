//! Disks that fail (issue 3, item 6): by QEMU's blkdebug, and by disks with unreadable sectors.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::forgetful::Disk;
use e2e::tools::wait_for;
use e2e::{Node, Pair};

const SIZE: u64 = 64 << 20;

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
fn an_unreadable_sector_is_repaired_from_the_peer() {
    let mut pair = Pair::prepare();
    let disks = Disk::under(&mut pair, SIZE);
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

#[test]
fn a_disk_that_hangs_holds_clients_up_no_longer_than_its_limit() {
    let mut pair = Pair::prepare();
    let disks = Disk::under(&mut pair, SIZE);
    pair.must_up(&[]);
    for node in [Node::A, Node::B] {
        pair.kill(node);
        let config = pair.dir().join(format!("{}.toml", node.name()));
        let text = std::fs::read_to_string(&config).expect("its configuration");
        std::fs::write(config, text + "[disk]\ndisk-timeout = \"2s\"\n").expect("writable");
    }
    pair.start(Node::A);
    pair.start(Node::B);
    pair.wait_in_sync(60);
    pair.must_exec(Node::A, "primary");
    let uri = pair.uri(0);
    let mut fill = 0x60;
    // The Secondary's: the Primary goes on alone. The Primary's: it goes on through its peer.
    for (node, disk) in [(Node::B, &disks[1]), (Node::A, &disks[0])] {
        disk.hang(true);
        for at in 0..2 {
            fill += 1;
            let write = format!("write -P {fill} {at}M 1M");
            pair.qemu_io(
                &uri,
                &[&write, "flush", &write.replace("write", "read")],
                60,
            );
        }
        let state = |s: &e2e::pair::Status| match node {
            Node::A => s.disk(0).to_owned(),
            Node::B => s.peer_disk(0).to_owned(),
        };
        let status = pair.status(Node::A);
        assert!(
            ["Failed", "Diskless"].contains(&&*state(&status)),
            "{status:?}"
        );
        assert_eq!(status.role(), "Primary");
        disk.hang(false);
        wait_for("it is attached again", 30, || {
            pair.exec(node, "attach vol0").ok()
        });
        pair.wait_in_sync(60);
    }
    assert_eq!(disks[0].first_difference(&disks[1], SIZE), None);
}

#[test]
fn detached_and_attached_by_hand() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    pair.qemu_io(&uri, &["write -P 0x71 0 8M", "flush"], 60);
    for node in [Node::B, Node::A] {
        pair.must_exec(node, "detach vol0");
        assert_eq!(pair.status(node).disk(0), "Diskless");
        pair.qemu_io(
            &uri,
            &[
                "write -P 0x72 8M 4M",
                "flush",
                "read -P 0x72 8M 4M",
                "read -P 0x71 0 8M",
            ],
            60,
        );
        pair.must_exec(node, "attach vol0");
        pair.wait_in_sync(60);
    }
    // Only what was missed was copied.
    for node in [Node::A, Node::B] {
        let copied = pair.resyncs(node);
        assert!(copied.iter().sum::<u64>() <= 24 << 20, "{copied:?}");
    }
    pair.assert_identical_after_clean_stop(1);
}
