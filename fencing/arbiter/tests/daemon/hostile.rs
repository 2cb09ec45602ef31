//! Datagrams that are not to be obeyed, and disks that take nothing: a clear line in the log each, and no grant.

use crate::rig::{Daemon, Node, PROGRAM, Place, SECRET, fence, holder, name};
use fencing::datagram::{Channel, DATAGRAM_MAX, Datagram, Ends, Key};
use fencing::{Answer, EPISODE_MAX, Refusal, Request};
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

/// A FENCE that the arbiter would obey, and its node: what was sent before is over.
fn recorded(node: &mut Node, daemon: &Daemon, episode: u64) -> Vec<u8> {
    node.told(daemon.address, Request::Query);
    let mut out = [0; DATAGRAM_MAX];
    let len = node.channel.ask(fence(episode), &mut out);
    out[..len].to_vec()
}

#[test]
fn forged_cut_and_foreign_datagrams_are_named_and_dropped() {
    let place = Place::new("hostile");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    let good = recorded(&mut a, &daemon, 1);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let send = |bytes: &[u8]| {
        sender.send_to(bytes, daemon.address).expect("sent");
    };
    let from = sender.local_addr().expect("its address");
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let ends = |from: &str, resource: &str| Ends {
        resource: name(resource),
        identity: 0,
        here: name(from),
        there: name("arbiter"),
    };
    let signed = |from: &str, resource: &str, secret: &str| {
        let key = Key::new(secret.as_bytes(), &name(resource));
        let mut out = [0; DATAGRAM_MAX];
        let len = Channel::new(ends(from, resource), key, 9).ask(fence(1), &mut out);
        out[..len].to_vec()
    };
    let mut long = good.clone();
    long.resize(DATAGRAM_MAX + 20, 0);
    for (bytes, said) in [
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "not a management datagram",
        ),
        (changed(4, 9), "management version 9, this release speaks 1"),
        (good[..good.len() - 1].to_vec(), "of the wrong length"),
        (good[..40].to_vec(), "of the wrong length"),
        (long, "of the wrong length"),
        (changed(144, 5), "resource r0: wrong HMAC"),
        (
            signed("a", "r0", "not the secret at all"),
            "resource r0: wrong HMAC",
        ),
        (
            signed("c", "r0", SECRET),
            "resource r0: from or for a node that is not of this pair",
        ),
        (
            signed("a", "r9", SECRET),
            "no resource r9 is configured here",
        ),
    ] {
        let before = daemon.log().len();
        send(&bytes);
        let line = loop {
            if let Some(line) = daemon.log().get(before) {
                break line.clone();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(
            line.starts_with(&from.to_string()) && line.contains(said),
            "{line}"
        );
    }
    // One that is authentic, byte for byte, twice: it counts once, from wherever it comes.
    send(&good);
    daemon.logged("resource r0: FENCE a 1");
    send(&good);
    daemon.logged("resource r0: seen before");
    a.told(
        daemon.address,
        Request::Unfence {
            episode: 1,
            vouched: 0,
        },
    );
    send(&good);
    assert_eq!(holder(&mut a, daemon.address), None);
    assert_eq!(place.journal(), ["r0 FENCE a 1", "r0 UNFENCE a 1"]);
}

#[test]
fn a_recording_is_worth_nothing_after_a_restart() {
    let place = Place::new("recording");
    let mut a = Node::new("a", 1, 0);
    let recording = {
        let daemon = Daemon::start(&place);
        // Never delivered: the number is not used, so only the arbiter's memory of the session is in the way.
        recorded(&mut a, &daemon, 1)
    };
    let daemon = Daemon::start(&place);
    let thief = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    thief.send_to(&recording, daemon.address).expect("sent");
    let mut bytes = [0; DATAGRAM_MAX];
    let (len, _) = thief.recv_from(&mut bytes).expect("AGAIN");
    assert_eq!(bytes[5], 134, "{:?}", &bytes[..len]);
    thief.send_to(&recording, daemon.address).expect("sent");
    assert_eq!(holder(&mut Node::new("b", 2, 0), daemon.address), None);
    assert_eq!(place.journal(), [""; 0]);
}

#[test]
fn rubbish_does_not_fill_the_log() {
    let place = Place::new("flood");
    let daemon = Daemon::start(&place);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for _ in 0..2000 {
        sender.send_to(b"rubbish", daemon.address).expect("sent");
    }
    // It still serves, and what was left out is counted.
    assert_eq!(holder(&mut Node::new("a", 1, 0), daemon.address), None);
    std::thread::sleep(Duration::from_millis(1100));
    sender.send_to(b"rubbish", daemon.address).expect("sent");
    let line = daemon.logged("more datagrams like that were dropped");
    assert!(daemon.log().len() < 200, "{line}");
}

#[test]
fn another_resource_of_the_name_changes_nothing_until_the_old_one_is_forgotten() {
    let place = Place::new("identity");
    let daemon = Daemon::start(&place);
    let mut old = Node::new("a", 1, 7);
    old.told(daemon.address, fence(5));
    let mut new = Node::new("b", 2, 8);
    let refused = |episode| Answer::Refused {
        episode,
        why: Refusal::OtherResource,
    };
    assert_eq!(new.told(daemon.address, fence(6)), refused(6));
    let patience = Duration::from_millis(300);
    let unfence = Request::Unfence {
        episode: 5,
        vouched: 0,
    };
    // Not even the end of a fence by somebody who calls itself a.
    assert_eq!(
        Node::new("a", 3, 8).ask(daemon.address, unfence, patience),
        None
    );
    assert_eq!(new.ask(daemon.address, Request::Query, patience), None);
    let line = daemon.logged("is of another resource of this name");
    assert!(line.contains("forget r0 --yes"), "{line}");
    assert_eq!(
        holder(&mut Node::new("a", 4, 7), daemon.address),
        Some((name("a"), 5))
    );
    let (good, text) = place.command(&["forget", "r0"]);
    assert!(!good && text.contains("--yes"), "{text}");
    let (good, text) = place.command(&["forget", "r0", "--yes"]);
    assert!(good, "{text}");
    assert_eq!(
        new.told(daemon.address, fence(6)),
        Answer::Granted { episode: 6 }
    );
    assert_eq!(
        place.journal(),
        ["r0 FENCE a 5", "r0 FORGOTTEN", "r0 FENCE b 6"]
    );
}

#[test]
fn an_episode_from_the_future_is_refused_and_does_not_count_as_used() {
    let place = Place::new("future");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    for episode in [(1 << 32) + 1, EPISODE_MAX, u64::MAX] {
        let why = Refusal::Future;
        assert_eq!(
            a.told(daemon.address, fence(episode)),
            Answer::Refused { episode, why }
        );
        daemon.logged(&format!(
            "refused FENCE a {episode}: its number lies implausibly far ahead"
        ));
        // Its end is acknowledged, so that the node comes to rest, and changes nothing.
        assert_eq!(
            a.told(
                daemon.address,
                Request::Unfence {
                    episode,
                    vouched: 0
                }
            ),
            Answer::Released { episode }
        );
    }
    assert_eq!(
        a.told(daemon.address, fence(1)),
        Answer::Granted { episode: 1 }
    );
    assert_eq!(place.journal(), ["r0 FENCE a 1"]);
}

/// A read-only disk: the arbiter says so and serves nobody, rather than deciding what it could not keep.
#[test]
fn on_a_read_only_disk_it_does_not_serve() {
    let place = Place::new("read-only");
    let mut a = Node::new("a", 1, 0);
    {
        let daemon = Daemon::start(&place);
        a.told(daemon.address, fence(1));
    }
    let read_only = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && exec \"$0\" \"$1/arbiter.toml\"";
    let mut unshare = Command::new("unshare");
    unshare
        .args(["-rm", "sh", "-c", read_only, PROGRAM])
        .arg(&place.0);
    if !Command::new("unshare")
        .args(["-rm", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: no mount namespaces here (unshare -rm)");
        return;
    }
    let output = unshare.output().expect("it runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(!output.status.success());
    assert!(
        text.contains("store.redb") && text.contains("Read-only file system"),
        "{text}"
    );
    // What it knew is still there.
    let daemon = Daemon::start(&place);
    assert_eq!(holder(&mut a, daemon.address), Some((name("a"), 1)));
}

/// What is authentic but none of a node's questions to an arbiter: dropped, and no state.
#[test]
fn questions_for_nodes_are_not_answered_by_an_arbiter() {
    let place = Place::new("outdate");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    a.told(daemon.address, Request::Query);
    let mut out = [0; DATAGRAM_MAX];
    let outdate = Request::Outdate {
        vouched: 0,
        episode: 1,
        primary: true,
    };
    for request in [outdate, Request::Promote { nonce: 0 }] {
        let len = a.channel.ask(request, &mut out);
        let key = Key::new(SECRET.as_bytes(), &name("r0"));
        assert!(Datagram::open(&out[..len], &key).is_ok());
        a.socket.send_to(&out[..len], daemon.address).expect("sent");
    }
    assert_eq!(holder(&mut a, daemon.address), None);
    assert_eq!(place.journal(), [""; 0]);
}
