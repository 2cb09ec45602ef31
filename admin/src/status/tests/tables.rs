//! The tables of disks and cards, the version, and what is said when there is no node.

use super::*;

#[test]
fn the_table_of_disks() {
    let good = DiskInfo {
        serial: "a-vol0",
        volume: Some(0),
        capacity: 1 << 30,
        block_size: 512,
        read_only: false,
        flush: true,
        discard: true,
        write_zeroes: true,
        read_bytes: 8192,
        written_bytes: 0,
        errors: 0,
        problem: "",
    };
    let bad = DiskInfo {
        serial: "",
        volume: None,
        block_size: 4096,
        read_only: true,
        errors: 2,
        problem: "not configured",
        discard: false,
        ..good
    };
    let mut out = String::new();
    disks(&[good, bad], &mut out).unwrap();
    let expected = "\
serial               volume       size block  features        read    written
a-vol0               vol0        1 GiB   512  FDZ            8 KiB        0 B
(none)               -           1 GiB  4096  ro FZ          8 KiB        0 B
  ! 2 requests failed
  ! not configured
features: F flush, D discard, Z write zeroes, ro read-only
";
    assert_eq!(out, expected);
    let mut none = String::new();
    disks(&[], &mut none).unwrap();
    assert_eq!(none, "no disk was found (virtio-blk)\n");
}

#[test]
fn the_table_of_cards() {
    let mut roles = Roles::default();
    (roles.replication, roles.export) = (true, true);
    let card = NicInfo {
        index: 0,
        mac: Mac([0x52, 0x54, 0, 0, 1, 1]),
        roles: Some(roles),
        address: Some(Cidr {
            address: [10, 99, 0, 1].into(),
            prefix: 24,
        }),
        link_up: true,
        mtu: 1500,
        offloads: "csum",
        received_frames: 12,
        received_bytes: 2048,
        sent_frames: 3,
        sent_bytes: 180,
        dropped_frames: 1,
    };
    let idle = NicInfo {
        index: 1,
        roles: None,
        address: None,
        link_up: false,
        offloads: "",
        ..card
    };
    let mut out = String::new();
    net(&[card, idle], &mut out).unwrap();
    let expected = "\
0  52:54:00:00:01:01  link up  mtu 1500  10.99.0.1/24  csum
   replication+export
   received 12 frames, 2 KiB; sent 3 frames, 180 B; dropped 1
1  52:54:00:00:01:01  link DOWN  mtu 1500  no address
   not configured
   received 12 frames, 2 KiB; sent 3 frames, 180 B; dropped 1
";
    assert_eq!(out, expected);
    let mut none = String::new();
    net(&[], &mut none).unwrap();
    assert_eq!(none, "no network card was found (virtio-net)\n");
}

#[test]
fn the_version() {
    let mut out = String::new();
    version("0.1.0", "5ee47c4a1b2c-dirty", 1, &mut out).unwrap();
    assert_eq!(
        out,
        "Palisade 0.1.0 (5ee47c4a1b2c-dirty), peer protocol 1\n"
    );
}

#[test]
fn a_refused_configuration() {
    let errors = crate::config::Config::parse(b"[node]\nname = 5\n").unwrap_err();
    let mut text = String::new();
    refused_text(Refusal::Config(&errors), &mut text).unwrap();
    assert!(
        text.starts_with(
            "this node serves nothing: its configuration was refused; correct it and boot again\n\
             the configuration has "
        ),
        "{text}"
    );
    assert!(
        text.contains("\n  2 | name = 5\n    |        ^\n"),
        "{text}"
    );
    let mut json = String::new();
    refused_json(Refusal::Config(&errors), &info(&[]), &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["schema"], SCHEMA);
    assert_eq!(json["serving"], false);
    assert_eq!(json["config_errors"][0]["line"], 2);
    assert_eq!(json["config_errors"][0]["column"], 8);
    let message = json["config_errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("node: name: found 5, expected a name"));
}

#[test]
fn a_missing_device() {
    let problems = [String::from("volume 0 has no usable disk: \"x\"")];
    let mut text = String::new();
    refused_text(Refusal::Devices(&problems), &mut text).unwrap();
    assert_eq!(
        text,
        "this node serves nothing: it could not start; correct it and boot again\n\
         volume 0 has no usable disk: \"x\"\n"
    );
    let mut json = String::new();
    refused_json(Refusal::Devices(&problems), &info(&[]), &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["serving"], false);
    assert_eq!(json["config_errors"], serde_json::json!([]));
    assert_eq!(json["device_errors"][0]["message"], problems[0].as_str());
}

#[test]
fn explain_says_how_the_search_goes_before_what_was_decided() {
    let said = |search: &str| {
        let mut out = String::new();
        explain(search, (0, &[]), (0, &[]), &mut out).unwrap();
        out
    };
    assert!(said("").starts_with("no handshake has come to a decision"));
    let searching = said("no answer from 10.77.0.1:7789 for 12 s");
    let (first, rest) = searching.split_once('\n').unwrap();
    assert_eq!(
        first,
        "not connected: no answer from 10.77.0.1:7789 for 12 s"
    );
    assert_eq!(rest, said(""));
}
