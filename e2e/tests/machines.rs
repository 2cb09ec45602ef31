//! Every machine it must boot on, and how it ends.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::machine::{EXCEPTION_STATUS, Plan};
use e2e::{Machine, Node, Pair, nbd};

#[test]
fn a_pair_on_each_machine_mirrors_and_fails_over() {
    for machine in ["pc", "q35", "microvm"] {
        let pair = Pair::boot_with(&["--machine", machine, "--volumes", "2"]);
        let (first, second) = (pair.uri(0), pair.uri(1));
        pair.qemu_io(&first, &["write -P 0x17 0 4M", "flush"], 60);
        pair.qemu_io(&second, &["write -f -P 0x18 1M 64k"], 60);
        pair.kill(Node::A);
        pair.wait_status(Node::B, "alone", 30, |s| s.connection() != "Connected");
        pair.must_exec(Node::B, "primary --force");
        pair.qemu_io(&first, &["read -P 0x17 0 4M"], 60);
        pair.qemu_io(&second, &["read -P 0x18 1M 64k"], 60);
        pair.start(Node::A);
        pair.wait_in_sync(120);
        pair.assert_identical_after_clean_stop(2);
    }
}

#[test]
fn from_one_to_four_processors_and_32_mib_to_16_gib() {
    for (machine, memory, processors) in [
        ("pc", "32M", 1),
        ("q35", "32M", 4),
        ("microvm,acpi=off,pit=on,rtc=on", "32M", 2),
        ("q35", "256M", 1),
        ("pc", "512M", 1),
        ("q35", "3G", 2),
        ("q35", "16G", 1),
        ("microvm,acpi=off,pit=on,rtc=on", "5G", 3),
    ] {
        let mut plan = Plan::new();
        plan.machine = machine;
        plan.memory = memory;
        plan.processors = processors;
        if machine.starts_with("microvm") {
            plan.arguments = ["-global", "virtio-mmio.force-legacy=false"]
                .map(String::from)
                .into();
        }
        println!("{machine}, {memory}, {processors} processors");
        let mut node = Machine::boot(plan);
        node.serve();
        let mut client = nbd::Client::open(node.nbd_port, "vol0").expect("it serves");
        assert_eq!(client.write(4096, &[0x5a; 8192]).expect("a reply"), 0);
        assert_eq!(
            client.read(4096, 8192).expect("a reply"),
            Ok(vec![0x5a; 8192])
        );
    }
}

#[test]
fn an_exception_is_reported_and_leaves_an_exit_status() {
    let mut node = Machine::boot(Plan::new());
    node.qmp(r#"{"execute":"inject-nmi"}"#);
    assert_eq!(node.ended(20), Some(EXCEPTION_STATUS));
    let log = node.log();
    for wanted in [
        "exception 2: non-maskable interrupt",
        "rip 0x",
        "rax 0x",
        "backtrace:",
    ] {
        assert!(log.contains(wanted), "no '{wanted}' in:\n{log}");
    }
}

#[test]
fn after_an_exception_the_node_reboots_when_told_so() {
    let mut plan = Plan::new();
    plan.config = Plan::config("")
        .replace("\"exit\"", "\"reboot\"")
        .into_bytes();
    let mut node = Machine::boot(plan);
    node.qmp(r#"{"execute":"inject-nmi"}"#);
    node.wait_log("exception 2", 10);
    assert!(node.console.answers(30), "it is up again");
    assert_eq!(node.log().matches("palisade: exception 2").count(), 1);
}

#[test]
fn reboot_and_poweroff_by_console() {
    let mut node = Machine::boot(Plan::new());
    // The answer may or may not come before the machine goes.
    node.console.type_keys(b"\x01r1 reboot\r");
    e2e::tools::wait_for("the second boot's console", 30, || {
        (node.console.answers(5) && node.exec("status --json").is_ok_and(|s| young(&s)))
            .then_some(())
    });
    node.serve();
    let client = nbd::Client::open(node.nbd_port, "vol0").expect("it serves");
    let refused = node.exec("poweroff").expect_err("a client is served");
    assert!(refused.contains("--force"), "{refused}");
    drop(client);
    node.console.type_keys(b"\x01p1 poweroff --force\r");
    // q35 powers off by ACPI: QEMU ends with 0.
    assert_eq!(node.ended(20), Some(0));
}

/// Whether a status is from the first 20 s of an uptime.
fn young(status: &str) -> bool {
    let status: serde_json::Value = serde_json::from_str(status).expect("JSON");
    status["uptime_us"].as_u64().expect("a number") < 20_000_000
}

#[test]
fn an_idle_node_halts() {
    let mut node = Machine::boot(Plan::new());
    node.serve();
    let before = node.cpu_ticks();
    std::thread::sleep(std::time::Duration::from_secs(5));
    let used = node.cpu_ticks() - before;
    // 5 s are 500 ticks; this is no benchmark but tells HLT from a busy loop.
    assert!(used < 250, "an idle node used {used} of 500 ticks");
}
