//! The documents as Prometheus reads them.

use super::*;
use crate::config::Mac;
use crate::status::tests as sample;
use crate::status::{ClientInfo, Usage};
use replication::api::{SnapshotReport, SnapshotStage, Text, VerifyReport};
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;
use std::vec::Vec;

fn node<'a>(clients: &'a [ClientInfo]) -> NodeInfo<'a> {
    NodeInfo {
        version: "1.2.3",
        uptime: 61_500_000,
        memory: Usage { used: 7, total: 9 },
        pool: Usage { used: 1, total: 4 },
        allocations: 12,
        crashed: false,
        clients,
    }
}

/// As bad as it gets: everything is there, and every number is as long as it can be.
fn full(volumes: u16) -> Status {
    let mut status = sample::status();
    status.volumes.clear();
    for index in 0..volumes {
        let mut volume = sample::volume(255 - index);
        for bytes in [
            &mut volume.size,
            &mut volume.out_of_sync,
            &mut volume.lag_bytes,
            &mut volume.read_bytes,
            &mut volume.written_bytes,
            &mut volume.received_bytes,
        ] {
            *bytes = u64::MAX;
        }
        volume.waits = Text::try_from("something").unwrap();
        (volume.activity_hot, volume.activity_limit) = (u32::MAX, u32::MAX);
        volume.progress = Some(Progress {
            done: u64::MAX,
            total: u64::MAX,
            rate_now: u64::MAX,
            rate_18s: u64::MAX,
            rate_avg: u64::MAX,
            eta_seconds: Some(u64::MAX),
            stalled: true,
        });
        volume.snapshot = Some(SnapshotReport {
            stage: SnapshotStage::Held,
            used: u64::MAX,
            room: u64::MAX,
        });
        volume.verify = Some(VerifyReport {
            running: true,
            finished: false,
            position: 1,
            compared: 2,
            differing_blocks: u64::MAX / BLOCK,
            repaired_blocks: u64::MAX / BLOCK,
            unreadable_bytes: u64::MAX,
        });
        status.volumes.push(volume).unwrap();
    }
    status
}

fn disk(serial: &str, volume: u16) -> DiskInfo<'_> {
    DiskInfo {
        serial,
        volume: Some(volume),
        capacity: 1,
        block_size: 512,
        read_only: false,
        flush: true,
        discard: true,
        write_zeroes: true,
        read_bytes: u64::MAX,
        written_bytes: u64::MAX,
        errors: u64::MAX,
        problem: "",
    }
}

fn nic(index: u16) -> NicInfo<'static> {
    NicInfo {
        index,
        mac: Mac([0; 6]),
        roles: None,
        address: None,
        link_up: true,
        mtu: 1500,
        offloads: "",
        received_frames: u64::MAX,
        received_bytes: u64::MAX,
        sent_frames: u64::MAX,
        sent_bytes: u64::MAX,
        dropped_frames: u64::MAX,
    }
}

fn text_of(status: &Status, latencies: &[(u16, &Latencies)], disks: &[DiskInfo<'_>]) -> String {
    let nics: Vec<_> = (0..8).map(nic).collect();
    let http: Vec<_> = (0..15).map(|code| (400 + code, u64::MAX)).collect();
    let mut text = String::new();
    write(
        &Sample {
            status,
            node: &node(&[]),
            disks,
            nics: &nics,
            latencies,
            datagrams_dropped: Some(u64::MAX),
            http: &http,
        },
        &mut text,
    )
    .unwrap();
    text
}

/// Every sample by its name with labels. Checks what a reader relies on: each family is announced once, before its samples, which are
/// together; no sample is there twice; names and kinds go together.
fn read(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        assert!(line.is_ascii(), "{line}");
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            assert!(families.insert(String::from(name)), "twice: {name}");
            family = String::from(name);
            kind.clear();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(kind.is_empty());
            kind = String::from(of);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            let bare = match &*kind {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| bare.strip_suffix(end))
                    .expect(line),
                "gauge" | "counter" => bare,
                _ => panic!("no kind before {line}"),
            };
            assert_eq!(bare, family, "{line}");
            let value: f64 = value.parse().expect(line);
            assert!(
                samples.insert(String::from(name), value).is_none(),
                "twice: {line}"
            );
        }
    }
    samples
}

#[test]
fn the_states_of_a_pair_are_there() {
    let mut status = sample::status();
    status.fencing.record.own = OwnFence::Requested(7);
    let mut latencies = Latencies::default();
    latencies.disk.record(20);
    latencies.disk.record(30);
    latencies.disk.record(9_000_000);
    let samples = read(&text_of(&status, &[(0, &latencies)], &[disk("a\"b", 0)]));
    let value = |name: &str| samples[&format!("palisade_{name}")];
    assert_eq!(value("role{of=\"self\",role=\"Primary\"}"), 1.0);
    assert_eq!(value("role{of=\"self\",role=\"Secondary\"}"), 0.0);
    assert_eq!(value("role{of=\"peer\",role=\"Secondary\"}"), 1.0);
    assert_eq!(value("connection_state{state=\"Connected\"}"), 1.0);
    assert_eq!(
        value("volume_disk_state{volume=\"vol0\",state=\"UpToDate\"}"),
        1.0
    );
    assert_eq!(
        value("volume_disk_state{volume=\"vol0\",state=\"Outdated\"}"),
        0.0
    );
    assert_eq!(value("uptime_seconds"), 61.5);
    assert_eq!(value("memory_used_bytes"), 7.0);
    assert_eq!(value("fence_state{state=\"requested\"}"), 1.0);
    assert_eq!(value("fence_episode"), 7.0);
    let written = samples["palisade_volume_written_bytes_total{volume=\"vol0\"}"];
    assert_eq!(written, f64::from(3 << 20));
    assert_eq!(
        value("disk_errors_total{volume=\"vol0\",serial=\"a\\\"b\"}"),
        u64::MAX as f64
    );
    let bucket = |le| {
        value(&format!(
            "disk_request_duration_seconds_bucket{{volume=\"vol0\",le=\"{le}\"}}"
        ))
    };
    assert_eq!([bucket("0.000016"), bucket("0.000032")], [0.0, 2.0]);
    assert_eq!([bucket("8.388608"), bucket("+Inf")], [2.0, 3.0]);
    assert_eq!(
        value("disk_request_duration_seconds_sum{volume=\"vol0\"}"),
        9.00005
    );
    assert_eq!(
        value("disk_request_duration_seconds_count{volume=\"vol0\"}"),
        3.0
    );
    // One state at a time.
    for family in [
        "role{of=\"self\"",
        "connection_state{",
        "fence_state{",
        "volume_replication_state{",
    ] {
        let prefix = format!("palisade_{family}");
        let of: Vec<f64> = samples
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|s| *s.1)
            .collect();
        assert!(
            of.len() > 2 && of.iter().sum::<f64>() == 1.0,
            "{family}: {of:?}"
        );
    }
}

#[test]
fn the_largest_document_fits_what_is_set_aside_for_it() {
    let mut slowest = Latencies::default();
    for histogram in [
        &mut slowest.request,
        &mut slowest.disk,
        &mut slowest.flush,
        &mut slowest.peer,
    ] {
        histogram.record(u64::MAX);
    }
    for volumes in [1, 16] {
        let status = full(volumes);
        let serial = "\"".repeat(20);
        let disks: Vec<_> = (0..volumes)
            .flat_map(|of| [disk(&serial[..18], 255 - of), disk(&serial, 255 - of)])
            .collect();
        let latencies: Vec<_> = (0..volumes).map(|of| (255 - of, &slowest)).collect();
        let text = text_of(&status, &latencies, &disks);
        read(&text);
        // Counts have one digit here and may have 20.
        let digits = usize::from(volumes) * 4 * 23 * 19;
        let room = bytes_max(volumes.into());
        assert!(
            text.len() + digits < room,
            "{} of {room}",
            text.len() + digits
        );
    }
}

#[test]
fn every_family_is_in_the_manual() {
    let manual = include_str!("../../../docs/HTTP.md");
    let text = text_of(&full(1), &[(0, &Latencies::default())], &[disk("a", 0)]);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let row = format!("\n| `{name}` | {kind} |");
        assert!(
            manual.contains(&row),
            "{name} {kind} is not in docs/HTTP.md"
        );
    }
}

#[test]
fn health_is_this_nodes_own() {
    let told = |status: &Status| {
        let mut text = String::new();
        (health(status, &mut text).unwrap(), text)
    };
    let well = |text: &str| (true, String::from(text));
    let ill = |text: &str| (false, String::from(text));
    let mut status = sample::status();
    assert_eq!(told(&status), well("ok\n"));
    status.connection = ConnectionState::Connecting;
    status.reason = Text::try_from("no answer").unwrap();
    status.volumes[0].peer_disk = DiskState::DUnknown;
    assert_eq!(told(&status), well("ok, without the peer\n"));
    status.volumes[0].disk = DiskState::Inconsistent;
    assert_eq!(
        told(&status),
        ill("vol0: this node's disk is Inconsistent\nno answer\n")
    );
    status = sample::status();
    status.suspended.user = true;
    assert_eq!(
        told(&status),
        ill("clients' requests are held back by suspend-io\n")
    );
    status = sample::status();
    status.connection = ConnectionState::StandAlone;
    assert_eq!(
        told(&status),
        ill("StandAlone: this node does not look for its peer\n")
    );
}
