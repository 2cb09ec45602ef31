//! Changes while the node runs.

use super::*;
use crate::config::live::{self, Changes, KEYS, Written};

const TEXT: &str = r#"
[node]
name = "a"
[resource]
name = "r0"
[peer]
name = "b"
address = "10.99.0.2"
secret = "correct horse battery"
[resync]
c-min-rate = "1MiB"
[[nic]]
roles = ["replication", "export"]
index = 0
address = "10.99.0.1/24"
[[volume]]
index = 0
serial = "a-vol0""#;

fn set(changes: &Changes, key: &str, value: &str) -> Result<(Changes, Config), String> {
    let changes = changes.with(live::key(key).unwrap(), value);
    match changes.apply(TEXT.as_bytes()) {
        Ok(config) => Ok((changes, config)),
        Err(errors) => {
            let mut out = String::new();
            live::refused(&errors, &mut out).unwrap();
            Err(out)
        }
    }
}

#[test]
fn changes_are_laid_over_what_is_there_and_can_be_undone() {
    let booted = Config::parse(TEXT.as_bytes()).unwrap();
    let none = Changes::default();
    assert_eq!(none.apply(TEXT.as_bytes()).as_ref(), Ok(&booted));
    // A section that the text has, one that it has not, a number, a flag, a key that is left out by itself.
    let (changes, _) = set(&none, "resync.c-min-rate", "2MiB").unwrap();
    let (changes, _) = set(&changes, "net.timeout", "\"9s\"").unwrap();
    let (changes, _) = set(&changes, "resync.max-parallel-resyncs", "2").unwrap();
    let (changes, _) = set(&changes, "resource.auto-promote", "true").unwrap();
    let (changes, config) = set(&changes, "resync.c-max-rate", "10MiB/s").unwrap();
    assert_eq!(config.resync.c_min_rate, 2 << 20);
    assert_eq!(config.resync.c_max_rate, Some(10 << 20));
    assert_eq!(config.resync.max_parallel, 2);
    assert!(config.resource.auto_promote);
    assert_eq!(config.net.timeout, 9_000_000);
    assert_eq!(
        config.net.ping_interval, 3_000_000,
        "it follows the timeout"
    );
    assert_eq!(config.peer, booted.peer, "the secret is still there");
    assert_eq!(config.volumes, booted.volumes);
    let mut out = String::new();
    live::list(&config, &booted, &mut out).unwrap();
    for line in [
        "key                             value                  in the TOML, if other",
        "net.timeout                     \"9s\"                   \"6s\"",
        "net.ping-interval               \"3s\"                   \"2s\"",
        "net.connect-interval            \"1s\"",
        "resync.c-min-rate               \"2MiB\"                 \"1MiB\"",
        "resync.c-max-rate               \"10MiB\"                none",
    ] {
        assert!(out.lines().any(|l| l == line), "no '{line}' in:\n{out}");
    }
    assert_eq!(out.lines().count(), 1 + KEYS.len());
    // Left out: the default, and not what the text says.
    let (changes, config) = set(&changes, "resync.c-min-rate", "").unwrap();
    assert_eq!(config.resync.c_min_rate, 4 << 20);
    let (changes, config) = set(&changes, "resync.c-max-rate", "").unwrap();
    assert_eq!(config.resync.c_max_rate, None);
    assert!(!changes.is_empty());
    let mut out = String::new();
    assert!(live::differences(&booted, &config, &mut out).unwrap());
    assert!(
        out.contains("resync.c-min-rate: \"1MiB\" becomes \"4MiB\"\n"),
        "{out}"
    );
    assert!(!live::differences(&booted, &booted, &mut out).unwrap());
}

#[test]
fn a_change_is_held_against_limits_and_other_keys() {
    let none = Changes::default();
    assert_eq!(
        set(&none, "net.timeout", "1s\"").map(|(_, config)| config.net.timeout),
        Ok(1_000_000)
    );
    for (key, value, expected) in [
        (
            "net.timeout",
            "1",
            "net: timeout: found 1, expected a duration in quotes",
        ),
        (
            "net.timeout",
            "1h",
            "net: timeout: found \"1h\", expected a duration in quotes from \"500ms\" to",
        ),
        (
            "net.ping-interval",
            "5s",
            "net: ping-interval: found 5s, expected at most half of the timeout",
        ),
        (
            "resync.c-max-rate",
            "64KiB",
            "resync: c-min-rate is 1MiB, expected at most c-max-rate (64KiB)",
        ),
        (
            "resync.csums",
            "maybe",
            "resync: csums: found \"maybe\", expected true or false",
        ),
        (
            "replication.on-congestion",
            "pull-ahead",
            "replication: on-congestion: found \"pull-ahead\", which breaks the promise",
        ),
        (
            "resource.after-sb-0pri",
            "discard-node-x",
            "resource: after-sb-0pri: found \"x\" as a node's name",
        ),
        ("node.log-level", "a\"b\\c'd", "node: log-level: found"),
    ] {
        let said = set(&none, key, value).unwrap_err();
        let said = said.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.starts_with(expected), "{key}={value}: {said}");
    }
}

#[test]
fn every_key_is_one_and_the_manual_marks_exactly_these() {
    let config = Config::parse(TEXT.as_bytes()).unwrap();
    let written = Written::of(&config);
    let manual = include_str!("../../../../docs/CONFIG.md");
    let mut marked = Vec::new();
    let mut section = "";
    for line in manual.lines() {
        if let Some(header) = line.strip_prefix("## ") {
            section = header.trim_matches(['[', ']']).split(']').next().unwrap();
        }
        let key = line
            .strip_prefix("| `")
            .and_then(|rest| rest.split('`').next());
        if let Some(key) = key.filter(|_| line.contains("| live; ")) {
            marked.push(format!("{section}.{key}"));
        }
    }
    assert_eq!(marked, KEYS);
    for key in KEYS {
        let optional = ["replication.congestion-extents", "resync.c-max-rate"];
        assert!(
            written.get(key).is_some() || optional.contains(key),
            "{key}"
        );
    }
    assert_eq!(live::near("c-max-rate"), Some("resync.c-max-rate"));
    assert_eq!(live::near("net.timeuot"), Some("net.timeout"));
    assert_eq!(live::key("peer.address"), None);
}
