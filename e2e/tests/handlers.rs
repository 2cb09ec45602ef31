//! DRBD's handlers, run at the arbiter when a node says that there is an occasion.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::wait_for;
use e2e::{Node, Pair};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A pair whose arbiter runs a script for each of the handlers. It writes down what it was called for; before a resync it
/// ends with the code in the file `code`.
struct Handled {
    pair: Pair,
    calls: PathBuf,
    code: PathBuf,
}

impl Handled {
    fn boot(options: &[&str]) -> Self {
        let pair = Pair::boot_fenced("resource-and-stonith", &[&["--notify"], options].concat());
        let (calls, code) = (pair.dir().join("calls"), pair.dir().join("code"));
        std::fs::write(&code, "0").expect("a file");
        let script = pair.dir().join("handler");
        let text = format!(
            "echo \"$PALISADE_HANDLER $PALISADE_NODE $DRBD_VOLUME\" >>{}\ncase $PALISADE_HANDLER in before-*) exit $(cat {}) ;; esac\n",
            calls.display(),
            code.display()
        );
        std::fs::write(&script, text).expect("a file");
        let mut config = std::fs::OpenOptions::new()
            .append(true)
            .open(pair.dir().join("arbiter.toml"))
            .expect("the arbiter's configuration");
        writeln!(config, "[resource.handlers]").expect("a file");
        for handler in [
            "before-resync-target",
            "after-resync-target",
            "before-resync-source",
            "initial-split-brain",
            "split-brain",
            "disconnected",
        ] {
            writeln!(config, "{handler} = \"sh {}\"", script.display()).expect("a file");
        }
        pair.arbiter("kill");
        pair.arbiter("start");
        Self { pair, calls, code }
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.calls).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn calls_of(&self, node: &str) -> Vec<String> {
        let of = |line: &String| line.split(' ').nth(1) == Some(node);
        self.calls().into_iter().filter(of).collect()
    }

    fn wait_calls(&self, node: &str, expected: &[&str]) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.calls_of(node) != expected {
            let calls = self.calls_of(node);
            assert!(Instant::now() < end, "{calls:?}, expected {expected:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn handlers_around_a_resync_run_in_order_and_one_that_refuses_leaves_the_target_alone() {
    let handled = Handled::boot(&[]);
    let pair = &handled.pair;
    pair.qemu_io(
        &pair.node_uri(Node::A, 0),
        &["write -P 0x21 0 1M", "flush"],
        60,
    );
    pair.cut("replication");
    pair.wait_status(Node::A, "alone by a fence", 20, |status| {
        status.fence() == Some((1, "held"))
    });
    pair.qemu_io(
        &pair.node_uri(Node::A, 0),
        &["write -P 0x22 0 1M", "flush"],
        60,
    );
    handled.wait_calls("a", &["disconnected a 0"]);
    handled.wait_calls("b", &["disconnected b 0"]);

    // The handler does not agree: no resync, the Primary serves on, the reason is shown.
    std::fs::write(&handled.code, "1").expect("a file");
    pair.restore("replication");
    let status = pair.wait_status(Node::B, "waiting for its handler", 60, |status| {
        status.0["reason"]
            .as_str()
            .is_some_and(|why| why.contains("did not agree"))
    });
    assert_eq!(status.disk(0), "Outdated");
    pair.qemu_io(
        &pair.node_uri(Node::A, 0),
        &["write -P 0x23 1M 64k", "flush"],
        60,
    );
    assert!(
        handled
            .calls_of("b")
            .contains(&"before-resync-target b 0".to_owned())
    );
    assert!(!handled.calls().iter().any(|call| call.starts_with("after")));
    assert!(
        pair.must_exec(Node::B, "log 100")
            .contains("before-resync-target ended with exit code 1")
    );

    // It does.
    std::fs::write(&handled.code, "0").expect("a file");
    pair.wait_in_sync(90);
    wait_for("the last handler", 30, || {
        handled
            .calls()
            .contains(&"after-resync-target b 0".to_owned())
            .then_some(())
    });
    let mut of_b = handled.calls_of("b");
    of_b.dedup();
    assert_eq!(
        of_b,
        [
            "disconnected b 0",
            "before-resync-target b 0",
            "after-resync-target b 0"
        ]
    );
    let mut of_a = handled.calls_of("a");
    of_a.dedup();
    assert_eq!(of_a, ["disconnected a 0", "before-resync-source a 0"]);
    pair.wait_status(Node::A, "without a fence", 30, |status| {
        status.fence().is_none()
    });
    assert_eq!(
        pair.journal()
            .iter()
            .filter(|line| line.contains("FENCE"))
            .count(),
        2
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn both_nodes_have_their_handlers_run_for_a_split_brain() {
    let handled = Handled::boot(&[]);
    let pair = &handled.pair;
    pair.cut("replication");
    pair.wait_status(Node::A, "alone by a fence", 20, |status| {
        status.fence() == Some((1, "held"))
    });
    pair.qemu_io(&pair.node_uri(Node::A, 0), &["write -P 0x31 0 64k"], 60);
    // Somebody who does not know better, and a node that cannot hear either that its peer lives and holds the fence: it would yield.
    pair.cut("peers");
    pair.must_exec(Node::B, "primary --force");
    pair.qemu_io(&pair.node_uri(Node::B, 0), &["write -P 0x32 0 64k"], 60);
    pair.restore("replication");
    for node in ["a", "b"] {
        let of = |event: &str| format!("{event} {node} 0");
        let expected = ["disconnected", "initial-split-brain", "split-brain"].map(of);
        handled.wait_calls(node, &expected.each_ref().map(String::as_str));
    }
}
