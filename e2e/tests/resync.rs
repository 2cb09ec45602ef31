//! Resync: under load, cut short, of several volumes; and processes that are stopped for a while.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::load::{Load, Running, Survives};
use e2e::tools::wait_for;
use e2e::{Node, Pair};
use std::time::Duration;

const SIZE: u64 = 64 << 20;

fn busy(running: &[Running]) {
    for load in running {
        let before = load.done();
        wait_for("the load goes on", 60, || {
            (load.done() > before + 20).then_some(())
        });
    }
}

fn stop(pair: &Pair, primary: Node, running: Vec<Running>) -> Vec<Load> {
    let loads = running.into_iter().map(|running| {
        assert!(running.alive(), "its connections never broke");
        let mut load = running.stop();
        load.verify(pair.port(primary), Survives::Answered);
        load
    });
    loads.collect()
}

#[test]
fn three_volumes_at_once_under_load() {
    let pair = Pair::boot_with(&["--volumes", "3"]);
    let start = |loads: Vec<Load>, primary| -> Vec<Running> {
        let loads = loads.into_iter();
        loads.map(|load| load.start(pair.port(primary))).collect()
    };
    let loads = (0..3).map(|volume| Load::new(volume, SIZE, 2, 40 + u64::from(volume)));
    let running = start(loads.collect(), Node::A);
    busy(&running);
    pair.kill(Node::B);
    pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
    busy(&running);
    pair.start(Node::B);
    pair.wait_in_sync(120);
    busy(&running);
    assert_eq!(pair.resyncs(Node::A).len(), 3, "each volume had its resync");
    let loads = stop(&pair, Node::A, running);
    // And with the roles changed: the Primary's power fails, and it comes back under the load of the other.
    let running = start(loads, Node::A);
    busy(&running);
    pair.kill(Node::A);
    let mut loads: Vec<Load> = running.into_iter().map(Running::stop).collect();
    pair.must_exec(Node::B, "primary --force");
    for load in &mut loads {
        load.verify(pair.port(Node::B), Survives::Answered);
    }
    let running = start(loads, Node::B);
    pair.start(Node::A);
    pair.wait_in_sync(120);
    busy(&running);
    stop(&pair, Node::B, running);
    pair.assert_identical_after_clean_stop(3);
}

#[test]
fn a_resync_that_is_cut_short_goes_on() {
    let pair = Pair::boot_with(&["--size", "512M"]);
    let uri = pair.uri(0);
    // Slow enough for every cut to come in the middle of it, however fast the machine is. The source decides.
    pair.kill(Node::A);
    let config = pair.dir().join("a.toml");
    let text = std::fs::read_to_string(&config).expect("the node's configuration");
    let text = text + "[resync]\nc-min-rate = \"32MiB\"\nc-max-rate = \"32MiB\"\n";
    std::fs::write(&config, text).expect("room for it");
    pair.start(Node::A);
    pair.wait_in_sync(60);
    pair.must_exec(Node::A, "primary");
    pair.kill(Node::B);
    pair.qemu_io(&uri, &["write -P 0x61 64M 256M", "flush"], 120);
    let resyncs = |node: Node| {
        let status = pair.wait_status(node, "in a resync", 60, |s| {
            s.replication(0) == "SyncSource" || s.replication(0) == "SyncTarget"
        });
        assert!(!status.in_sync(), "it still runs: {status:?}");
    };
    // The target goes, the cable, the source, and both.
    pair.start(Node::B);
    resyncs(Node::A);
    pair.kill(Node::B);
    pair.start(Node::B);
    resyncs(Node::A);
    pair.cut("replication");
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    assert_eq!(pair.status(Node::B).disk(0), "Inconsistent");
    let refused = pair.exec(Node::B, "primary --force");
    let refused = refused.expect_err("half a copy never serves");
    assert!(refused.contains("unfinished resync"), "{refused}");
    pair.restore("replication");
    resyncs(Node::A);
    pair.kill(Node::A);
    pair.start(Node::A);
    resyncs(Node::A);
    pair.kill(Node::A);
    pair.kill(Node::B);
    pair.start(Node::B);
    assert_eq!(pair.status(Node::B).disk(0), "Inconsistent");
    pair.start(Node::A);
    pair.wait_in_sync(120);
    pair.must_exec(Node::B, "primary");
    pair.qemu_io(
        &uri,
        &[
            "read -P 0 0 64M",
            "read -P 0x61 64M 256M",
            "read -P 0 320M 1M",
        ],
        120,
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn stopped_processes() {
    let pair = Pair::boot();
    let running = Load::new(0, SIZE, 3, 9).start(pair.port(Node::A));
    let running = [running];
    busy(&running);
    // Each for less than the timeout: nothing happens but a pause.
    for node in [Node::A, Node::B] {
        pair.signal(node, "STOP");
        std::thread::sleep(Duration::from_secs(2));
        pair.signal(node, "CONT");
        busy(&running);
        assert!(pair.status(Node::A).in_sync(), "{} was slow", node.name());
    }
    // The Secondary for longer: the Primary goes on alone, and brings it up to date when it is back.
    pair.signal(Node::B, "STOP");
    pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
    busy(&running);
    pair.signal(Node::B, "CONT");
    pair.wait_in_sync(60);
    busy(&running);
    // The Primary for longer: its peer loses it, but nobody promotes that.
    pair.signal(Node::A, "STOP");
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    pair.signal(Node::A, "CONT");
    pair.wait_in_sync(60);
    busy(&running);
    stop(&pair, Node::A, running.into());
    pair.assert_identical_after_clean_stop(1);
}
