//! What a resync's target had before: exported, given back, given up.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::nbd::Client;
use e2e::pair::Status;
use e2e::tools::{first_difference, must, text, wait_for};
use e2e::{Node, Pair};
use std::path::{Path, PathBuf};

const SIZE: u64 = 64 << 20;
const NAME: &str = "vol0@before-resync";
const OPT_LIST: u32 = 3;

fn uri(pair: &Pair) -> String {
    format!("nbd://127.0.0.1:{}/{NAME}", pair.snapshot_port(Node::B))
}

/// The exports that node b lists on the port of its snapshots.
fn listed(pair: &Pair) -> Vec<String> {
    let mut client =
        Client::connect(pair.snapshot_port(Node::B)).expect("it greets, whatever the role");
    client.send_option(OPT_LIST, &[]).expect("connected");
    let mut names = Vec::new();
    loop {
        match client.option_reply(OPT_LIST).expect("an answer") {
            (2, data) => names.push(text(&data[4..])),
            (1, _) => return names,
            (kind, _) => panic!("{kind} to LIST"),
        }
    }
}

/// What node b has as volume 0 now; it must be off.
fn copy_of_b(pair: &Pair) -> PathBuf {
    let copy = pair.dir().join("old.img");
    let image = pair.image(Node::B, 0);
    let words = [image, copy.clone()].map(|path| path.to_str().expect("UTF-8").to_owned());
    must("cp", &["--sparse=always", &words[0], &words[1]], 60);
    copy
}

/// Fetches an export and compares it with a file.
fn assert_same(pair: &Pair, uri: &str, file: &Path) {
    let got = pair.dir().join("got.img");
    let path = got.to_str().expect("UTF-8");
    must(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "raw", uri, path],
        120,
    );
    assert_eq!(std::fs::metadata(&got).expect("a file").len(), SIZE);
    let difference = first_difference(&got, file, SIZE);
    assert_eq!(difference, None, "{uri} differs from what was there before");
}

/// A pair whose node b keeps what it had, with old data on both; then a alone wrote `lengths`. b is off.
fn parted(options: &[&str], rate: &str, more: &[&str]) -> (Pair, PathBuf) {
    let pair = Pair::boot_with(options);
    // The source decides how fast it is.
    pair.kill(Node::A);
    let config = pair.dir().join("a.toml");
    let text = std::fs::read_to_string(&config).expect("the node's configuration");
    let text = format!("{text}[resync]\nc-min-rate = \"{rate}\"\nc-max-rate = \"{rate}\"\n");
    std::fs::write(&config, text).expect("room for it");
    pair.start(Node::A);
    pair.wait_in_sync(60);
    pair.must_exec(Node::A, "primary");
    pair.qemu_io(
        &pair.uri(0),
        &["write -P 0x11 0 12M", "write -P 0x12 20M 3M", "flush"],
        60,
    );
    pair.kill(Node::B);
    pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
    pair.qemu_io(&pair.uri(0), &[more, &["flush"]].concat(), 60);
    let old = copy_of_b(&pair);
    (pair, old)
}

fn in_resync(status: &Status) -> bool {
    let overwritten = || matches!(status.snapshot(0), ("held", used) if used > 0);
    status.replication(0) == "SyncTarget" && overwritten()
}

#[test]
fn it_can_be_read_in_mid_resync_and_until_its_end() {
    let more = [
        "write -P 0x21 4M 6M",
        "write -P 0x22 22M 2M",
        "discard 0 1M",
    ];
    let (pair, old) = parted(&["--snapshot", "required"], "1MiB", &more);
    pair.start(Node::B);
    pair.wait_status(Node::B, "overwritten", 60, in_resync);
    // It stands still in the middle, with something overwritten and something not.
    pair.must_exec(Node::A, "pause-sync");
    pair.wait_status(Node::B, "paused", 30, |s| {
        s.replication(0) == "PausedSyncT" || in_resync(s)
    });
    assert_eq!(listed(&pair), [NAME]);
    assert_same(&pair, &uri(&pair), &old);
    // Clients' writes are mirrored all the while.
    pair.qemu_io(
        &pair.uri(0),
        &["write -P 0x31 0 2M", "write -P 0x32 30M 64k", "flush"],
        60,
    );
    assert_same(&pair, &uri(&pair), &old);
    let mut client = Client::connect(pair.snapshot_port(Node::B)).expect("it greets");
    let export = client.go(NAME).expect("it is there");
    // 1 HAS_FLAGS, 2 READ_ONLY.
    assert_eq!((export.size, export.flags & 3), (SIZE, 3));
    assert_eq!(client.write(0, &[7; 4096]).expect("an answer"), 1, "EPERM");
    // The standby keeps its greeting to itself where the volume is exported.
    assert!(Client::connect(pair.port(Node::B)).is_err());

    pair.must_exec(Node::A, "resume-sync");
    let bytes = std::fs::read(&old).expect("the copy");
    let (mut reads, mut at) = (0, 0);
    // Until the snapshot is dropped: then the connection is.
    while let Ok(answer) = client.read(at, 64 << 10) {
        let data = answer.expect("no error from a disk that is well");
        let from = usize::try_from(at).expect("small");
        assert!(
            data == bytes[from..from + data.len()],
            "read {reads} at {at}"
        );
        reads += 1;
        at = (at + (192 << 10)) % (24 << 20);
    }
    println!("{reads} reads until the resync had ended");
    assert!(reads > 0);
    pair.wait_in_sync(60);
    assert_eq!(pair.status(Node::B).snapshot(0), ("none", 0));
    wait_for("nothing is listed any more", 10, || {
        listed(&pair).is_empty().then_some(())
    });
    assert!(Client::open(pair.snapshot_port(Node::B), NAME).is_err());
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn the_source_is_gone_in_mid_resync_and_the_old_state_comes_back() {
    let more = [
        "write -P 0x21 4M 6M",
        "write -P 0x22 40M 1M",
        "discard 0 1M",
    ];
    let (pair, old) = parted(&["--snapshot", "required"], "1MiB", &more);
    pair.start(Node::B);
    pair.wait_status(Node::B, "overwritten", 60, in_resync);
    pair.kill(Node::A);
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    assert_eq!(pair.status(Node::B).disk(0), "Inconsistent");
    let refused = pair.exec(Node::B, "primary --force");
    assert!(refused.is_err_and(|why| why.contains("unfinished resync")));
    assert_same(&pair, &uri(&pair), &old);
    // Nothing of that is lost with the power.
    pair.kill(Node::B);
    pair.start(Node::B);
    wait_for("it is exported again", 30, || {
        (listed(&pair) == [NAME]).then_some(())
    });
    assert_same(&pair, &uri(&pair), &old);
    let said = pair.must_exec(Node::B, "rollback vol0");
    assert!(said.contains("Nothing was changed"), "{said}");
    pair.must_exec(Node::B, "rollback vol0 --yes");
    let status = pair.status(Node::B);
    assert_eq!(
        (status.disk(0), status.snapshot(0).0),
        ("Outdated", "rolled-back")
    );
    assert_eq!(listed(&pair), [] as [&str; 0]);
    let refused = pair.exec(Node::B, "primary");
    assert!(
        refused.is_err(),
        "not without the operator's word: {refused:?}"
    );
    pair.must_exec(Node::B, "primary --force");
    assert_same(&pair, &pair.node_uri(Node::B, 0), &old);
    // It is written to, and the former source comes back: whose data is to be given up is an operator's word.
    pair.qemu_io(
        &pair.node_uri(Node::B, 0),
        &["write -P 0x41 1M 64k", "flush"],
        60,
    );
    pair.start(Node::A);
    pair.wait_status(Node::A, "apart", 60, |s| s.connection() == "StandAlone");
    pair.must_exec(Node::A, "connect --discard-my-data");
    pair.must_exec(Node::B, "connect");
    pair.wait_in_sync(120);
    let here = [
        "read -P 0x11 0 1M",
        "read -P 0x41 1M 64k",
        "read -P 0x11 4M 6M",
        "read -P 0 40M 1M",
    ];
    pair.qemu_io(&pair.node_uri(Node::B, 0), &here, 60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn with_a_reserve_that_is_too_small_a_required_snapshot_is_waited_for() {
    let options = ["--snapshot", "required", "--reserve", "1M"];
    let (pair, _) = parted(&options, "1MiB", &["write -P 0x21 4M 2M"]);
    pair.start(Node::B);
    let waits = |s: &Status| s.reason().contains("its snapshot may need");
    pair.wait_status(Node::B, "waiting for room", 60, waits);
    assert_eq!(
        pair.status(Node::B).disk(0),
        "Consistent",
        "nothing was overwritten"
    );
    assert_eq!(listed(&pair), [] as [&str; 0]);
    pair.must_exec(Node::B, "drop-snapshot vol0");
    pair.wait_in_sync(60);
    // There was room for what had to be copied, and then clients wrote more.
    let fill = |pair: &Pair| {
        pair.kill(Node::B);
        pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
        pair.qemu_io(&pair.uri(0), &["write -P 0x23 6M 900k", "flush"], 60);
        pair.start(Node::B);
        pair.wait_status(Node::B, "overwritten", 60, in_resync);
        pair.must_exec(Node::A, "pause-sync");
        pair.qemu_io(&pair.uri(0), &["write -P 0x24 30M 2M", "flush"], 60);
    };
    fill(&pair);
    let stuck = |s: &Status| {
        s.snapshot(0).0 == "stuck" && s.reason().contains("reserve of its snapshot is full")
    };
    pair.wait_status(Node::B, "stuck", 60, stuck);
    // What it has is whole all the same.
    assert_eq!(listed(&pair), [NAME]);
    let mut client = Client::open(pair.snapshot_port(Node::B), NAME).expect("it is there");
    for (at, byte) in [(6, 0x11), (8, 0x11), (20, 0x12), (30, 0), (31, 0)] {
        let read = client.read(at << 20, 1 << 20).expect("connected");
        let all = read.expect("no error").iter().all(|found| *found == byte);
        assert!(all, "at {at} MiB");
    }
    pair.must_exec(Node::B, "drop-snapshot vol0");
    pair.must_exec(Node::A, "resume-sync");
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn with_a_reserve_that_is_too_small_the_best_effort_is_none() {
    let options = ["--snapshot", "best-effort", "--reserve", "1M"];
    let (pair, _) = parted(&options, "512KiB", &["write -P 0x21 4M 900k"]);
    pair.start(Node::B);
    pair.wait_status(Node::B, "overwritten", 60, in_resync);
    pair.must_exec(Node::A, "pause-sync");
    let mut client = Client::open(pair.snapshot_port(Node::B), NAME).expect("it is there");
    let read = client.read(4 << 20, 64 << 10).expect("connected");
    assert!(read.expect("no error") == [0x11; 64 << 10]);
    // Clients write more than there is room for: the snapshot goes, and who reads it.
    pair.qemu_io(&pair.uri(0), &["write -P 0x24 30M 2M", "flush"], 60);
    pair.wait_status(Node::B, "without", 30, |s| s.snapshot(0).0 == "none");
    wait_for("its client is dropped", 30, || {
        client.read(4 << 20, 4096).is_err().then_some(())
    });
    assert_eq!(pair.status(Node::B).connection(), "Connected");
    let log = pair.must_exec(Node::B, "log 200");
    assert!(
        log.contains("the snapshot is dropped: its reserve is full"),
        "{log}"
    );
    pair.must_exec(Node::A, "resume-sync");
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(1);
}
