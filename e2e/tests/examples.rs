//! The files under `examples/` for libvirt and systemd.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::console::Console;
use e2e::machine::Plan;
use e2e::tools::{checkout, disk_bytes, kernel, must, run, scratch, text};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

fn example(name: &str) -> PathBuf {
    checkout().join("examples").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(example(name)).expect(name)
}

#[test]
fn the_domains_are_what_libvirt_takes() {
    for name in ["palisade-a.xml", "palisade-b.xml", "guest.xml"] {
        let file = example("libvirt").join(name);
        must(
            "virt-xml-validate",
            &[file.to_str().expect("UTF-8"), "domain"],
            20,
        );
    }
    // That the check bites: a device that no schema knows.
    let dir = scratch();
    let wrong = dir.path().join("wrong.xml");
    let text = read("libvirt/guest.xml").replace("<target dev='vda' bus='virtio'/>", "");
    std::fs::write(&wrong, text).expect("a writable directory");
    let wrong = wrong.to_str().expect("UTF-8");
    assert!(
        !run("virt-xml-validate", &[wrong, "domain"], 20)
            .status
            .success()
    );
}

#[test]
fn the_domains_fit_the_example_configurations() {
    for node in ["a", "b"] {
        let xml = read(&format!("libvirt/palisade-{node}.xml"));
        let toml = read(&format!("{node}.toml"));
        let serial = format!("{node}-vol0");
        assert!(xml.contains(&format!("<serial>{serial}</serial>")), "{xml}");
        assert!(toml.contains(&format!("serial = \"{serial}\"")), "{toml}");
        // Networks in the order of the indices.
        let place = |of: &str, what: &str| of.find(what).expect(what);
        assert!(place(&xml, "br-replication") < place(&xml, "br-export"));
        assert!(place(&toml, "\"replication\"") < place(&toml, "\"export\""));
    }
}

#[test]
fn systemd_takes_the_units() {
    for (file, instance) in [
        ("palisade@.service", "palisade@a.service"),
        ("palisade-arbiter.service", "palisade-arbiter.service"),
    ] {
        let dir = scratch();
        // A program that is there, in place of one that is not installed here.
        let unit = read(&format!("systemd/{file}"))
            .replace("/usr/local/bin/palisade-arbiter ", "/bin/true ");
        std::fs::write(dir.path().join(file), unit).expect("a writable directory");
        let instance = dir.path().join(instance);
        let output = run(
            "systemd-analyze",
            &["verify", "--man=no", instance.to_str().expect("UTF-8")],
            30,
        );
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        // Unknown directives are warnings that name the file.
        assert!(!said.contains("palisade"), "{said}");
    }
}

/// A process that ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_unit_boots_a_node_and_stops_it() {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("a.toml"), Plan::config("")).expect("a writable directory");
    let disk = std::fs::File::create(path("disk")).expect("a writable directory");
    disk.set_len(disk_bytes(64 << 20)).expect("a sparse file");

    let unit = read("systemd/palisade@.service").replace("\\\n", " ");
    let directive = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name));
        // The two directories that systemd makes are the test's.
        line.expect(name)
            .replace("%i", "a")
            .replace("/run/palisade-a", dir.path().to_str().expect("UTF-8"))
            .replace("/var/log/palisade", dir.path().to_str().expect("UTF-8"))
    };
    let mut values: BTreeMap<String, String> = read("systemd/a.env")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').expect("NAME=VALUE"))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    for (name, value) in [
        ("ACCEL", String::from("tcg")),
        ("CPU", String::from("max")),
        ("KERNEL", kernel().display().to_string()),
        ("CONFIG", path("a.toml")),
        ("DISK", format!("file={}", path("disk"))),
        ("REPLICATION", String::from("user")),
        ("EXPORT", String::from("user")),
    ] {
        let before = values.insert(name.into(), value);
        assert!(before.is_some(), "{name} is in a.env");
    }
    let child = Command::new("sh")
        .args(["-c", &format!("exec {}", directive("ExecStart="))])
        .envs(values)
        .stdin(Stdio::null())
        .spawn()
        .expect("sh");
    let mut qemu = Guard(child);
    let mut console = Console::open(&dir.path().join("console"));
    console.banner(30);
    assert!(console.answers(30), "the console answers");
    // Its disk was found by its serial number.
    let disks = console.exec("disks", 20).expect("a list");
    assert!(disks.contains("a-vol0"), "{disks}");
    drop(console);

    // systemd takes C's escapes in an argument, as the shell that runs it here does not.
    let stop = directive("ExecStop=").replace("\\\\", "\\");
    must("sh", &["-c", &stop], 20);
    let ended = e2e::tools::wait_for("QEMU ends", 20, || qemu.0.try_wait().expect("our child"));
    assert!(ended.success(), "{ended}");
    let log = std::fs::read(path("a.log")).expect("the log");
    assert!(text(&log).contains("powering off"), "{}", text(&log));
}
