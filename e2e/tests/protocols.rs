//! Protocol A with a peer whose disk is slow (issue 3, item 7): clients do not wait for it, until too much is on its way;
//! then the Primary pulls ahead, and resyncs by itself.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::forgetful::Disk;
use e2e::nbd::{CMD_FLUSH, Client};
use e2e::{Node, Pair};
use std::time::Duration;

const SIZE: u64 = 64 << 20;
const BLOCK: usize = 4096;
/// What each request takes at the peer's disk.
const DELAY: Duration = Duration::from_millis(250);
/// Writes that are less than 64 KiB.
const FEW: u64 = 8;

fn client(pair: &Pair) -> Client {
    let mut client = Client::open(pair.port(Node::A), "vol0").expect("an export");
    client.patience(Duration::from_secs(90));
    client
}

/// Writes so many blocks from a place on, one after the answer to the other.
fn write(client: &mut Client, from: u64, count: u64, fill: u8) {
    for n in 0..count {
        let offset = (from + n) * BLOCK as u64;
        let error = client.write(offset, &[fill; BLOCK]).expect("an answer");
        assert_eq!(error, 0);
    }
}

fn flush(client: &mut Client) {
    assert_eq!(client.command(CMD_FLUSH, 0, 0).expect("an answer"), 0);
}

#[test]
fn protocol_a_does_not_wait_for_a_slow_peer_and_pulls_ahead_of_it() {
    let mut pair = Pair::prepare();
    let disks = Disk::under(&mut pair, SIZE);
    pair.must_up(&[]);
    for node in [Node::A, Node::B] {
        pair.kill(node);
        let config = pair.dir().join(format!("{}.toml", node.name()));
        let text = std::fs::read_to_string(&config).expect("its configuration");
        let text = text.replace("name = \"r0\"\n", "name = \"r0\"\nprotocol = \"A\"\n");
        let more = "[replication]\non-congestion = \"pull-ahead\"\ncongestion-fill = \"64KiB\"\n";
        std::fs::write(config, text + more).expect("writable");
    }
    pair.start(Node::A);
    pair.start(Node::B);
    pair.wait_in_sync(60);
    pair.must_exec(Node::A, "primary");
    assert_eq!(pair.status(Node::A).protocol(), "A");
    let mut by_a = client(&pair);
    write(&mut by_a, 0, 1, 0x22);
    flush(&mut by_a);
    // The peer's disk does nothing, so by protocol C none of these would be answered.
    disks[1].hang(true);
    write(&mut by_a, 0, FEW, 0x22);
    assert_eq!(pair.status(Node::A).lag(0), FEW * BLOCK as u64);
    // A flush is answered when the peer has all of it.
    disks[1].hang(false);
    flush(&mut by_a);
    assert_eq!(pair.status(Node::A).lag(0), 0);
    disks[1].slow(DELAY);
    // More than 64 KiB, and none of it waits for its own turn.
    write(&mut by_a, 16, 64, 0x33);
    let ahead = pair.wait_status(Node::A, "ahead", 60, |s| s.replication(0) == "Ahead");
    assert_eq!(ahead.peer_disk(0), "Outdated", "{ahead:?}");
    assert!(ahead.out_of_sync(0) > 0);
    let behind = pair.status(Node::B);
    assert_eq!(
        (behind.replication(0), behind.disk(0)),
        ("Behind", "Outdated")
    );
    disks[1].slow(Duration::ZERO);
    pair.wait_in_sync(120);
    flush(&mut by_a);
    drop(by_a);
    pair.must_exec(Node::A, "secondary --force");
    for (node, disk) in [Node::A, Node::B].into_iter().zip(&disks) {
        pair.power_off(node);
        disk.save(&pair.image(node, 0));
    }
    pair.assert_identical(1);
    assert_eq!(disks[0].first_difference(&disks[1], SIZE), None);
}
