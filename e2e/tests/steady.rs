//! The steady state: memory is taken at boot and for connections, not for requests.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::load::{Load, Running};
use e2e::tools::wait_for;
use e2e::{Node, Pair};

const SIZE: u64 = 64 << 20;

fn more(load: &Running, requests: u64) {
    let before = load.done();
    wait_for("the load goes on", 120, || {
        (load.done() > before + requests).then_some(())
    });
}

#[test]
fn requests_allocate_no_memory_on_either_node() {
    let pair = Pair::boot();
    let running = Load::new(0, SIZE, 3, 51).start(pair.port(Node::A));
    // Connections, and extents that are entered for the first time.
    more(&running, 300);
    let allocations = || [Node::A, Node::B].map(|node| pair.status(node).allocations());
    let before = allocations();
    assert!(
        before.iter().all(|count| *count > 0),
        "attaching a disk takes memory, so nothing was counted: {before:?}"
    );
    more(&running, 3000);
    assert_eq!(allocations(), before, "of a, and of b");
    assert!(running.alive(), "its connections never broke");
    running.stop();
    // Nor does the copying of a resync, but for its beginning: the exchange of bitmaps.
    pair.must_exec(Node::B, "invalidate vol0");
    pair.wait_status(Node::A, "in a resync, or done", 60, |s| {
        s.replication(0) == "SyncSource" || s.in_sync()
    });
    let before = allocations();
    pair.wait_in_sync(120);
    assert_eq!(allocations(), before, "of a and of b, in a resync");
}
