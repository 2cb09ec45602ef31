//! Failover without an operator: clients that wait have the standby promoted, if it may be.

use e2e::tools::{must, run, text};
use e2e::{Node, Pair};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

const OPTIONS: [&str; 1] = ["--auto-promote"];

/// What a client is told that asks this node for an export, within `seconds`.
fn refused(pair: &Pair, node: Node, seconds: u64) -> String {
    let uri = pair.node_uri(node, 0);
    let output = run("qemu-io", &["-f", "raw", &uri, "-c", "read 0 512"], seconds);
    assert!(!output.status.success(), "node {} served", node.name());
    text(&output.stderr)
}

#[test]
fn the_first_client_makes_a_node_primary_and_a_fenced_one_tells_it_why_not() {
    let pair = Pair::boot_fenced("resource-and-stonith", &OPTIONS);
    pair.qemu_io(&pair.node_uri(Node::A, 0), &["write -P 0x11 0 64k"], 30);
    // The operator's word is not undone by clients, but holds for this node only.
    pair.must_exec(Node::A, "secondary --force");
    pair.qemu_io(
        &pair.node_uri(Node::B, 0),
        &["read -P 0x11 0 64k", "write -P 0x12 0 64k"],
        30,
    );
    assert_eq!(pair.status(Node::B).role(), "Primary");
    assert!(pair.journal().is_empty(), "nobody was fenced for it");

    // Cut off, b goes on by a fence; a is fenced and does not serve, but says why.
    pair.cut("replication");
    pair.wait_status(Node::B, "alone by a fence", 20, |status| {
        status.fence() == Some((1, "held"))
    });
    let told = refused(&pair, Node::A, 60);
    assert!(
        told.contains("node a is not Primary") && told.contains("episode 1"),
        "{told}"
    );
    let status = pair.status(Node::A);
    let denied = status.0["promotion"]["denied"]
        .as_str()
        .expect("promotion.denied");
    assert!(denied.contains("episode 1"), "{denied}");
    assert!(
        pair.must_exec(Node::A, "explain")
            .contains("promotion: not promoted")
    );
    assert!(
        pair.must_exec(Node::A, "log 50")
            .contains("not promoted for the clients that wait")
    );
    pair.qemu_io(&pair.node_uri(Node::B, 0), &["write -P 0x13 0 64k"], 30);
    pair.restore("replication");
    pair.wait_in_sync(60);
    assert_eq!(pair.journal(), ["FENCE b 1", "UNFENCE b 1"]);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn without_a_fence_a_lost_primary_is_not_replaced_and_clients_hear_that() {
    let pair = Pair::boot_with(&["--auto-promote", "--timeout", "2s"]);
    pair.kill(Node::A);
    pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
    let told = refused(&pair, Node::B, 30);
    assert!(
        told.contains("not Primary") && told.contains("--force"),
        "{told}"
    );
    assert_eq!(pair.status(Node::B).role(), "Secondary");
}

/// Writes files for as long as it is told, each synced and its sum noted; then checks filesystem and sums.
const GUEST: &str = r#"set -e
    mkfs.ext4 -q /dev/vda
    mount /dev/vda /mnt
    i=0
    while [ $i -lt 300 ]; do
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
    dmesg | grep -c 'I/O error' || true
    echo all done"#;

#[test]
fn a_linux_guest_that_keeps_writing_is_taken_over_by_the_standby() {
    let pair = Pair::boot_fenced("resource-and-stonith", &OPTIONS);
    let mut guest = pair.guest(GUEST);
    let mut lines = BufReader::new(guest.stdout.take().expect("piped")).lines();
    let mut seen = Vec::new();
    let mut come_to = |seen: &mut Vec<String>, wanted: &str| {
        while let Some(Ok(line)) = lines.next() {
            let found = line == wanted;
            seen.push(line);
            if found {
                return;
            }
        }
        panic!("the guest did not come to '{wanted}': {}", seen.join("\n"));
    };
    come_to(&mut seen, "wrote 60");
    // SIGKILL, in the middle of its writes.
    pair.kill(Node::A);
    let killed = Instant::now();
    let mut longest = Duration::ZERO;
    let mut last = killed;
    for n in 61..120 {
        come_to(&mut seen, &format!("wrote {n}"));
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    println!(
        "    the guest's longest wait for a synced file after the kill: {longest:?}, timeout 2 s"
    );
    let status = pair.status(Node::B);
    assert_eq!(status.role(), "Primary");
    let Some((episode, "held")) = status.fence() else {
        panic!("{status:?}");
    };
    assert_eq!(pair.journal(), [format!("FENCE b {episode}")]);
    // The dead one comes back as the target, and the fence is given back, under the guest's writes.
    pair.start(Node::A);
    come_to(&mut seen, "all done");
    let status = guest.wait().expect("our child");
    let said = seen.join("\n");
    assert!(status.success(), "{status}: {said}");
    assert!(
        said.ends_with("0\n0\nall done"),
        "no bad sum, no I/O error: {said}"
    );
    pair.wait_in_sync(60);
    pair.wait_status(Node::B, "without a fence", 30, |status| {
        status.fence().is_none()
    });
    assert_eq!(
        pair.journal(),
        [format!("FENCE b {episode}"), format!("UNFENCE b {episode}")]
    );
    pair.assert_identical_after_clean_stop(1);
    // And the file system that is on the disk is clean for anyone, on either node's.
    for node in [Node::A, Node::B] {
        let image = pair.image(node, 0);
        must("e2fsck", &["-f", "-n", image.to_str().expect("UTF-8")], 60);
    }
}
