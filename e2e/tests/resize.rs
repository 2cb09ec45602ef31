//! Volumes that grow under load, and disks that stay sparse.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::load::{Load, Survives};
use e2e::tools::wait_for;
use e2e::{Node, Pair, nbd};
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;

fn grow(pair: &Pair, size: &str) {
    let output = pair.script(&["grow", "--size", size]);
    assert!(output.status.success(), "{output:?}");
    for node in [Node::A, Node::B] {
        wait_for("the larger disk is noticed", 20, || {
            pair.must_exec(node, "log 50")
                .contains("has grown from")
                .then_some(())
        });
    }
}

/// The size that a client is told that connects now.
fn offered(pair: &Pair, node: Node) -> u64 {
    let export = nbd::Client::connect(pair.port(node)).and_then(|mut client| client.go("vol0"));
    export.expect("it serves").size
}

fn size(pair: &Pair, node: Node) -> u64 {
    pair.status(node).0["volumes"][0]["size"]
        .as_u64()
        .expect("a size")
}

#[test]
fn a_volume_grows_under_load_and_through_a_power_cut() {
    for options in [&["--metadata", "internal"], &["--metadata", "external"]] {
        let pair = Pair::boot_with(options);
        let running = Load::new(0, 64 * MIB, 2, 77).start(pair.port(Node::A));
        let mut old = nbd::Client::open(pair.port(Node::A), "vol0").expect("it serves");
        let early = pair
            .exec(Node::A, "resize vol0")
            .expect("nothing to do is no mistake");
        assert!(early.contains("enlarge the disks of both nodes"), "{early}");
        let shrink = pair
            .exec(Node::A, "resize vol0 --size 32MiB")
            .expect_err("it would shrink");
        assert!(shrink.contains("never shrinks"), "{shrink}");
        grow(&pair, "256M");
        assert_eq!(
            offered(&pair, Node::A),
            64 * MIB,
            "not before the operator says so"
        );
        // From the node that does not serve: it leads, the Primary's clients are told last.
        pair.must_exec(Node::B, "resize vol0");
        assert_eq!(offered(&pair, Node::A), 256 * MIB);
        pair.wait_in_sync(60);
        assert_eq!(
            (size(&pair, Node::A), size(&pair, Node::B)),
            (256 * MIB, 256 * MIB)
        );
        let mut new = nbd::Client::open(pair.port(Node::A), "vol0").expect("it serves");
        let end = 256 * MIB - 4096;
        assert_eq!(new.write(end, &[0x5e; 4096]).expect("a reply"), 0);
        assert_eq!(new.read(end, 4096).expect("a reply"), Ok(vec![0x5e; 4096]));
        // Who was connected goes on.
        assert_eq!(
            old.read(0, 4096).expect("a reply").map(|data| data.len()),
            Ok(4096)
        );
        // The Secondary loses its power in the middle of the next growth.
        let before = running.done();
        grow(&pair, "1G");
        std::thread::scope(|scope| {
            let resize = scope.spawn(|| pair.exec(Node::A, "resize vol0 --size=1GiB"));
            std::thread::sleep(std::time::Duration::from_millis(120));
            pair.kill(Node::B);
            println!(
                "    the interrupted resize: {:?}",
                resize.join().expect("it ends")
            );
        });
        pair.start(Node::B);
        pair.wait_in_sync(120);
        let sizes = (size(&pair, Node::A), size(&pair, Node::B));
        println!("    afterwards both have {sizes:?}");
        assert_eq!(sizes.0, sizes.1);
        pair.must_exec(Node::A, "resize vol0 --size=1GiB");
        pair.wait_in_sync(120);
        assert_eq!(
            (offered(&pair, Node::A), size(&pair, Node::B)),
            (1024 * MIB, 1024 * MIB)
        );
        assert!(
            running.alive() && running.done() > before,
            "clients noticed nothing"
        );
        let mut load = running.stop();
        load.verify(pair.port(Node::A), Survives::Answered);
        // And what has grown lasts.
        drop((old, new));
        pair.kill(Node::A);
        pair.start(Node::A);
        pair.wait_status(Node::A, "connected", 60, |s| s.connection() == "Connected");
        pair.wait_in_sync(120);
        pair.must_exec(Node::B, "primary");
        assert_eq!(offered(&pair, Node::B), 1024 * MIB);
        load.verify(pair.port(Node::B), Survives::Answered);
        pair.assert_identical_after_clean_stop(1);
    }
}

#[test]
fn a_disk_that_grew_while_its_node_was_down_is_found() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x21 0 1M", "flush"], 30);
    pair.kill(Node::B);
    // One disk through the monitor, the other one as a file.
    let output = pair.script(&["grow", "--size", "300M"]);
    assert!(output.status.success(), "{output:?}");
    pair.start(Node::B);
    pair.wait_in_sync(60);
    assert_eq!(size(&pair, Node::B), 64 * MIB);
    pair.must_exec(Node::A, "resize vol0 --assume-clean");
    assert_eq!(
        (size(&pair, Node::A), size(&pair, Node::B)),
        (300 * MIB, 300 * MIB)
    );
    pair.qemu_io(
        &pair.uri(0),
        &["read -P 0x21 0 1M", "read -P 0 64M 236M"],
        60,
    );
    pair.assert_identical_after_clean_stop(1);
}

/// Bytes that an image takes on the host.
fn allocated(pair: &Pair, node: Node) -> u64 {
    let image = std::fs::metadata(pair.image(node, 0)).expect("the image");
    image.blocks() * 512
}

fn both(pair: &Pair) -> [u64; 2] {
    let both = [Node::A, Node::B].map(|node| allocated(pair, node));
    println!(
        "    allocated: {} KiB on a, {} KiB on b",
        both[0] >> 10,
        both[1] >> 10
    );
    both
}

#[test]
fn discards_and_zeroes_leave_both_disks_sparse() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    let blank = both(&pair);
    assert!(
        blank.iter().all(|bytes| *bytes < MIB),
        "new disks take nothing: {blank:?}"
    );
    pair.qemu_io(&uri, &["write -P 0x77 0 48M", "flush"], 60);
    assert!(both(&pair).iter().all(|bytes| *bytes >= 48 * MIB));
    pair.qemu_io(&uri, &["discard 0 16M", "flush"], 60);
    assert!(
        both(&pair).iter().all(|bytes| *bytes < 34 * MIB),
        "after a discard"
    );
    pair.qemu_io(&uri, &["write -z -u 16M 16M", "flush"], 60);
    assert!(
        both(&pair).iter().all(|bytes| *bytes < 18 * MIB),
        "after zeroes that may be holes"
    );
    pair.qemu_io(&uri, &["read -P 0 0 32M", "read -P 0x77 32M 16M"], 60);
    // What the peer missed arrives as holes, too: a discard, zeroes, and zeroes that were written as data.
    pair.kill(Node::B);
    pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
    pair.qemu_io(&uri, &["discard 32M 8M", "write -P 0 40M 8M", "flush"], 60);
    pair.start(Node::B);
    pair.wait_in_sync(60);
    let after = both(&pair);
    assert!(after[1] < 2 * MIB, "the resync's target: {after:?}");
    assert!(
        after[0] < 10 * MIB,
        "its source has what was written as data: {after:?}"
    );
    pair.qemu_io(&uri, &["read -P 0 0 64M"], 60);
    pair.assert_identical_after_clean_stop(1);
    // Of a blank disk a full copy takes nothing either.
    let after = both(&pair);
    assert!(after[1] < 2 * MIB, "{after:?}");
}
