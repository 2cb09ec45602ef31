//! Power cuts, promotion, return of a lost node, and a Linux guest that lives through it.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::{must, text, wait_for};
use e2e::{Node, Pair};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

const VERIFY: [&str; 8] = [
    "--rw=randwrite",
    "--bs=4k",
    "--size=24M",
    "--iodepth=16",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--randseed=42",
    "--verify_backlog=0",
];

#[test]
fn power_cut_of_the_primary_loses_nothing_that_was_answered() {
    let pair = Pair::boot();
    let mut write = VERIFY.to_vec();
    write.push("--do_verify=0");
    pair.fio(&pair.uri(0), &write, 120);
    pair.kill(Node::A);
    let lonely = pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    assert_eq!(lonely.role(), "Secondary");
    assert_eq!(lonely.disk(0), "Consistent");
    let refused = pair
        .exec(Node::B, "primary")
        .expect_err("no peer, no --force");
    assert!(
        refused.contains("--force"),
        "says what would help: {refused}"
    );
    pair.must_exec(Node::B, "primary --force");
    let mut verify = VERIFY.to_vec();
    verify.push("--verify_only");
    pair.fio(&pair.uri(0), &verify, 120);
}

#[test]
fn power_cut_under_load_keeps_every_answered_write() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    let dir = pair.dir().to_path_buf();
    // fio writes down what was answered (its verify state) when the connection breaks under it.
    let mut load = std::process::Command::new("timeout")
        .args(["-k", "5", "120", "fio", "--name=job", "--ioengine=nbd"])
        .arg(format!("--uri={}", pair.node_uri(Node::A, 0)))
        .args(VERIFY)
        .args([
            "--do_verify=0",
            "--verify_state_save=1",
            "--time_based",
            "--runtime=60",
        ])
        .current_dir(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("fio");
    wait_for("fio has written something", 30, || {
        (pair.status(Node::A).out_of_sync(0) == 0 && written(&pair, Node::A) > 4 << 20)
            .then_some(())
    });
    pair.kill(Node::A);
    let _ = load.wait();
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    pair.must_exec(Node::B, "primary --force");
    // Every block is either untouched (zeroes) or a whole block of fio's with a good checksum: no write
    // that was on its way may be there by half.
    let image = dir.join("copy");
    let image = image.to_str().expect("UTF-8");
    must("nbdcopy", &[&uri, image], 60);
    let bytes = std::fs::read(image).expect("a copy");
    let mut blocks = 0;
    for block in bytes
        .chunks(4096)
        .filter(|block| block.iter().any(|b| *b != 0))
    {
        assert_eq!(
            block[..2],
            [0xca, 0xac][..],
            "a block that fio did not write"
        );
        blocks += 1;
    }
    assert!(blocks > 500, "only {blocks} blocks arrived");
}

fn written(pair: &Pair, node: Node) -> u64 {
    let status = pair.status(node);
    status.0["volumes"][0]["written_bytes"]
        .as_u64()
        .expect("a number")
}

#[test]
fn a_secondary_that_restarts_gets_what_it_missed() {
    let pair = Pair::boot();
    let uri = pair.uri(0);
    pair.qemu_io(&uri, &["write -P 0x21 0 8M", "flush"], 60);
    pair.kill(Node::B);
    // The Primary notices, goes on alone, and marks what the peer lacks.
    pair.qemu_io(&uri, &["write -P 0x22 4M 8M", "flush"], 60);
    let alone = pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
    assert_eq!(alone.role(), "Primary");
    assert!(alone.out_of_sync(0) >= 8 << 20, "{alone:?}");
    pair.start(Node::B);
    pair.wait_in_sync(120);
    // What was written since, and what the power cut may have taken from the disk's cache, but no more.
    let copied = pair.resyncs(Node::A);
    assert_eq!(copied.len(), 1, "{copied:?}");
    assert!((8 << 20..=12 << 20).contains(&copied[0]), "{copied:?}");
    pair.qemu_io(
        &uri,
        &[
            "read -P 0x21 0 4M",
            "read -P 0x22 4M 8M",
            "write -P 0x23 1M 1M",
        ],
        60,
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn the_old_primary_returns_as_target() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x31 0 4M", "flush"], 60);
    pair.kill(Node::A);
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    pair.must_exec(Node::B, "primary --force");
    pair.qemu_io(
        &pair.uri(0),
        &["read -P 0x31 0 4M", "write -P 0x32 2M 4M", "flush"],
        60,
    );
    pair.start(Node::A);
    pair.wait_in_sync(120);
    // The blocks that b wrote, and the extents that were hot when a lost its power.
    let copied = pair.resyncs(Node::B);
    assert_eq!(copied.len(), 1, "{copied:?}");
    assert!((4 << 20..=16 << 20).contains(&copied[0]), "{copied:?}");
    assert_eq!(pair.status(Node::A).role(), "Secondary");
    pair.must_exec(Node::B, "secondary");
    pair.must_exec(Node::A, "primary");
    pair.qemu_io(
        &pair.uri(0),
        &["read -P 0x31 0 2M", "read -P 0x32 2M 4M"],
        60,
    );
    pair.assert_identical_after_clean_stop(1);
}

/// A message of the exchange of bitmaps covers 8 GiB: with more than that there are several.
#[test]
fn the_old_primary_of_a_large_volume_returns_as_target() {
    let pair = Pair::boot_with(&["--size", "20G", "--mem", "96M"]);
    let places = ["0", "5G", "9G", "13G", "19G"];
    let write = |byte: u8, at: &str| format!("write -P {byte} {at} 256k");
    let read = |byte: u8, at: &str| format!("read -P {byte} {at} 256k");
    let all = |one: &dyn Fn(&str) -> String| places.map(one);
    let run = |commands: &[String]| {
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        pair.qemu_io(&pair.uri(0), &commands, 60);
    };
    run(&all(&|at| write(0x51, at)));
    pair.kill(Node::A);
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    pair.must_exec(Node::B, "primary --force");
    run(&[write(0x52, "5G"), write(0x52, "17G")]);
    pair.start(Node::A);
    pair.wait_in_sync(120);
    pair.must_exec(Node::B, "secondary");
    pair.must_exec(Node::A, "primary");
    run(&[read(0x51, "0"), read(0x52, "5G"), read(0x51, "9G")]);
    run(&[read(0x51, "13G"), read(0x52, "17G"), read(0x51, "19G")]);
}

#[test]
fn nodes_that_both_lost_power_need_nobody() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x41 0 1M", "flush"], 60);
    pair.kill(Node::A);
    pair.kill(Node::B);
    pair.start(Node::A);
    let lonely = pair.status(Node::A);
    assert_eq!((lonely.disk(0), lonely.role()), ("Consistent", "Secondary"));
    let refused = pair.exec(Node::A, "primary").expect_err("b may know more");
    assert!(
        refused.contains("--force"),
        "says what would help: {refused}"
    );
    pair.start(Node::B);
    pair.wait_in_sync(120);
    // The crashed Primary's hot extents, from its disk to the other.
    let copied = pair.resyncs(Node::A);
    assert!(
        matches!(copied[..], [bytes] if bytes <= 8 << 20),
        "{copied:?}"
    );
    pair.must_exec(Node::B, "primary");
    pair.qemu_io(&pair.uri(0), &["read -P 0x41 0 1M"], 60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_pair_that_was_stopped_properly_starts_as_it_was() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x51 0 16M", "flush"], 60);
    pair.assert_identical_after_clean_stop(1);
    let dirty =
        [Node::A, Node::B].map(|node| pair.metadata(node, 0)["bitmap"]["dirty_blocks"].clone());
    assert_eq!(dirty, [0, 0], "nothing is out of sync");
    let again = pair.up(&[]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    pair.wait_in_sync(20);
    for node in [Node::A, Node::B] {
        assert!(pair.resyncs(node).is_empty(), "nothing was to be copied");
    }
    pair.qemu_io(&pair.uri(0), &["read -P 0x51 0 16M"], 60);
}

#[test]
fn a_linux_guest_with_a_filesystem_survives_failover() {
    let pair = Pair::boot();
    let mut guest = pair.guest(
        r#"set -e
        mkfs.ext4 -q /dev/vda
        mount /dev/vda /mnt
        i=0
        while [ $i -lt 200 ]; do
          dd if=/dev/urandom of=/mnt/f$i bs=16k count=1 2>/dev/null
          sync
          (cd /mnt && md5sum f$i) >>/tmp/sums
          echo "wrote $i"
          i=$((i + 1))
        done
        umount /mnt
        e2fsck -f -n /dev/vda
        mount /dev/vda /mnt
        cd /mnt && md5sum -c /tmp/sums | grep -vc ': OK$' || true
        cd / && umount /mnt
        echo all done"#,
    );
    let mut lines = BufReader::new(guest.stdout.take().expect("piped")).lines();
    let mut seen = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        seen = seen + &line + "\n";
        if line == "wrote 40" {
            break;
        }
    }
    assert!(seen.contains("wrote 40"), "the guest came so far: {seen}");
    pair.kill(Node::A);
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    pair.must_exec(Node::B, "primary --force");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = guest.wait().expect("our child");
    let rest = rest.join("\n");
    assert!(status.success(), "{status}: {rest}");
    assert!(
        rest.contains("wrote 199") && rest.ends_with("0\nall done"),
        "{rest}"
    );
    // And the file system that is on the disk is clean for anyone.
    pair.must_exec(Node::B, "secondary --force");
    pair.down();
    let image = pair.image(Node::B, 0);
    must("e2fsck", &["-f", "-n", image.to_str().expect("UTF-8")], 60);
}

#[test]
fn an_address_that_follows_the_primary() {
    let pair = Pair::boot();
    pair.qemu_io(&pair.uri(0), &["write -P 0x61 0 4k"], 30);
    pair.must_exec(Node::A, "secondary");
    // Nobody serves: a client waits for the greeting, and gets it from the other node.
    let uri = pair.uri(0);
    let mut waiting = std::process::Command::new("timeout")
        .args([
            "30",
            "qemu-io",
            "-f",
            "raw",
            &uri,
            "-c",
            "read -P 0x61 0 4k",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-io");
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(waiting.try_wait().expect("our child").is_none(), "it waits");
    pair.must_exec(Node::B, "primary");
    let status = waiting.wait().expect("our child");
    let mut output = Vec::new();
    waiting
        .stdout
        .take()
        .expect("piped")
        .read_to_end(&mut output)
        .expect("a pipe");
    assert!(
        status.success() && !text(&output).contains("failed"),
        "{}",
        text(&output)
    );
}
