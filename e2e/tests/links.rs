//! Cut cables and frozen nodes.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::{Node, Pair};
use std::time::{Duration, Instant};

const LOAD: [&str; 7] = [
    "--rw=randwrite",
    "--bs=4k",
    "--size=16M",
    "--iodepth=8",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--randseed=7",
];

#[test]
fn replication_cut_under_load_and_restored() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    std::thread::scope(|threads| {
        let load = threads.spawn(|| {
            let mut arguments = LOAD.to_vec();
            arguments.extend(["--time_based", "--runtime=12"]);
            pair.fio(&uri, &arguments, 120);
        });
        std::thread::sleep(Duration::from_secs(2));
        pair.cut("replication");
        let alone = pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
        assert_eq!(alone.role(), "Primary");
        pair.wait_status(Node::A, "ahead of its peer", 30, |s| s.out_of_sync(0) > 0);
        pair.restore("replication");
        load.join().expect("fio went on through all of it");
    });
    pair.wait_in_sync(60);
    // Only what changed was copied: the same node was there all the time.
    let copied = pair.resyncs(Node::A);
    assert!(
        matches!(copied[..], [bytes] if bytes <= 16 << 20),
        "{copied:?}"
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn export_cut_and_restored_is_a_pause_for_the_client() {
    let pair = Pair::boot();
    let uri = pair.node_uri(Node::A, 0);
    std::thread::scope(|threads| {
        let load = threads.spawn(|| pair.fio(&uri, &LOAD, 120));
        std::thread::sleep(Duration::from_millis(500));
        pair.cut("export");
        std::thread::sleep(Duration::from_secs(2));
        pair.restore("export");
        load.join().expect("fio went on after the cut");
    });
    assert!(
        pair.status(Node::A).in_sync(),
        "replication had nothing to do with it"
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn two_primaries_after_a_cut_are_a_split_brain_that_the_operator_resolves() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x71 0 1M", "flush"], 60);
    pair.cut("replication");
    for node in [Node::A, Node::B] {
        pair.wait_status(node, "alone", 30, |s| s.connection() != "Connected");
    }
    pair.must_exec(Node::B, "primary --force");
    pair.qemu_io(
        &pair.node_uri(Node::A, 0),
        &["write -P 0x72 0 64k", "flush"],
        60,
    );
    pair.qemu_io(
        &pair.node_uri(Node::B, 0),
        &["write -P 0x73 1M 64k", "flush"],
        60,
    );
    pair.restore("replication");
    for node in [Node::A, Node::B] {
        let status = pair.wait_status(node, "StandAlone", 60, |s| s.connection() == "StandAlone");
        let reason = status.0["reason"].as_str().expect("text");
        assert!(
            reason.contains("split brain") && reason.contains("connect --discard-my-data"),
            "what happened, and what to do: {reason}"
        );
        let log = pair.must_exec(node, "log 50 --level warn");
        assert!(log.contains("split brain"), "{log}");
    }
    // Nothing was merged, and both serve on with what they have.
    pair.qemu_io(
        &pair.node_uri(Node::A, 0),
        &["read -P 0x72 0 64k", "read -P 0 1M 64k"],
        60,
    );
    pair.must_exec(Node::B, "secondary --force");
    pair.must_exec(Node::B, "connect --discard-my-data");
    pair.must_exec(Node::A, "connect");
    pair.wait_in_sync(60);
    pair.qemu_io(
        &pair.node_uri(Node::A, 0),
        &["read -P 0x72 0 64k", "read -P 0 1M 64k"],
        60,
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_frozen_secondary_delays_the_client_no_longer_than_the_timeout() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    pair.qemu_io(&uri, &["write -P 0x81 0 1M"], 60);
    pair.pause(Node::B);
    let begun = Instant::now();
    pair.qemu_io(&uri, &["write -P 0x82 1M 1M", "flush"], 60);
    let stalled = begun.elapsed();
    assert!(
        stalled < Duration::from_secs(20),
        "the write took {stalled:?}"
    );
    pair.resume(Node::B);
    pair.wait_in_sync(60);
    pair.qemu_io(&uri, &["read -P 0x82 1M 1M", "read -P 0x81 0 1M"], 60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_primary_that_was_frozen_shortly_goes_on() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    std::thread::scope(|threads| {
        let load = threads.spawn(|| pair.fio(&uri, &LOAD, 120));
        std::thread::sleep(Duration::from_millis(500));
        pair.pause(Node::A);
        std::thread::sleep(Duration::from_secs(2));
        pair.resume(Node::A);
        load.join().expect("fio went on after the pause");
    });
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_primary_frozen_beyond_the_timeout_meets_its_peer_again() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x91 0 1M", "flush"], 60);
    pair.pause(Node::A);
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    pair.resume(Node::A);
    // Nothing was written meanwhile and nobody was promoted: they find together.
    pair.wait_in_sync(60);
    pair.qemu_io(
        &pair.uri(0),
        &["read -P 0x91 0 1M", "write -P 0x92 0 1M"],
        60,
    );
    pair.assert_identical_after_clean_stop(1);
}
