//! Real NBD clients on a pair: what they write is what they read, and it is on both disks.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::{must, pattern, scratch, text};
use e2e::{Node, Pair};
use std::path::Path;

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn qemu_io_patterns_with_fua_and_flush() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    pair.qemu_io(
        &uri,
        &[
            "write -P 0x11 0 64k",
            "write -f -P 0x22 64k 4k",
            "write -P 0x33 68k 512",
            "write -f -P 0x44 1M 2M",
            "flush",
            "write -z 256k 64k",
            "write -P 0x55 67108352 512",
            "flush",
        ],
        60,
    );
    let reads = [
        "read -P 0x11 0 64k",
        "read -P 0x22 64k 4k",
        "read -P 0x33 68k 512",
        "read -P 0 70144 1k",
        "read -P 0x44 1M 2M",
        "read -P 0 256k 64k",
        "read -P 0x55 67108352 512",
    ];
    pair.qemu_io(&uri, &reads, 60);
    pair.assert_identical_after_clean_stop(1);
    // The image itself holds it, without any Palisade in between.
    let output = must(
        "qemu-io",
        &[
            "-r",
            "-f",
            "raw",
            path(&pair.image(Node::B, 0)),
            "-c",
            reads[0],
            "-c",
            reads[4],
        ],
        30,
    );
    assert!(!output.contains("verification failed"), "{output}");
}

#[test]
fn nbdcopy_both_ways_with_four_connections() {
    let pair = Pair::boot();
    let dir = scratch();
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    // Data, a hole, data: nbdcopy sends the hole as zeroes.
    let mut image = pattern(1, 24 << 20);
    image.extend(vec![0; 16 << 20]);
    image.extend(pattern(2, 24 << 20));
    std::fs::write(&there, &image).expect("a writable directory");
    let uri = pair.uri(0);
    let four = ["--connections=4", "--threads=4", "--requests=64"];
    must(
        "nbdcopy",
        &[&four[..], &["--flush", path(&there), &uri]].concat(),
        120,
    );
    must("nbdcopy", &[&four[..], &[&uri, path(&back)]].concat(), 120);
    assert!(
        std::fs::read(&back).expect("a copy") == image,
        "what came back differs"
    );
    pair.assert_identical_after_clean_stop(1);
    let disk = std::fs::read(pair.image(Node::B, 0)).expect("an image");
    assert!(disk[..image.len()] == image, "node b's disk differs");
}

#[test]
fn trim_and_zeroes_reach_both_disks() {
    let pair = Pair::boot();
    pair.qemu_io(
        &pair.uri(0),
        &[
            "write -P 0x77 0 16M",
            "flush",
            // Zeroes that may punch, zeroes that may not, trims; odd sectors at the edges.
            "write -z -u 1M 3M",
            "write -z 5M 1M",
            "discard 8M 4M",
            "write -z 13107712 512",
            "flush",
            "read -P 0 1M 3M",
            "read -P 0 5M 1M",
            "read -P 0 13107712 512",
            "read -P 0x77 13107200 512",
            "read -P 0x77 0 1M",
        ],
        60,
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn fio_verifies_at_every_depth() {
    let pair = Pair::boot();
    for depth in ["1", "4", "32"] {
        pair.fio(
            &pair.uri(0),
            &[
                "--rw=randwrite",
                "--bsrange=512-128k",
                "--bs_unaligned=0",
                "--blockalign=512",
                "--size=32M",
                "--io_size=16M",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--do_verify=1",
                &format!("--iodepth={depth}"),
            ],
            120,
        );
    }
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn two_volumes_at_once() {
    let pair = Pair::boot_with(&["--volumes", "2"]);
    let verify = |volume: u32, seed: &str| {
        let uri = pair.uri(volume);
        pair.fio(
            &uri,
            &[
                "--rw=randwrite",
                "--bs=4k",
                "--size=16M",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--iodepth=8",
                &format!("--randseed={seed}"),
            ],
            120,
        )
    };
    std::thread::scope(|threads| {
        let other = threads.spawn(|| verify(1, "5"));
        verify(0, "9");
        other.join().expect("fio on vol1");
    });
    // Two exports, not one under two names.
    pair.qemu_io(&pair.uri(0), &["write -P 0xaa 32M 4k"], 30);
    pair.qemu_io(&pair.uri(1), &["read -P 0 32M 4k"], 30);
    pair.assert_identical_after_clean_stop(2);
}

#[test]
fn the_export_tells_the_same_on_every_node() {
    let pair = Pair::boot_with(&["--volumes", "2"]);
    let info = |uri: &str| {
        let json = must("nbdinfo", &["--json", uri], 30);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let mut export = value["exports"][0].clone();
        export.as_object_mut().expect("an object").remove("uri");
        export
    };
    let on_a = info(&pair.node_uri(Node::A, 0));
    for wanted in [
        "can_flush",
        "can_fua",
        "can_multi_conn",
        "can_trim",
        "can_zero",
        "can_cache",
        "can_df",
    ] {
        assert_eq!(on_a[wanted], true, "{wanted}: {on_a}");
    }
    assert_eq!(on_a["is_read_only"], false);
    assert_eq!(on_a["export-size"], 64 << 20);
    pair.must_exec(Node::A, "secondary");
    pair.must_exec(Node::B, "primary");
    assert_eq!(info(&pair.node_uri(Node::B, 0)), on_a);
    pair.kill(Node::A);
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    assert_eq!(info(&pair.node_uri(Node::B, 0)), on_a, "degraded");
    let list = must(
        "nbdinfo",
        &[
            "--list",
            "--json",
            &pair.node_uri(Node::B, 0).replace("/vol0", ""),
        ],
        30,
    );
    assert!(list.contains("vol0") && list.contains("vol1"), "{list}");
}

#[test]
fn sixteen_connections_share_one_volume() {
    let pair = Pair::boot();
    let output = pair.fio(
        &pair.uri(0),
        &[
            "--rw=randwrite",
            "--bs=4k",
            "--size=2M",
            "--numjobs=16",
            "--offset_increment=2M",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--iodepth=4",
        ],
        180,
    );
    assert!(!output.contains("verify failed"), "{output}");
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn sixteen_large_writes_in_flight_do_not_exhaust_a_small_node() {
    let pair = Pair::boot_with(&["--mem", "64M"]);
    // Sixteen requests of 32 MiB, all begun before the first is answered.
    let write = "aio_write -P 0x5a 0 32M";
    let mut commands = vec![write; 16];
    commands.push("aio_flush");
    commands.push("read -P 0x5a 0 32M");
    pair.qemu_io(&pair.uri(0), &commands, 180);
    assert_eq!(pair.status(Node::A).role(), "Primary");
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_linux_block_size_of_512_bytes_is_served() {
    let pair = Pair::boot();
    // Neighbouring sectors from different requests in flight: no read-modify-write may tear them.
    pair.fio(
        &pair.uri(0),
        &[
            "--rw=randwrite",
            "--bs=512",
            "--size=256k",
            "--iodepth=32",
            "--verify=crc32c",
            "--verify_fatal=1",
        ],
        120,
    );
    let dump = must("nbdinfo", &["--map", &pair.uri(0)], 30);
    assert!(
        text(dump.as_bytes()).contains("data") || dump.contains('0'),
        "{dump}"
    );
    pair.assert_identical_after_clean_stop(1);
}
