//! What a program is told.

use super::*;

#[test]
fn json_has_the_documented_fields() {
    let held = ClientInfo {
        phase: ClientPhase::Held,
        volume: None,
        ..CLIENT
    };
    let expected = serde_json::json!({
        "schema": 1,
        "version": "0.1.0",
        "uptime_us": 187_000_000,
        "node": "a",
        "peer": "b",
        "resource": "r0",
        "role": "Primary",
        "peer_role": "Secondary",
        "connection": "Connected",
        "protocol": "C",
        "reason": "",
        "serving": true,
        "suspended": { "user": false, "no_data": false, "fencing": false },
        "fencing": {
            "policy": "dont-care", "episode": null, "state": "", "granted": { "peer": false, "arbiter": false },
            "fenced_by": null, "waits": { "peer": false, "arbiter": false, "disks": false }, "frozen": false,
            "overdue": false, "promoting": false, "seen": 0, "released": 0
        },
        "promotion": {
            "auto": false, "waiting_clients": 0, "denied": "", "denied_s": null, "for_clients": false
        },
        "open_clients": 1,
        "volumes": [{
            "index": 0,
            "size": 1 << 30,
            "disk": "UpToDate",
            "peer_disk": "Inconsistent",
            "replication": "SyncSource",
            "out_of_sync": 549_453_824,
            "resync": {
                "done": 524_288_000,
                "total": 1 << 30,
                "percent": 48.8,
                "rate": 13_107_200,
                "rate_18s": 11_534_336,
                "rate_avg": 10_485_760,
                "eta_s": 42,
                "stalled": false,
            },
            "verify": null,
            "waits": "",
            "verified": null,
            "metadata": "none",
            "activity": { "hot": 0, "limit": 0 },
            "snapshot": null,
            "lag": 0,
            "current_uuid": "0123456789ABCDEF",
            "bitmap_uuid": "000000000000FEDC",
            "read_bytes": 4096,
            "written_bytes": 3_145_728,
            "received_bytes": 0,
        }],
        "clients": [{
            "address": "10.0.2.2:40512",
            "phase": "transmission",
            "volume": 0,
            "in_flight": 3,
            "read_bytes": 4096,
            "written_bytes": 3_145_728,
            "connected_us": 5_000_000,
        }, {
            "address": "10.0.2.2:40512",
            "phase": "held",
            "volume": null,
            "in_flight": 3,
            "read_bytes": 4096,
            "written_bytes": 3_145_728,
            "connected_us": 5_000_000,
        }],
        "memory": { "used": 13_107_200, "total": 67_108_864 },
        "buffers": { "used": 0, "total": 16_777_216 },
        "allocations": 321,
        "crashed": false,
    });
    assert_eq!(json_of(&syncing(), &[CLIENT, held]), expected);
    assert!(json_of(&status(), &[])["volumes"][0]["resync"].is_null());
    let mut verifying = syncing();
    verifying.volumes[0].replication = ReplicationState::VerifyT;
    verifying.volumes[0].waits = Text::try_from("paused").unwrap();
    verifying.suspended.no_data = true;
    let json = json_of(&verifying, &[]);
    assert!(json["volumes"][0]["resync"].is_null());
    assert_eq!(json["volumes"][0]["verify"]["percent"], 48.8);
    assert_eq!(json["volumes"][0]["waits"], "paused");
    assert_eq!(json["suspended"]["no_data"], true);
}

#[test]
fn a_snapshot_and_the_use_of_its_reserve_are_shown() {
    let mut status = status();
    let cases = [
        (
            SnapshotStage::Empty,
            "none",
            "snapshot: none, reserve of 8 MiB",
        ),
        (
            SnapshotStage::Held,
            "held",
            "snapshot before-resync: held, reserve 4 KiB of 8 MiB",
        ),
        (
            SnapshotStage::Stuck,
            "stuck",
            "held, stuck, reserve 4 KiB of 8 MiB",
        ),
        (
            SnapshotStage::RollingBack,
            "rolling-back",
            "snapshot: being rolled back, 4 KiB",
        ),
        (
            SnapshotStage::RolledBack,
            "rolled-back",
            "snapshot: the disk was rolled back to it",
        ),
    ];
    for (stage, word, line) in cases {
        status.volumes[0].snapshot = Some(SnapshotReport {
            stage,
            used: 4096,
            room: 8 << 20,
        });
        let json = json_of(&status, &[]);
        assert_eq!(json["volumes"][0]["snapshot"]["state"], word);
        assert_eq!(json["volumes"][0]["snapshot"]["used"], 4096);
        assert_eq!(json["volumes"][0]["snapshot"]["room"], 8 << 20);
        let text = text_of(&status, &[]);
        assert!(text.contains(line), "{text}");
        assert!(text.lines().all(|line| line.len() < 80), "{text}");
    }
}

#[test]
fn json_survives_any_reason() {
    for reason in [
        "a \"quoted\" \\ word",
        "\u{1b}[2J\n\u{0}\u{7f}",
        "\u{e9}\u{1f600}",
    ] {
        let mut status = status();
        status.reason = Text::try_from(reason).unwrap();
        assert_eq!(json_of(&status, &[])["reason"], reason);
    }
}
