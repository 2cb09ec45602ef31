//! What readers of events are told.

use super::*;
use crate::status::tests::{fencing, status, volume};
use replication::api::{
    ConnectionState, DiskState, OwnFence, Progress, ReplicationState, Role, Status,
};
use std::string::String;
use std::vec::Vec;

fn journal(status: &Status) -> Journal {
    let address = |text: &str| text.parse().unwrap();
    Journal::new(
        status,
        address("10.99.0.1:7789"),
        address("10.99.0.2:7789"),
        0xb007,
    )
}

/// Everything that a reader has to read now.
fn read(follower: &mut Follower, journal: &Journal, now: Micros, format: Format) -> Vec<String> {
    core::iter::from_fn(|| follower.next(journal, now))
        .map(|line| {
            let mut out = String::new();
            journal.write(&line, format, &mut out).unwrap();
            assert!(out.len() <= LINE_BYTES_MAX, "{out}");
            assert!(out.bytes().rev().skip(1).all(|b| (0x20..0x7f).contains(&b)));
            out.pop();
            out
        })
        .collect()
}

#[test]
fn a_reader_begins_with_what_there_is_and_is_told_what_happens_then() {
    let mut now = status();
    let mut journal = journal(&now);
    let mut follower = Follower::default();
    assert_eq!(
        read(&mut follower, &journal, 1_500_000, Format::Text),
        [
            "1.500000 0 exists resource name:r0 role:Primary suspended:no serving:yes",
            "1.500000 0 exists connection name:r0 conn-name:b connection:Connected role:Secondary",
            "1.500000 0 exists path name:r0 conn-name:b local:10.99.0.1:7789 peer:10.99.0.2:7789 established:yes",
            "1.500000 0 exists device name:r0 volume:0 disk:UpToDate size:1073741824",
            "1.500000 0 exists peer-device name:r0 conn-name:b volume:0 replication:Established peer-disk:UpToDate out-of-sync:0",
            "1.500000 0 exists - boot:000000000000b007",
        ]
    );
    assert!(!journal.observe(2_000_000, &now), "nothing has happened");
    assert!(read(&mut follower, &journal, 2_000_000, Format::Text).is_empty());

    now.connection = ConnectionState::Unconnected;
    now.peer_role = Role::Unknown;
    now.volumes[0].peer_disk = DiskState::DUnknown;
    now.volumes[0].replication = ReplicationState::Off;
    now.volumes[0].out_of_sync = 4096;
    now.suspended.fencing = true;
    assert!(journal.observe(3_000_000, &now));
    assert_eq!(
        read(&mut follower, &journal, 4_000_000, Format::Text),
        [
            "3.000000 1 change resource name:r0 role:Primary suspended:fencing serving:yes",
            "3.000000 2 change connection name:r0 conn-name:b connection:Unconnected role:Unknown",
            "3.000000 3 change path name:r0 conn-name:b local:10.99.0.1:7789 peer:10.99.0.2:7789 established:no",
            "3.000000 4 change peer-device name:r0 conn-name:b volume:0 replication:Off peer-disk:DUnknown out-of-sync:4096",
        ]
    );
    assert_eq!(follower.seen(), 4);
}

#[test]
fn a_fence_is_created_changed_and_destroyed() {
    let mut now = status();
    let mut journal = journal(&now);
    let mut follower = Follower::after(0);
    let fence = fencing();
    now.fencing = fence.fencing;
    now.fencing.record.own = OwnFence::Requested(7);
    now.fencing.awaits_arbiter = true;
    journal.observe(1, &now);
    now.fencing = fence.fencing;
    journal.observe(2, &now);
    now.fencing.awaits_peer = false;
    now.fencing.record.own = OwnFence::Releasing(7);
    journal.observe(3, &now);
    now.fencing.record.own = OwnFence::None;
    now.fencing.record.mark = Some(7);
    journal.observe(4, &now);
    assert_eq!(
        read(&mut follower, &journal, 5, Format::Text),
        [
            "0.000001 1 create fence name:r0 by:a against:b episode:7 state:requested granted:no waits:peer,arbiter overdue:no",
            "0.000002 2 change fence name:r0 by:a against:b episode:7 state:held granted:arbiter waits:peer overdue:no",
            "0.000003 3 change fence name:r0 by:a against:b episode:7 state:releasing granted:no waits:no overdue:no",
            "0.000004 4 destroy fence name:r0 by:a against:b episode:7 state:releasing granted:no waits:no overdue:no",
            // Of the same number, and the other node's: something else.
            "0.000004 5 create fence name:r0 by:b against:a episode:7 state:held granted:no waits:no overdue:no",
        ]
    );
}

fn running(done: u64) -> Option<Progress> {
    Some(Progress {
        done,
        total: 1000,
        rate_now: 0,
        rate_18s: 0,
        rate_avg: 0,
        eta_seconds: None,
        stalled: false,
    })
}

#[test]
fn progress_counts_in_steps_and_once_a_second_and_no_step_is_missed() {
    let mut now = status();
    now.volumes[0].replication = ReplicationState::SyncSource;
    now.volumes[0].progress = running(0);
    let mut journal = journal(&now);
    let mut told = Vec::new();
    // A hundred looks a second, in ten seconds, of a resync that takes those.
    for tick in 0..=1000u64 {
        now.volumes[0].progress = running(tick);
        now.volumes[0].out_of_sync = 1000 - tick;
        if journal.observe(tick * 10_000, &now) {
            told.push(tick);
        }
    }
    let seconds: Vec<u64> = (1..=10).map(|second| second * 100).collect();
    assert_eq!(told, seconds);
    let mut last = Follower::after(journal.last() - 1);
    let lines = read(&mut last, &journal, 0, Format::Text);
    assert!(lines[0].ends_with(" done:100.0 out-of-sync:0"), "{lines:?}");
    // A slow one is told at each step, and not each second.
    let before = journal.last();
    for tick in 0..=1000u64 {
        now.volumes[0].progress = running(tick);
        journal.observe(20_000_000 + tick * 1_000_000, &now);
    }
    // Back to nothing, and twenty steps.
    assert_eq!(journal.last() - before, 21);
}

#[test]
fn json_lines_are_json_with_the_same_members() {
    let mut now = fencing();
    now.volumes.push(volume(3)).unwrap();
    now.volumes[1].progress = running(125);
    let journal = journal(&now);
    let lines = read(&mut Follower::default(), &journal, 7, Format::Json);
    let values: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(values.len(), 9);
    assert_eq!(values[0]["event"], "exists");
    assert_eq!(values[0]["object"], "resource");
    assert_eq!(values[0]["serving"], true);
    assert_eq!(values[4]["done"], serde_json::Value::Null);
    assert_eq!(values[6]["object"], "peer-device");
    assert_eq!(values[6]["volume"], 3);
    assert_eq!(values[6]["done"], 12.5);
    assert_eq!(values[7]["granted"], "arbiter");
    assert_eq!(values[8]["object"], "-");
    assert_eq!(values[8]["time_us"], 7);
    assert_eq!(values[8]["boot"], "000000000000b007");
}

#[test]
fn a_reader_that_is_too_slow_or_of_another_boot_is_told_the_state_again() {
    let mut now = status();
    let mut journal = journal(&now);
    let mut slow = Follower::after(0);
    for round in 0..EVENTS_MAX as u64 {
        now.serving = !now.serving;
        journal.observe(round, &now);
    }
    // All of them are kept as yet, and memory does not grow beyond.
    let room = journal.events.capacity();
    assert_eq!(slow.next(&journal, 0), Some(Line::Event(journal.events[0])));
    now.serving = !now.serving;
    journal.observe(0, &now);
    assert!(journal.since(0).is_err());
    assert_eq!(journal.since(1).unwrap().count(), EVENTS_MAX);
    for _ in 0..2 {
        now.serving = !now.serving;
        journal.observe(0, &now);
    }
    assert_eq!(journal.events.capacity(), room);
    let again = read(&mut slow, &journal, 0, Format::Text);
    assert!(again[0].contains("exists resource"), "{again:?}");
    assert!(again[5].contains(" exists -"), "{again:?}");
    assert_eq!(slow.seen(), journal.last());

    let mut stranger = Follower::after(journal.last() + 1);
    assert_eq!(read(&mut stranger, &journal, 0, Format::Text), again);
}

#[test]
fn what_happens_while_the_state_is_told_comes_after_it() {
    let mut now = fencing();
    let mut journal = journal(&now);
    let mut follower = Follower::default();
    assert!(follower.next(&journal, 0).is_some());
    now.fencing.record.own = OwnFence::None;
    now.role = Role::Secondary;
    journal.observe(9, &now);
    let lines = read(&mut follower, &journal, 10, Format::Text);
    let end = lines.iter().position(|l| l.contains("exists -")).unwrap();
    assert!(lines[end - 1].contains("exists fence"), "{lines:?}");
    assert!(lines[end + 1].contains("1 destroy fence"), "{lines:?}");
    assert!(lines[end + 2].contains("2 change resource"), "{lines:?}");
    assert_eq!(lines.len(), end + 3);
}
