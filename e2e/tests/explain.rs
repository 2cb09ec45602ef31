//! What an operator sees of decisions: a split brain explained, dry runs, and the metadata on the disk.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::wait_for;
use e2e::{Node, Pair};

/// The lineage of both nodes' only volume, as their disks have it.
fn lineage(pair: &Pair) -> [String; 2] {
    [Node::A, Node::B].map(|node| {
        let said = pair.must_exec(node, "inspect vol0");
        let lines = said.lines();
        let kept = lines.filter(|line| line.starts_with("generation") || line.starts_with("disk"));
        kept.collect::<Vec<_>>().join("\n")
    })
}

/// Without the line breaks of an 80-column terminal.
fn flat(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn alone(pair: &Pair, node: Node) {
    pair.wait_status(node, "alone", 30, |s| s.connection() == "StandAlone");
}

#[test]
fn a_split_brain_is_explained_tried_dry_and_resolved() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x11 0 1M", "flush"], 60);
    let connected = pair.must_exec(Node::B, "explain");
    assert!(
        connected.contains("last handshake") && connected.contains("result"),
        "{connected}"
    );
    // Both go on alone.
    pair.cut("replication");
    pair.wait_status(Node::B, "alone", 60, |s| s.connection() != "Connected");
    // Each says whom it looks for in vain.
    for (node, words) in [
        (Node::B, "no answer from 10.77.0.1:7789 for "),
        (Node::A, "no call from 10.77.0.2 for "),
    ] {
        pair.wait_status(node, "searching", 60, |s| s.reason().contains(words));
        let said = flat(&pair.must_exec(node, "explain"));
        assert!(said.contains(&format!("not connected: {words}")), "{said}");
        wait_for("a word in the log", 60, || {
            let log = pair.must_exec(node, "log 50 --level warn");
            log.contains(words).then_some(())
        });
    }
    pair.must_exec(Node::B, "primary --force");
    pair.qemu_io(
        &pair.node_uri(Node::A, 0),
        &["write -P 0x22 4M 1M", "flush"],
        60,
    );
    pair.qemu_io(
        &pair.node_uri(Node::B, 0),
        &["write -P 0x33 8M 2M", "flush"],
        60,
    );
    pair.restore("replication");
    alone(&pair, Node::A);
    alone(&pair, Node::B);
    for node in [Node::A, Node::B] {
        let said = flat(&pair.must_exec(node, "explain"));
        for words in [
            "both went on alone from the same generation",
            "90 in DRBD's table",
            "after-sb-2pri disconnect: the operator decides",
            "split brain: no connection",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    let refused = pair
        .exec(Node::B, "connect --dry-run --discard-my-data")
        .expect_err("a Primary");
    assert!(refused.contains("'secondary'"), "{refused}");
    pair.must_exec(Node::B, "secondary");
    // The Primary looks for its peer, which only asks.
    pair.must_exec(Node::A, "connect");
    let before = lineage(&pair);
    let said = flat(&pair.must_exec(Node::B, "connect --dry-run"));
    assert!(
        said.contains("after-sb-1pri disconnect") && said.contains("would be split brain"),
        "{said}"
    );
    assert!(said.contains("nothing was changed"), "{said}");
    alone(&pair, Node::B);
    let said = flat(&pair.must_exec(Node::B, "connect --dry-run --discard-my-data"));
    assert!(
        said.contains("gave this node's changes up")
            && said.contains("would be resync by bitmap of")
            && said.contains("from the peer to this node"),
        "{said}"
    );
    // The peer has the same from its own side, for those who ask there.
    let there = flat(&pair.must_exec(Node::A, "explain"));
    assert!(
        there.contains("dry run,") && there.contains("from this node to the peer"),
        "{there}"
    );
    let log = pair.must_exec(Node::A, "log 30");
    assert!(log.contains("dry run of the peer: vol0"), "{log}");
    assert_eq!(lineage(&pair), before, "nothing was changed on either disk");
    alone(&pair, Node::B);
    pair.must_exec(Node::B, "connect --discard-my-data");
    pair.wait_in_sync(60);
    // The blocks that either node wrote alone.
    let log = pair.must_exec(Node::A, "log 30");
    assert!(log.contains("resync done: 3145728 bytes"), "{log}");
    pair.qemu_io(
        &pair.uri(0),
        &["read -P 0x22 4M 1M", "read -P 0 8M 2M", "read -P 0x11 0 1M"],
        60,
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn metadata_is_shown_in_use_detached_and_never_there() {
    let pair = Pair::boot_with(&["--volumes", "2"]);
    pair.qemu_io(&pair.uri(0), &["write -P 0x44 0 4M"], 60);
    let said = pair.must_exec(Node::A, "inspect");
    for words in [
        "vol0 of resource r0 on node a",
        "vol1 of resource r0 on node a",
        "vol0: the metadata is good",
        "vol1: the metadata is good",
        "activity log",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    pair.must_exec(Node::B, "detach vol1");
    let said = pair.must_exec(Node::B, "inspect 1");
    assert!(
        said.contains("vol1 of resource r0 on node b") && said.contains("is good"),
        "{said}"
    );
    pair.must_exec(Node::B, "attach vol1");
    pair.wait_in_sync(60);
    // The host tool, which reads the image when no node uses it, says the same of the lineage.
    let shown = pair.must_exec(Node::B, "inspect vol0");
    pair.assert_identical_after_clean_stop(2);
    let current = pair.metadata(Node::B, 0)["superblock"]["current"].clone();
    let current = current.as_str().expect("a generation");
    assert!(shown.contains(current), "{current}: {shown}");
}
