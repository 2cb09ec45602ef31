//! What changes while a node runs: `set`, `adjust`, `config check`.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::machine::Plan;
use e2e::tools::wait_for;
use e2e::{Machine, Node, Pair};

#[test]
fn a_resync_takes_the_rate_that_is_set_meanwhile() {
    let pair = Pair::boot();
    pair.kill(Node::B);
    pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
    pair.qemu_io(&pair.uri(0), &["write -P 0x21 0 32M", "flush"], 60);
    // So slow that it would take nine minutes.
    let said = pair.exec(Node::A, "set resync.c-max-rate=64KiB");
    let said = said.expect_err("c-min-rate is larger");
    assert!(said.contains("nothing was changed"), "{said}");
    let said = pair.must_exec(Node::A, "set resync.c-min-rate=64KiB --dry-run");
    let expected = "resync.c-min-rate: \"4MiB\" becomes \"64KiB\"\nnothing was done\n";
    assert_eq!(said, expected);
    pair.must_exec(Node::A, "set resync.c-min-rate=64KiB");
    let said = pair.must_exec(Node::A, "set resync.c-max-rate=64KiB");
    assert!(
        said.contains("resync.c-max-rate: none becomes \"64KiB\"\n"),
        "{said}"
    );
    assert!(said.contains("note: until the next start"), "{said}");
    pair.start(Node::B);
    pair.wait_status(Node::A, "in a resync", 60, |s| {
        s.replication(0) == "SyncSource"
    });
    std::thread::sleep(std::time::Duration::from_secs(3));
    let left = pair.status(Node::A).out_of_sync(0);
    assert!(left > 24 << 20, "only {left} bytes are left");
    let listed = pair.must_exec(Node::A, "set");
    let line = listed
        .lines()
        .find(|line| line.starts_with("resync.c-max-rate "));
    assert_eq!(
        line,
        Some("resync.c-max-rate               \"64KiB\"                none")
    );
    assert!(
        pair.must_exec(Node::A, "config show")
            .contains("c-max-rate = \"64KiB\"\n")
    );
    assert!(
        pair.must_exec(Node::A, "config check")
            .contains("some of it was changed since the start")
    );
    // Back to what the TOML says, and it goes on as fast as it can.
    let said = pair.must_exec(Node::A, "adjust");
    assert!(
        said.contains("resync.c-max-rate: \"64KiB\" becomes none\n"),
        "{said}"
    );
    pair.wait_in_sync(60);
    assert_eq!(pair.must_exec(Node::A, "adjust"), "it is so already\n");
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_change_ends_with_the_next_start_and_a_wrong_one_changes_nothing() {
    let mut node = Machine::boot(Plan::new());
    let checked = node.must_exec("config check");
    assert_eq!(checked, "sound: node a of resource r0, 1 volume(s)\n");
    let refused = node.exec("set net.timeout=10ms").expect_err("too short");
    assert!(
        refused.contains("net: timeout: found \"10ms\", expected a duration"),
        "{refused}"
    );
    assert!(refused.contains("error: nothing was changed"), "{refused}");
    node.must_exec("set net.timeout=9s");
    node.must_exec("set node.log-level debug");
    let shown = node.must_exec("config show");
    assert!(
        shown.contains("timeout = \"9s\"\n") && shown.contains("log-level = \"debug\"\n"),
        "{shown}"
    );
    assert!(
        node.must_exec("log 50")
            .contains("by command: net.timeout: \"6s\" becomes \"9s\"")
    );
    node.console.type_keys(b"\x01r1 reboot\r");
    wait_for("the TOML's timeout", 30, || {
        node.console.answers(5).then_some(())?;
        let shown = node.exec("config show").ok()?;
        shown.contains("timeout = \"6s\"").then_some(())
    });
    assert_eq!(node.must_exec("adjust --dry-run"), "it is so already\n");
}

#[test]
fn a_configuration_that_does_not_fit_the_machine_is_told_by_check() {
    let mut plan = Plan::new();
    plan.disks.clear();
    let mut node = Machine::boot(plan);
    let said = node.exec("config check").expect_err("the disk is missing");
    assert!(
        said.contains("a-vol0") && said.contains("sound, and does not fit this machine"),
        "{said}"
    );
    let mut plan = Plan::new();
    plan.config = Plan::config("")
        .replace("\"exit\"", "\"explode\"")
        .replace("[resource]", "[resuorce]")
        .into_bytes();
    let mut node = Machine::boot(plan);
    let said = node.exec("config check").expect_err("it is wrong");
    for mistake in [
        "unknown section \"resuorce\"",
        "found \"explode\"",
        "error: the configuration is refused",
    ] {
        assert!(said.contains(mistake), "no '{mistake}' in {said}");
    }
    let said = node
        .exec("set net.timeout=9s")
        .expect_err("it does not run");
    assert!(said.contains("this node serves nothing"), "{said}");
}
