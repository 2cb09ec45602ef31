//! Crashes of the node itself, as an operator's NMI brings them about: it starts again by itself, nothing is lost, and it
//! tells what happened.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::load::{Load, Running, Survives};
use e2e::machine::{Firmware, Medium, Plan, Start};
use e2e::tools::{checkout, kernel, must, text, wait_for};
use e2e::{Machine, Node, Pair};
use serde_json::Value;
use std::process::Command;

const SIZE: u64 = 64 << 20;

fn crash_of(json: &str) -> Value {
    let mut shown: Value = serde_json::from_str(json).expect("JSON");
    shown["crash"].take()
}

/// Without the second of two equal characters: QEMU's log file may have one twice (see `e2e::console::Console`), and a node
/// that crashes does not wait.
fn squeezed(text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    characters.dedup();
    characters.into_iter().collect()
}

fn count(log: &str, words: &str) -> usize {
    squeezed(log).matches(&squeezed(words)).count()
}

/// Waits until the serial line has shown `words`; everything on it then.
fn said(node: &Machine, words: &str) -> String {
    wait_for(&format!("'{words}' on the console"), 60, || {
        Some(node.log()).filter(|log| count(log, words) > 0)
    })
}

fn start(load: Load, pair: &Pair, node: Node) -> Running {
    let running = load.start(pair.port(node));
    wait_for("the load's first answers", 60, || {
        (running.done() > 40).then_some(())
    });
    running
}

/// Crashes a node and waits until it has started again; what it says of the crash then.
fn crash(pair: &Pair, node: Node) -> Value {
    pair.qmp(node, r#"{"execute":"inject-nmi"}"#);
    wait_for("the node has started again", 30, || {
        let json = pair.exec(node, "crash show --json").ok()?;
        Some(crash_of(&json)).filter(|crash| !crash.is_null())
    })
}

#[test]
fn nodes_that_crash_under_load_come_back_and_lose_nothing() {
    let pair = Pair::boot();
    let running = start(Load::new(0, SIZE, 4, 0xc4a5), &pair, Node::A);

    // The Secondary: clients go on, and what they write meanwhile is copied.
    let told = crash(&pair, Node::B);
    let message = told["message"].as_str().expect("a text");
    assert!(
        message.starts_with("exception 2: non-maskable interrupt"),
        "{told}"
    );
    assert_eq!(told["starts"], 1, "{told}");
    pair.wait_in_sync(120);
    assert!(running.alive(), "clients of the Primary noticed something");

    // The Primary: its clients are cut off, and what was answered is there afterwards.
    crash(&pair, Node::A);
    let mut load = running.stop();
    pair.wait_in_sync(120);
    pair.must_exec(Node::A, "primary");
    load.verify(pair.port(Node::A), Survives::Answered);

    // It says so until it is told to forget it, also when it is started anew.
    let warned = |node| {
        pair.must_exec(node, "status")
            .contains("! this node has crashed")
    };
    assert!(warned(Node::B));
    assert!(
        pair.must_exec(Node::B, "log 1000")
            .contains("this node has crashed; see 'crash show': exception 2")
    );
    pair.qmp(Node::B, r#"{"execute":"system_reset"}"#);
    wait_for("the second start", 30, || {
        let json = pair.exec(Node::B, "crash show --json").ok()?;
        (crash_of(&json)["starts"] == 2).then_some(())
    });
    pair.must_exec(Node::B, "crash clear");
    assert!(!warned(Node::B));
    assert_eq!(
        pair.must_exec(Node::B, "crash show"),
        "no crash is on record\n"
    );
    assert!(warned(Node::A));
    pair.wait_in_sync(120);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn a_node_that_crashes_at_each_start_gives_up() {
    let mut plan = Plan::new();
    plan.config = Plan::config("")
        .replace("\"exit\"", "\"reboot\"")
        .into_bytes();
    plan.arguments = ["-append", "test=panic"].map(String::from).into();
    let node = plan.boot();
    // It crashes at each start, and gives up in the end.
    let halted = "5 crashes in a row, each within a minute of its start: halted";
    let log = said(&node, halted);
    assert_eq!(count(&log, "palisade: panic: self-test"), 5, "{log}");
    assert_eq!(count(&log, "palisade: rebooting"), 4, "{log}");
    assert_eq!(count(&log, "  at kernel/src/selftest.rs:"), 5, "{log}");
    // Whoever resets it by hand gets one more attempt.
    node.qmp(r#"{"execute":"system_reset"}"#);
    said(&node, "6 crashes in a row");
}

#[test]
fn a_fault_is_told_by_its_cause() {
    for test in ["pagefault", "stackoverflow"] {
        let mut plan = Plan::new();
        plan.config = Plan::config("")
            .replace("\"exit\"", "\"halt\"")
            .into_bytes();
        plan.arguments = ["-append", &format!("test={test}")]
            .map(String::from)
            .into();
        let log = said(&plan.boot(), "palisade: halted");
        let wanted = match test {
            "pagefault" => "exception 14: page fault, error code 0x0",
            _ => "exception 14: page fault, error code 0x2: kernel stack overflow",
        };
        assert_eq!(count(&log, wanted), 1, "{log}");
    }
}

#[test]
fn what_a_crash_left_is_complete_and_its_addresses_have_names() {
    let mut plan = Plan::new();
    plan.config = Plan::config("")
        .replace("\"exit\"", "\"reboot\"")
        .into_bytes();
    let mut node = Machine::boot(plan);
    node.must_exec("version");
    node.qmp(r#"{"execute":"inject-nmi"}"#);
    let shown = wait_for("what the crash left", 30, || {
        node.console.answers(5).then_some(())?;
        node.exec("crash show")
            .ok()
            .filter(|shown| shown.contains("exception 2"))
    });
    let version = node.must_exec("version");
    let revision = version.split(['(', ')']).nth(1).expect("a commit");
    for wanted in [
        "after its start",
        "by the machine's clock",
        "starts    1 since then",
        &format!("({revision})"),
        "  rip 0x",
        "  rax 0x",
        "the last lines of its log:\n[",
        "payload pool, requests up to",
    ] {
        assert!(shown.contains(wanted), "no '{wanted}' in:\n{shown}");
    }
    let backtrace = shown.split_once("\nbacktrace").expect("a backtrace").1;
    let (backtrace, _) = backtrace
        .split_once("\nNames for the addresses")
        .expect("how to read it");
    let debug = kernel().with_extension("debug.elf");
    let mut arguments = vec!["-f", "-e", debug.to_str().expect("UTF-8")];
    arguments.extend(backtrace.split_ascii_whitespace());
    let names = must("addr2line", &arguments, 20);
    assert!(names.contains("kernel"), "{names}\nof\n{shown}");
}

/// GRUB clears what belongs to the image, and may use any other memory: what a crash leaves outlasts that, too.
#[test]
fn what_a_crash_left_outlasts_grub() {
    let out = e2e::tools::scratch();
    let file = out.path().join("node.toml");
    std::fs::write(&file, Plan::config("").replace("\"exit\"", "\"reboot\""))
        .expect("a writable directory");
    let built = Command::new("timeout")
        .args(["-k", "5", "120"])
        .arg(checkout().join("run-qemu.sh"))
        .args(["image", "--config"])
        .arg(&file)
        .arg("--out")
        .arg(out.path())
        .env("PALISADE_KERNEL", kernel())
        .output()
        .expect("coreutils' timeout");
    assert!(built.status.success(), "{}", text(&built.stderr));
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let mut plan = Plan::new();
        plan.memory = "128M";
        plan.start = Start::Medium {
            file: out.path().join("palisade.iso"),
            as_a: Medium::Cdrom,
            firmware,
        };
        let mut node = Machine::boot(plan);
        node.qmp(r#"{"execute":"inject-nmi"}"#);
        let told = wait_for("what the crash left", 150, || {
            node.console.answers(5).then_some(())?;
            let json = node.exec("crash show --json").ok()?;
            Some(crash_of(&json)).filter(|crash| !crash.is_null())
        });
        println!("{firmware:?}: {told}");
        let message = told["message"].as_str().expect("a text");
        assert!(message.starts_with("exception 2"), "{told}");
    }
}
