//! The daemon as a whole: real datagrams, SIGKILL at any moment, handlers, etcd, the administrator's commands.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod etcd;
mod handlers;
mod hostile;
mod promote;
mod rig;
mod stonith;

use fencing::datagram::{Channel, Ends, Key};
use fencing::{Answer, Refusal, Request};
use rig::{Daemon, Node, PROGRAM, Place, fence, holder, name};
use std::process::{Child, Command};
use std::time::Duration;

#[test]
fn one_of_two_is_granted_and_the_journal_has_each_change_once() {
    let place = Place::new("grant");
    let daemon = Daemon::start(&place);
    let (mut a, mut b) = (Node::new("a", 1, 7), Node::new("b", 2, 7));
    assert_eq!(
        a.told(daemon.address, fence(1)),
        Answer::Granted { episode: 1 }
    );
    assert_eq!(
        a.told(daemon.address, fence(1)),
        Answer::Granted { episode: 1 }
    );
    let held = Refusal::Held {
        holder: name("a"),
        episode: 1,
    };
    let refused = |episode, why| Answer::Refused { episode, why };
    assert_eq!(b.told(daemon.address, fence(2)), refused(2, held));
    let (good, text) = place.command(&["list", "--json"]);
    assert!(good && text.contains("\"holder\": \"a\""), "{text}");
    for _ in 0..2 {
        let released = Answer::Released { episode: 1 };
        assert_eq!(
            a.told(
                daemon.address,
                Request::Unfence {
                    episode: 1,
                    vouched: 0
                }
            ),
            released
        );
    }
    assert_eq!(
        b.told(daemon.address, fence(1)),
        refused(1, Refusal::Stale { last: 1 })
    );
    assert_eq!(
        b.told(daemon.address, fence(2)),
        Answer::Granted { episode: 2 }
    );
    // Another resource of the same name.
    let mut other = Node::new("b", 3, 8);
    assert_eq!(
        other.told(daemon.address, fence(3)),
        refused(3, Refusal::OtherResource)
    );
    let (_, journal) = place.command(&["journal"]);
    let lines: Vec<&str> = journal
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|l| l.1)
        .collect();
    assert_eq!(lines, ["r0 FENCE a 1", "r0 UNFENCE a 1", "r0 FENCE b 2"]);
}

#[test]
fn by_hand_only_with_confirmation_and_only_what_is_held() {
    let place = Place::new("hand");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    a.told(daemon.address, fence(4));
    let (good, text) = place.command(&["release", "r0", "a", "4"]);
    assert!(!good && text.contains("--yes"), "{text}");
    let (good, text) = place.command(&["release", "r0", "a", "3", "--yes"]);
    assert!(!good && text.contains("does not hold"), "{text}");
    assert_eq!(holder(&mut a, daemon.address), Some((name("a"), 4)));
    let (good, text) = place.command(&["release", "r0", "a", "4", "--yes"]);
    assert!(good, "{text}");
    assert_eq!(holder(&mut a, daemon.address), None);
    let (good, text) = place.command(&["list"]);
    assert!(good && text.contains("r0"), "{text}");
}

#[test]
fn who_has_another_secret_gets_no_answer() {
    let place = Place::new("secret");
    let daemon = Daemon::start(&place);
    let mut forger = Node::new("a", 1, 0);
    let ends = Ends {
        resource: name("r0"),
        identity: 0,
        here: name("a"),
        there: name("arbiter"),
    };
    forger.channel = Channel::new(ends, Key::new(b"not the secret at all", &name("r0")), 1);
    let patience = Duration::from_millis(300);
    assert_eq!(forger.ask(daemon.address, fence(1), patience), None);
    assert_eq!(holder(&mut Node::new("b", 2, 0), daemon.address), None);
}

/// Whatever was answered is true after a SIGKILL at any moment; whatever was not is asked again.
#[test]
fn killed_at_any_moment_it_forgets_nothing_that_it_said() {
    let place = Place::new("kill");
    let mut node = Node::new("a", 1, 0);
    // A fixed sequence of moments, spread over what a question takes.
    let mut moment = 12345u64;
    for round in 1..=15u64 {
        for request in [
            fence(round),
            Request::Unfence {
                episode: round,
                vouched: 0,
            },
        ] {
            let mut daemon = Daemon::start(&place);
            // So that the next question is stored at once, without the round of AGAIN.
            node.told(daemon.address, Request::Query);
            moment = moment
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let patience = Duration::from_micros((moment >> 33) % 20_000);
            let mut child = std::mem::replace(&mut daemon.child, spawn_nothing());
            let killer = std::thread::spawn(move || {
                std::thread::sleep(patience);
                child.kill().expect("killed");
                child.wait().expect("gone");
            });
            let said = node.ask(daemon.address, request, Duration::from_millis(100));
            killer.join().expect("the killer");
            let again = Daemon::start(&place);
            let now = holder(&mut node, again.address);
            let is_fence = matches!(request, Request::Fence { .. });
            if said.is_some() {
                let expected = is_fence.then(|| (name("a"), round));
                assert_eq!(
                    now, expected,
                    "round {round}: {request:?} was answered with {said:?}"
                );
            }
            let answer = node.told(again.address, request);
            let done = match is_fence {
                true => Answer::Granted { episode: round },
                false => Answer::Released { episode: round },
            };
            assert_eq!(answer, done, "round {round}");
        }
    }
}

/// A disk that takes no more: files may not grow, as on a full one. No grant without a record of it.
#[test]
fn a_full_disk_gives_no_grant() {
    let place = Place::new("full");
    drop(Daemon::start(&place));
    let size = std::fs::metadata(place.0.join("store.redb"))
        .expect("a store")
        .len();
    let mut command = Command::new("sh");
    // The signal that comes with it is ignored, so that writes fail as they do on a full disk.
    command
        .args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$1\" \"$2\""])
        .arg((size / 512).to_string())
        .arg(PROGRAM)
        .arg(place.0.join("arbiter.toml"));
    let daemon = Daemon::run(command);
    let mut a = Node::new("a", 1, 0);
    let (mut granted, mut refused) = (0, false);
    for episode in 1..=4000 {
        match a.told(daemon.address, fence(episode)) {
            Answer::Granted { .. } => granted = episode,
            Answer::Refused {
                why: Refusal::NotStored,
                ..
            } => {
                refused = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused, "{granted} were stored");
    drop(daemon);
    let daemon = Daemon::start(&place);
    assert_eq!(holder(&mut a, daemon.address), Some((name("a"), granted)));
    let next = granted + 1;
    assert_eq!(
        a.told(daemon.address, fence(next)),
        Answer::Granted { episode: next }
    );
}

/// Something to wait for in place of a daemon that somebody else waits for.
fn spawn_nothing() -> Child {
    Command::new("true").spawn().expect("it runs")
}
