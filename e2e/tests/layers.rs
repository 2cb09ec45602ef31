//! The arrow of dependencies: logic crates never see drivers, kernel or smoltcp (design, section 1;
//! docs/ARCHITECTURE.md, "The map").
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const LOGIC: [&str; 5] = ["replication", "resync", "fencing", "net", "admin"];

/// Every package's name, and the ids of what it needs at run or build time (tests aside).
fn packages() -> BTreeMap<String, (String, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(e2e::tools::checkout())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        e2e::tools::text(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| {
            (
                p["id"].as_str().expect("id"),
                p["name"].as_str().expect("name"),
            )
        })
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    nodes
        .iter()
        .map(|node| {
            let id = node["id"].as_str().expect("id");
            let needed = node["deps"].as_array().expect("deps").iter().filter(|dep| {
                let kinds = dep["dep_kinds"].as_array().expect("kinds");
                kinds.iter().any(|kind| kind["kind"] != "dev")
            });
            let needed = needed.map(|dep| dep["pkg"].as_str().expect("pkg").to_owned());
            (id.to_owned(), (names[id].to_owned(), needed.collect()))
        })
        .collect()
}

/// The names of everything that `name` needs, at any depth, without itself.
fn needs(name: &str, packages: &BTreeMap<String, (String, Vec<String>)>) -> BTreeSet<String> {
    let start = packages.values().find(|(n, _)| n == name);
    let (_, direct) = start.unwrap_or_else(|| panic!("no package {name}"));
    let mut open = direct.clone();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id.clone()) {
            open.extend(packages[&id].1.iter().cloned());
        }
    }
    seen.iter().map(|id| packages[id].0.clone()).collect()
}

#[test]
fn logic_never_depends_on_drivers_kernel_or_a_network_stack() {
    let packages = packages();
    for name in LOGIC {
        let needs = needs(name, &packages);
        for barred in [
            "drivers",
            "kernel",
            "boot",
            "virtio-drivers",
            "sim",
            "e2e",
            "std",
        ] {
            assert!(!needs.contains(barred), "{name} depends on {barred}");
        }
        // `net` is the glue around smoltcp; nothing else may know it.
        assert!(
            name == "net" || !needs.contains("smoltcp"),
            "{name} depends on smoltcp"
        );
    }
}

#[test]
fn lower_layers_do_not_know_higher_ones() {
    let packages = packages();
    let ours = [
        "replication",
        "resync",
        "fencing",
        "net",
        "admin",
        "drivers",
        "boot",
        "kernel",
    ];
    let allowed: [(&str, &[&str]); 8] = [
        ("resync", &[]),
        ("fencing", &[]),
        ("replication", &["resync", "fencing"]),
        ("net", &["replication", "resync", "fencing"]),
        ("admin", &["replication", "resync", "fencing"]),
        ("drivers", &[]),
        ("boot", &[]),
        ("e2e", &[]),
    ];
    for (name, allowed) in allowed {
        for needed in needs(name, &packages) {
            assert!(
                !ours.contains(&needed.as_str()) || allowed.contains(&needed.as_str()),
                "{name} depends on {needed}"
            );
        }
    }
}

#[test]
fn logic_is_no_std_and_without_unsafe() {
    for name in LOGIC {
        let path = e2e::tools::checkout().join(name).join("src/lib.rs");
        let text = std::fs::read_to_string(&path).expect("a library");
        for wanted in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            assert!(
                text.lines().any(|line| line.trim() == wanted),
                "{name} lacks {wanted}"
            );
        }
    }
}
