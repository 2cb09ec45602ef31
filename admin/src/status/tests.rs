//! What an operator and a program are told.

mod json;
mod tables;

use super::*;
use replication::api::{
    DeniedPromotion, Grantors, MetadataKind, Name, OwnFence, Policy, Protocol, SnapshotReport,
    SnapshotStage, Status, Suspended, Text, VerifyReport, VolumeStatus,
};
use std::string::String;
use std::vec::Vec;

pub(crate) fn volume(index: u16) -> VolumeStatus {
    VolumeStatus {
        index,
        size: 1 << 30,
        disk: DiskState::UpToDate,
        peer_disk: DiskState::UpToDate,
        replication: ReplicationState::Established,
        out_of_sync: 0,
        progress: None,
        waits: Text::new(),
        verify: None,
        activity_hot: 0,
        activity_limit: 0,
        metadata: MetadataKind::None,
        snapshot: None,
        lag_bytes: 0,
        current_uuid: 0x0123_4567_89AB_CDEF,
        bitmap_uuid: 0,
        read_bytes: 4096,
        written_bytes: 3 << 20,
        received_bytes: 0,
    }
}

pub(crate) fn status() -> Status {
    let name = |text| Name::try_from(text).unwrap();
    Status {
        node: name("a"),
        peer: name("b"),
        resource: name("r0"),
        role: Role::Primary,
        peer_role: Role::Secondary,
        connection: ConnectionState::Connected,
        protocol: Protocol::C,
        reason: Text::new(),
        open_clients: 1,
        serving: true,
        suspended: Suspended::default(),
        fencing_policy: Default::default(),
        fencing: Default::default(),
        auto_promote: false,
        waiting_clients: 0,
        denied: None,
        volumes: [volume(0)].into_iter().collect(),
    }
}

/// A Primary that has lost its peer and holds the fence by the arbiter's word, the peer not having answered.
pub(crate) fn fencing() -> Status {
    let mut status = status();
    let by = Grantors {
        peer: false,
        arbiter: true,
    };
    status.fencing_policy = Policy::ResourceAndStonith;
    status.fencing.record.seen = 7;
    status.fencing.record.own = OwnFence::Held(7, by);
    status.fencing.awaits_peer = true;
    status
}

#[test]
fn fences_are_shown() {
    assert!(
        !text_of(&status(), &[]).contains("fenc"),
        "nobody is fenced by dont-care"
    );
    let mut status = fencing();
    let out = text_of(&status, &[]);
    let line = "\nfence: episode 7 held, granted by arbiter; waits for the peer\n";
    assert!(out.contains(line), "{out}");
    let mut line = String::new();
    json(&status, &info(&[]), &mut line).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(shown["fencing"]["episode"], 7);
    assert_eq!(shown["fencing"]["state"], "held");
    assert_eq!(shown["fencing"]["granted"]["arbiter"], true);
    assert_eq!(shown["fencing"]["waits"]["peer"], true);

    status.fencing.record.own = OwnFence::Requested(8);
    status.fencing.awaits_arbiter = true;
    (status.fencing.frozen, status.fencing.overdue) = (true, true);
    status.suspended.fencing = true;
    let out = text_of(&status, &[]);
    assert!(
        out.contains("episode 8 requested; waits for peer and arbiter; overdue\n"),
        "{out}"
    );
    assert!(
        out.contains("! clients' requests wait until it is decided"),
        "{out}"
    );

    status = fencing();
    status.fencing.record.own = OwnFence::None;
    status.fencing.record.mark = Some(9);
    let out = text_of(&status, &[]);
    assert!(
        out.contains("\nfence: by b, episode 9, against this node; waits for the peer\n"),
        "{out}"
    );
}

#[test]
fn a_denied_promotion_is_shown_where_clients_wait_for_it_and_explained() {
    let mut status = fencing();
    status.role = Role::Secondary;
    (status.auto_promote, status.waiting_clients) = (true, 2);
    status.denied = Some(DeniedPromotion {
        at: 180_000_000,
        why: Text::try_from("the peer fences this node by episode 9").unwrap(),
        for_clients: true,
    });
    let out = text_of(&status, &[]);
    assert!(
        out.contains(
            "\n2 clients wait to be served\n! not promoted, 7 s ago, by clients that wait: the peer"
        ),
        "{out}"
    );
    let mut line = String::new();
    json(&status, &info(&[]), &mut line).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(shown["promotion"]["waiting_clients"], 2);
    assert_eq!(shown["promotion"]["denied_s"], 7);
    assert!(
        shown["promotion"]["denied"]
            .as_str()
            .unwrap()
            .contains("episode 9")
    );
    let explained = |status: &Status| {
        let mut out = String::new();
        explain_roles(status, 187_000_000, &mut out).unwrap();
        out
    };
    let out = explained(&status);
    assert!(
        out.contains("fence: episode 7 held") && out.contains("promotion: not promoted, 7 s ago"),
        "{out}"
    );
    // A command's is the operator's, who has read it; and a node that serves needs no excuse.
    status.denied.as_mut().unwrap().for_clients = false;
    status.waiting_clients = 0;
    assert!(!text_of(&status, &[]).contains("not promoted"));
    assert!(explained(&status).contains("by command"));
    (status.role, status.denied) = (Role::Primary, None);
    status.waiting_clients = 1;
    assert!(!text_of(&status, &[]).contains("wait to be served"));
}

#[test]
fn the_verb_fence_says_what_ends_it() {
    let told = |status: &Status, dropped| {
        let mut out = String::new();
        fence(status, dropped, &mut out).unwrap();
        assert!(out.lines().all(|line| line.len() < 80), "{out}");
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let out = told(&status(), None);
    assert!(
        out.contains("fences nobody") && out.contains("no management network is configured"),
        "{out}"
    );
    let mut status = fencing();
    let out = told(&status, Some(3));
    assert!(
        out.contains("fences b by episode 7, granted by arbiter")
            && out.contains("when every volume is UpToDate on both nodes")
            && out.contains("waits for the answer of the peer")
            && out.contains("dropped since boot: 3"),
        "{out}"
    );
    assert!(!out.contains("unfence"), "not while it serves by it: {out}");
    status.role = Role::Secondary;
    assert!(told(&status, Some(3)).contains("'unfence 7'"));
    status.fencing.record.own = OwnFence::None;
    status.fencing.record.mark = Some(9);
    let out = told(&status, Some(3));
    assert!(
        out.contains("fenced by b, episode 9") && out.contains("'primary --force', or 'unfence 9'"),
        "{out}"
    );
}

fn syncing() -> Status {
    let mut status = status();
    let volume = &mut status.volumes[0];
    volume.replication = ReplicationState::SyncSource;
    volume.peer_disk = DiskState::Inconsistent;
    volume.out_of_sync = 524 << 20;
    volume.progress = Some(Progress {
        done: 500 << 20,
        total: 1 << 30,
        rate_now: 25 << 19,
        rate_18s: 11 << 20,
        rate_avg: 20 << 19,
        eta_seconds: Some(42),
        stalled: false,
    });
    volume.bitmap_uuid = 0xFEDC;
    status
}

const CLIENT: ClientInfo = ClientInfo {
    address: SocketAddr::new(
        core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 2, 2)),
        40512,
    ),
    phase: ClientPhase::Transmission,
    volume: Some(0),
    in_flight: 3,
    read_bytes: 4096,
    written_bytes: 3 << 20,
    connected_for: 5_000_000,
};

fn info(clients: &[ClientInfo]) -> NodeInfo<'_> {
    NodeInfo {
        version: "0.1.0",
        uptime: 187_000_000,
        memory: Usage {
            used: 25 << 19,
            total: 64 << 20,
        },
        pool: Usage {
            used: 0,
            total: 16 << 20,
        },
        allocations: 321,
        crashed: false,
        clients,
    }
}

fn text_of(status: &Status, clients: &[ClientInfo]) -> String {
    let mut out = String::new();
    text(status, &info(clients), &mut out).unwrap();
    assert!(out.lines().all(|line| line.len() < 80), "{out}");
    out
}

#[test]
fn status_of_a_healthy_pair() {
    let expected = "\
a: Primary/UpToDate  b: Secondary/UpToDate  protocol C
resource r0  connection: Connected  clients: 1 (serving)  up 3:07

volume        size  disk          peer disk     replication  out of sync
vol0         1 GiB  UpToDate      UpToDate      Established          0 B
        generation 0123456789ABCDEF
        clients read 4 KiB, wrote 3 MiB; from peer 0 B

client                 volume phase        in flight        read     written
10.0.2.2:40512         vol0   transmission         3       4 KiB       3 MiB

memory 12.5 MiB of 64 MiB, buffers 0 B of 16 MiB
";
    assert_eq!(text_of(&status(), &[CLIENT]), expected);
}

#[test]
fn status_of_a_resync() {
    let text = text_of(&syncing(), &[]);
    assert!(
        text.starts_with("a: Primary/UpToDate  b: Secondary/Inconsistent  protocol C\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "\nvol0         1 GiB  UpToDate      Inconsistent  SyncSource       524 MiB\n\
             \x20       [=========>..........] 48.8%  500 MiB of 1 GiB, 42s left\n\
             \x20       12.5 MiB/s now, 11 MiB/s over 18s, 10 MiB/s on average\n\
             \x20       generation 0123456789ABCDEF, peer left at 000000000000FEDC\n"
        ),
        "{text}"
    );
    let mut stalled = syncing();
    let progress = stalled.volumes[0].progress.as_mut().unwrap();
    (progress.rate_now, progress.eta_seconds) = (0, None);
    progress.stalled = true;
    let text = text_of(&stalled, &[]);
    assert!(
        text.contains(
            " of 1 GiB\n\
             \x20       0 B/s now, 11 MiB/s over 18s, 10 MiB/s on average\n\
             \x20       STALLED: nothing moves, and nothing is waited for; see 'log'\n"
        ),
        "{text}"
    );
    // What is waited for is no riddle.
    stalled.volumes[0].waits = Text::try_from("after vol0").unwrap();
    let text = text_of(&stalled, &[]);
    assert!(text.contains("\n        waits: after vol0\n"), "{text}");
    assert!(!text.contains("STALLED"), "{text}");
    stalled.volumes[0].progress.as_mut().unwrap().done = 0;
    assert!(text_of(&stalled, &[]).contains(" of 1 GiB\n        nothing moved yet\n"));
    let mut done = syncing();
    done.volumes[0].progress.as_mut().unwrap().done = 1 << 30;
    let text = text_of(&done, &[]);
    assert!(
        text.contains("[====================] 100.0%  1 GiB of 1 GiB"),
        "{text}"
    );
}

#[test]
fn status_of_metadata_and_lag() {
    let mut status = status();
    let volume = &mut status.volumes[0];
    (volume.activity_hot, volume.activity_limit) = (12, 1237);
    volume.metadata = MetadataKind::External;
    volume.lag_bytes = 3 << 19;
    let text = text_of(&status, &[]);
    assert!(
        text.contains(
            "\n        generation 0123456789ABCDEF\n\
             \x20       metadata external, activity log 12 of 1237 extents\n\
             \x20       the peer lags by 1.5 MiB\n\
             \x20       clients read"
        ),
        "{text}"
    );
    status.volumes[0].activity_limit = 0;
    assert!(text_of(&status, &[]).contains("\n        metadata external\n"));
}

#[test]
fn status_says_why_clients_get_no_answer() {
    let mut status = status();
    status.suspended.user = true;
    assert!(text_of(&status, &[]).contains(
        "up 3:07\n! clients' requests are held back by 'suspend-io'; 'resume-io' lets them go on\n\nvolume"
    ));
    status.suspended.no_data = true;
    let text = text_of(&status, &[]);
    assert!(
        text.contains(
            " lets them go on\n\
             ! clients' requests wait, since neither node has good data: attach a good\n\
             \x20 disk, connect to a peer that has one, or have them fail with 'resume-io'\n"
        ),
        "{text}"
    );
}

#[test]
fn states_keep_the_columns() {
    use {DiskState as D, ReplicationState as R};
    let mut status = syncing();
    for disk in [
        D::Diskless,
        D::Attaching,
        D::Failed,
        D::Negotiating,
        D::Inconsistent,
        D::Outdated,
        D::DUnknown,
        D::Consistent,
        D::UpToDate,
    ] {
        for replication in [
            R::Off,
            R::Established,
            R::WFBitMapS,
            R::WFBitMapT,
            R::SyncSource,
            R::SyncTarget,
            R::PausedSyncS,
            R::PausedSyncT,
            R::VerifyS,
            R::VerifyT,
            R::Ahead,
            R::Behind,
        ] {
            let volume = &mut status.volumes[0];
            (volume.disk, volume.peer_disk, volume.replication) = (disk, disk, replication);
            let text = text_of(&status, &[]);
            let line = text.lines().find(|line| line.starts_with("vol0 ")).unwrap();
            let cells: Vec<&str> = line.split_ascii_whitespace().collect();
            let named = std::format!("{disk:?} {disk:?} {replication:?}");
            assert_eq!(cells[3..6].join(" "), named);
            assert_eq!(line.len(), text.lines().nth(3).unwrap().len(), "{line}");
        }
    }
}

#[test]
fn the_widest_progress_fits() {
    let mut status = syncing();
    let most = (1 << 40) - 1;
    for seconds in [59, 86_399, 86_400 * 100 - 1, 86_400 * 100, u64::MAX] {
        status.volumes[0].progress = Some(Progress {
            done: most,
            total: most,
            rate_now: most,
            rate_18s: most,
            rate_avg: most,
            eta_seconds: Some(seconds),
            stalled: false,
        });
        let text = text_of(&status, &[]);
        let (_, line) = text.split_once('[').unwrap();
        let end = match seconds {
            59 => ", 59s left",
            86_399 => ", 23:59:59 left",
            8_639_999 => ", 99d 23h left",
            _ => ", over 99d left",
        };
        assert!(line.lines().next().unwrap().ends_with(end), "{text}");
    }
}

#[test]
fn the_last_verify_is_told() {
    let mut status = status();
    let report = VerifyReport {
        running: false,
        finished: true,
        position: 1 << 30,
        compared: 1 << 30,
        differing_blocks: 0,
        repaired_blocks: 0,
        unreadable_bytes: 0,
    };
    let mut told = |report: VerifyReport| {
        status.volumes[0].verify = Some(report);
        text_of(&status, &[])
    };
    let text = told(report);
    assert!(
        text.contains("        verify: 1 GiB compared, no difference\n"),
        "{text}"
    );
    let text = told(VerifyReport {
        finished: false,
        position: 4096,
        differing_blocks: 5,
        repaired_blocks: 3,
        unreadable_bytes: 8192,
        ..report
    });
    let expected = "verify: 1 GiB compared, 5 blocks differ, 3 repaired, 8 KiB unreadable\n        \
                    verify: stopped at byte 4096\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn status_says_why_it_waits() {
    let mut status = status();
    status.role = Role::Secondary;
    status.peer_role = Role::Unknown;
    status.serving = false;
    status.open_clients = 0;
    status.connection = ConnectionState::StandAlone;
    let reason = "neither node knows which data is the newer: decide with 'primary --force' on the one \
                  to go on with, or 'new-current-uuid --clear-bitmap' if both are identical";
    status.reason = Text::try_from(reason).unwrap();
    status.volumes[0].disk = DiskState::DUnknown;
    status.volumes[0].current_uuid = 0;
    let text = text_of(&status, &[]);
    assert!(
        text.starts_with(
            "a: Secondary/DUnknown  b: Unknown/UpToDate  protocol C\n\
             resource r0  connection: StandAlone  clients: 0 (not serving)  up 3:07\n\
             ! neither node knows which data is the newer: decide with 'primary --force' on\n\
             \x20 the one to go on with, or 'new-current-uuid --clear-bitmap' if both are\n\
             \x20 identical\n"
        ),
        "{text}"
    );
    assert!(text.contains("generation: none known\n"));
}

#[test]
fn a_node_is_as_good_as_its_worst_disk() {
    let mut status = status();
    let mut bad = volume(1);
    bad.disk = DiskState::Failed;
    status.volumes.push(bad).unwrap();
    assert!(
        text_of(&status, &[]).starts_with("a: Primary/Failed  b: Secondary/UpToDate  protocol C\n")
    );
    status.volumes.clear();
    assert!(text_of(&status, &[]).starts_with("a: Primary/Diskless"));
}

fn json_of(status: &Status, clients: &[ClientInfo]) -> serde_json::Value {
    let mut out = String::new();
    json(status, &info(clients), &mut out).unwrap();
    assert!(out.ends_with('\n') && out.lines().count() == 1);
    assert!(out.trim_end().bytes().all(crate::text::is_printable));
    serde_json::from_str(&out).unwrap()
}

#[test]
fn extremes_do_not_overflow() {
    let mut status = syncing();
    for (done, total, rate) in [
        (0, 0, 0),
        (u64::MAX, u64::MAX, 1),
        (u64::MAX, 1, u64::MAX),
        (1, u64::MAX, 1),
    ] {
        status.volumes[0].progress = Some(Progress {
            done,
            total,
            rate_now: rate,
            rate_18s: rate,
            rate_avg: rate,
            eta_seconds: Some(u64::MAX),
            stalled: false,
        });
        json_of(&status, &[]);
        let mut out = String::new();
        text(&status, &info(&[]), &mut out).unwrap();
    }
}

#[test]
fn a_crash_is_told_until_it_is_forgotten() {
    let mut out = String::new();
    let crashed = NodeInfo {
        crashed: true,
        ..info(&[])
    };
    text(&status(), &crashed, &mut out).unwrap();
    assert!(
        out.contains(
            "\n! this node has crashed; 'crash show' tells how, 'crash clear' forgets it\n"
        ),
        "{out}"
    );
    assert!(!text_of(&status(), &[]).contains("crash"));
}
