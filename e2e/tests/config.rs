//! Mistakes in the configuration and disks that do not fit it: each gets a clear error on the
//! console, the node serves nothing, and stays reachable.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::machine::{Disk, Plan};
use e2e::{Machine, nbd};

/// Boots a node that must refuse its configuration; everything its console said.
fn refused(config: impl Into<Vec<u8>>) -> String {
    let mut plan = Plan::new();
    plan.config = config.into();
    let mut node = Machine::boot(plan);
    let _ = node.exec("primary --force").expect_err("nothing to serve");
    assert!(
        nbd::Client::connect(node.nbd_port).is_err(),
        "it serves nothing"
    );
    // Still there, and it can tell what is wrong at any time.
    let shown = node.exec("config show");
    node.assert_alive();
    format!("{}{}", node.log(), shown.unwrap_or_else(|error| error))
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    let good = Plan::config("");
    for (wrong, line, words) in [
        (good.replace("name = \"r0\"", "name = r0"), 5, "not TOML"),
        (
            good.replace("panic = \"exit\"", "panic = \"explode\""),
            3,
            "reboot",
        ),
        (
            good.replace("panic = \"exit\"", "painc = \"exit\""),
            3,
            "panic",
        ),
        (
            good.replace("10.77.0.1/24", "10.77.0.1/99"),
            12,
            "10.77.0.1/99",
        ),
        (good.replace("serial = \"a-vol0\"\n", ""), 17, "serial"),
    ] {
        let said = refused(wrong);
        assert!(
            said.contains(&format!("line {line}, column")),
            "no line {line} in:\n{said}"
        );
        assert!(said.contains(words), "no '{words}' in:\n{said}");
    }
}

#[test]
fn an_empty_or_foreign_boot_module_is_refused() {
    assert!(refused("\n\n").contains("the configuration is empty"));
    let said = refused(e2e::tools::pattern(3, 5000));
    assert!(said.contains("not UTF-8"), "{said}");
}

/// Boots with these disks; the node must say `words` and not serve, and still be alive.
fn disk_trouble(disks: Vec<Disk>, config: String, words: &[&str]) {
    let mut plan = Plan::new();
    plan.disks = disks;
    plan.config = config.into_bytes();
    let mut node = Machine::boot(plan);
    let promoted = node.exec("primary --force");
    let said = format!("{}{}", node.log(), node.exec("disks").unwrap_or_else(|e| e));
    assert!(
        promoted.is_err(),
        "it must not serve without its disk:\n{said}"
    );
    for words in words {
        assert!(said.contains(words), "no '{words}' in:\n{said}");
    }
    assert!(
        nbd::Client::connect(node.nbd_port).is_err(),
        "it serves nothing"
    );
    node.assert_alive();
}

#[test]
fn a_missing_disk() {
    disk_trouble(vec![], Plan::config(""), &["a-vol0"]);
    let other = Disk {
        serial: "something",
        ..Disk::usual()
    };
    disk_trouble(vec![other], Plan::config(""), &["a-vol0", "something"]);
}

#[test]
fn a_disk_that_is_too_small() {
    disk_trouble(
        vec![Disk::usual()],
        Plan::config("").replace("64MiB", "128MiB"),
        &["a-vol0", "enlarge the disk"],
    );
}

#[test]
fn a_read_only_disk() {
    let disk = Disk {
        read_only: true,
        ..Disk::usual()
    };
    disk_trouble(vec![disk], Plan::config(""), &["a-vol0", "read-only"]);
}

#[test]
fn two_disks_with_one_serial() {
    disk_trouble(
        vec![Disk::usual(), Disk::usual()],
        Plan::config(""),
        &["a-vol0"],
    );
}

#[test]
fn a_disk_with_blocks_of_4096_bytes_wants_a_configuration_that_says_so() {
    let disk = Disk {
        properties: ",logical_block_size=4096,physical_block_size=4096",
        ..Disk::usual()
    };
    let mut plan = Plan::new();
    plan.disks = vec![disk];
    plan.config = Plan::config("block-size = 4096\n").into_bytes();
    let mut node = Machine::boot(plan);
    node.serve();
    let mut client = nbd::Client::open(node.nbd_port, "vol0").expect("it serves");
    assert_eq!(client.write(8192, &[7; 4096]).expect("a reply"), 0);
    assert_eq!(client.read(8192, 4096).expect("a reply"), Ok(vec![7; 4096]));
    assert_eq!(client.write(512, &[7; 512]).expect("a reply"), nbd::EINVAL);
}

#[test]
fn a_network_card_without_a_link() {
    let mut node = Machine::boot(Plan::new());
    node.qmp(r#"{"execute":"set_link","arguments":{"name":"nic0","up":false}}"#);
    e2e::tools::wait_for("the lost link is shown", 10, || {
        let net = node.must_exec("net");
        net.to_lowercase().contains("down").then_some(())
    });
    // Clients do not suffer from it.
    node.serve();
    node.qmp(r#"{"execute":"set_link","arguments":{"name":"nic0","up":true}}"#);
    e2e::tools::wait_for("the link is back", 10, || {
        (!node.must_exec("net").to_lowercase().contains("down")).then_some(())
    });
}

#[test]
fn a_disk_that_grows_is_noticed() {
    let mut node = Machine::boot(Plan::new());
    node.serve();
    let mut client = nbd::Client::open(node.nbd_port, "vol0").expect("it serves");
    assert_eq!(client.write(0, &[1; 4096]).expect("a reply"), 0);
    node.qmp(r#"{"execute":"block_resize","arguments":{"node-name":"disk0","size":134217728}}"#);
    e2e::tools::wait_for("the change is in the log", 10, || {
        node.must_exec("log 100").contains("capacity").then_some(())
    });
    // The volume keeps the size it told its clients.
    assert_eq!(client.read(0, 4096).expect("a reply"), Ok(vec![1; 4096]));
    let export = nbd::Client::connect(node.nbd_port).and_then(|mut c| c.go("vol0"));
    assert_eq!(export.expect("it serves").size, 64 << 20);
}
