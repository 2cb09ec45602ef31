//! The NBD server as real clients see it: libnbd's tools, QEMU's, fio and nbd-client over TCP.
//!
//! The clients must be installed; a missing one fails its test and names its package.

#![allow(
    clippy::expect_used,
    reason = "a test ends at the first thing that goes wrong"
)]

mod server;

use server::{Running, SIZE};
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Debian's package of each client.
const PACKAGES: [(&str, &str); 6] = [
    ("nbdinfo", "libnbd-bin"),
    ("nbdcopy", "libnbd-bin"),
    ("qemu-io", "qemu-utils"),
    ("qemu-img", "qemu-utils"),
    ("fio", "fio"),
    ("nbd-client", "nbd-client"),
];

/// Runs a client for two minutes at most and returns what it printed; panics when it failed.
fn client<A: AsRef<OsStr>>(name: &str, arguments: &[A]) -> String {
    let output = Command::new("timeout")
        .arg("120")
        .arg(name)
        .args(arguments)
        .env(
            "PATH",
            "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        )
        .output()
        .expect("timeout, of coreutils, runs");
    let package = PACKAGES.iter().find(|p| p.0 == name).map_or("", |p| p.1);
    assert!(
        output.status.code() != Some(127),
        "{name} is missing: apt-get install {package}"
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {text}{errors}");
    text
}

/// A file of its own in a directory that `cargo clean` knows.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Bytes of a cheap pseudo-random sequence.
fn noise(len: usize, mut state: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(len);
    out
}

#[test]
fn nbdinfo_sees_every_feature() {
    let server = Running::start();
    let text = client("nbdinfo", &[server.uri("vol0")]);
    for line in [
        "protocol: newstyle-fixed without TLS, using structured packets",
        "export-size: 100663296",
        "uri: nbd://",
        "export=\"vol0\"",
        "description: first volume",
        "base:allocation",
        "is_rotational: false",
        "is_read_only: false",
        "can_block_status_payload: false",
        "can_cache: true",
        "can_df: true",
        "can_fast_zero: true",
        "can_flush: true",
        "can_fua: true",
        "can_multi_conn: true",
        "can_trim: true",
        "can_zero: true",
        "block_size_minimum: 512",
        "block_size_preferred: 4096",
        "block_size_maximum: 33554432",
    ] {
        // Newer and older releases print different sets of negative lines.
        let old = line.contains("payload") && !text.contains("payload");
        assert!(old || text.contains(line), "{line} not in {text}");
    }
    let list = client("nbdinfo", &["--list".to_owned(), server.uri("")]);
    assert!(
        list.contains("export=\"vol0\"") && list.contains("export=\"vol1\""),
        "{list}"
    );
    let map = client("nbdinfo", &["--map".to_owned(), server.uri("vol1")]);
    let fields: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(fields[..3], ["0", "100663296", "0"], "all of it is data");
    server.stop();
}

#[test]
fn nbd_client_lists_the_exports() {
    let server = Running::start();
    let port = server.port.to_string();
    let text = client("nbd-client", &["-l", "127.0.0.1", &port]);
    assert!(text.contains("vol0") && text.contains("vol1"), "{text}");
    server.stop();
}

#[test]
fn nbdcopy_brings_back_what_it_took() {
    let server = Running::start();
    let (source, copy) = (file("nbdcopy-source"), file("nbdcopy-copy"));
    let mut data = noise(SIZE as usize, 42);
    data[8 << 20..24 << 20].fill(0);
    fs::write(&source, &data).expect("written");
    for (requests, size) in [("64", "262144"), ("2", "33554432")] {
        let options = [
            "--connections=4",
            "--requests",
            requests,
            "--request-size",
            size,
        ];
        let uri = server.uri("vol0");
        let there = [&options[..], &[source.to_str().expect("UTF-8"), &uri]].concat();
        client("nbdcopy", &there);
        fs::write(&copy, b"").expect("written");
        let back = [&options[..], &[&uri, copy.to_str().expect("UTF-8")]].concat();
        client("nbdcopy", &back);
        let got = fs::read(&copy).expect("read");
        assert!(got == data, "nbdcopy --request-size {size}");
    }
    fs::remove_file(source).expect("removed");
    fs::remove_file(copy).expect("removed");
    server.stop();
}

#[test]
fn qemu_io_reads_its_patterns() {
    let server = Running::start();
    let uri = server.uri("vol1");
    let run = |commands: &[&str]| {
        let mut arguments = vec!["-f", "raw"];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        arguments.push(&uri);
        let text = client("qemu-io", &arguments);
        assert!(
            !text.contains("failed") && !text.contains("error"),
            "{text}"
        );
        text
    };
    run(&[
        "write -P 0xa1 0 4k",
        "write -f -P 0xa2 4k 64k",
        "aio_write -P 0xa3 1M 32M",
        "aio_write -P 0xa4 40M 3M",
        "aio_flush",
        "flush",
        "write -z 2M 1M",
        "write -z -u 4M 1M",
        "write -z -u -n 5M 4k",
        "discard 8M 8M",
        "discard 64M 32M",
        "write -P 0xa5 68k 512",
    ]);
    let text = run(&[
        "read -v -P 0xa1 0 16",
        "read -P 0xa1 0 4k",
        "read -P 0xa2 4k 64k",
        "read -P 0xa5 68k 512",
        "read -P 0xa3 1M 1M",
        "read -P 0 2M 1M",
        "read -P 0xa3 3M 1M",
        "read -P 0 4M 1028k",
        "read -P 0 8M 8M",
        "read -P 0xa3 16M 17M",
        "read -P 0xa4 40M 3M",
        "map",
    ]);
    assert!(!text.contains("verification"), "{text}");
    server.stop();
}

#[test]
fn qemu_img_converts_and_compares() {
    let server = Running::start();
    let source = file("qemu-img-source");
    fs::write(&source, noise(SIZE as usize, 7)).expect("written");
    let (path, uri) = (source.to_str().expect("UTF-8"), server.uri("vol0"));
    let convert = [
        "convert", "-n", "-m", "16", "-W", "-f", "raw", "-O", "raw", path, &uri,
    ];
    client("qemu-img", &convert);
    client(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", path, &uri],
    );
    fs::remove_file(source).expect("removed");
    server.stop();
}

#[test]
fn fio_verifies_at_every_depth() {
    let server = Running::start();
    for depth in [1, 8, 32] {
        let arguments = [
            "--name=verify".to_owned(),
            "--ioengine=nbd".to_owned(),
            format!("--uri={}", server.uri("vol0")),
            "--rw=randwrite".to_owned(),
            "--bssplit=512/20:4k/50:64k/25:1m/5".to_owned(),
            "--size=24m".to_owned(),
            "--fsync=64".to_owned(),
            format!("--iodepth={depth}"),
            "--verify=crc32c".to_owned(),
            "--verify_fatal=1".to_owned(),
            "--verify_state_save=0".to_owned(),
            "--verify_backlog=256".to_owned(),
        ];
        client("fio", &arguments);
    }
    server.stop();
}

#[test]
fn sixteen_clients_write_at_once() {
    let server = Running::start();
    let uri = server.uri("vol0");
    std::thread::scope(|scope| {
        for i in 0..16u32 {
            let uri = &uri;
            scope.spawn(move || {
                let (at, pattern) = (i * 6, i + 1);
                let write = format!("write -P {pattern} {at}M 6M");
                let read = format!("read -P {pattern} {at}M 6M");
                let text = client("qemu-io", &["-f", "raw", "-c", &write, "-c", &read, uri]);
                assert!(!text.contains("verification"), "{text}");
            });
        }
    });
    server.stop();
}
