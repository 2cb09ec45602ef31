//! etcd as the store: real servers on loopback.

use crate::rig::{Daemon, Node, Place, fence, holder, name};
use fencing::{Answer, Refusal, Request};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server of a cluster.
struct Member {
    child: Option<Child>,
    arguments: Vec<String>,
    client: SocketAddr,
}

impl Member {
    fn start(&mut self) {
        let child = Command::new("etcd")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        self.child = Some(child);
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

/// So many servers, running, with their data in the place; `None`: there is no etcd here.
fn cluster(place: &Place, servers: usize) -> Option<Vec<Member>> {
    let mut members = off(place, servers)?;
    for member in &mut members {
        member.start();
    }
    for member in &members {
        let begun = Instant::now();
        while TcpStream::connect(member.client).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "etcd does not come up"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Some(members)
}

/// The same, not started yet.
fn off(place: &Place, servers: usize) -> Option<Vec<Member>> {
    if Command::new("etcd").arg("--version").output().is_err() {
        println!("skipped: no etcd (apt-get install etcd-server)");
        return None;
    }
    let ports: Vec<_> = (0..servers).map(|_| (free_port(), free_port())).collect();
    let all: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(at, (_, peer))| format!("m{at}=http://{peer}"))
        .collect();
    let mut members = Vec::new();
    for (at, (client, peer)) in ports.iter().enumerate() {
        let data = place.0.join(format!("etcd{at}"));
        let arguments = [
            ("name", format!("m{at}")),
            ("data-dir", data.display().to_string()),
            ("listen-client-urls", format!("http://{client}")),
            ("advertise-client-urls", format!("http://{client}")),
            ("listen-peer-urls", format!("http://{peer}")),
            ("initial-advertise-peer-urls", format!("http://{peer}")),
            ("initial-cluster", all.join(",")),
            ("initial-cluster-state", "new".into()),
            // Quick to elect: the test waits for it.
            ("heartbeat-interval", "50".into()),
            ("election-timeout", "500".into()),
        ];
        members.push(Member {
            child: None,
            arguments: arguments
                .map(|(name, value)| format!("--{name}={value}"))
                .to_vec(),
            client: *client,
        });
    }
    Some(members)
}

/// An arbiter's place beside the cluster's.
fn arbiter(test: &str, members: &[Member], more: &str) -> Place {
    let place = Place::empty(test);
    let endpoints: Vec<String> = members
        .iter()
        .map(|member| format!("\"http://{}\"", member.client))
        .collect();
    let top = format!(
        "socket = {:?}\n[etcd]\nendpoints = [{}]\ntimeout-ms = 1000",
        place.0.join("admin.socket"),
        endpoints.join(", ")
    );
    place.configure(&top, more);
    place
}

fn granted(episode: u64) -> Answer {
    Answer::Granted { episode }
}

/// Asks until something else than NotStored is said.
fn decided(node: &mut Node, to: SocketAddr, episode: u64) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = node.told(to, fence(episode));
        let waits = matches!(
            &answer,
            Answer::Refused {
                why: Refusal::NotStored,
                ..
            }
        );
        if !waits {
            return answer;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "etcd does not come back"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn of_two_that_ask_two_arbiters_one_is_granted() {
    let data = Place::empty("etcd-two");
    let Some(members) = cluster(&data, 1) else {
        return;
    };
    let places = ["etcd-two-1", "etcd-two-2"].map(|test| arbiter(test, &members, ""));
    let daemons = [Daemon::start(&places[0]), Daemon::start(&places[1])];
    let to = [daemons[0].address, daemons[1].address];
    let (mut a, mut b) = (Node::new("a", 1, 7), Node::new("b", 2, 7));
    decided(&mut a, to[0], 1);
    a.told(
        to[1],
        Request::Unfence {
            episode: 1,
            vouched: 0,
        },
    );
    // Both arbiters know both nodes' sessions now, so that the questions race.
    for node in [&mut a, &mut b] {
        node.told(to[0], Request::Query);
        node.told(to[1], Request::Query);
    }
    let mut expected = vec!["r0 FENCE a 1".to_owned(), "r0 UNFENCE a 1".to_owned()];
    for episode in 2..=25 {
        let request = fence(episode);
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| a.told(to[0], request));
            let second = scope.spawn(|| b.told(to[1], request));
            (first.join().expect("asked"), second.join().expect("asked"))
        });
        let wins = [first == granted(episode), second == granted(episode)];
        assert!(wins[0] != wins[1], "{first:?} {second:?}");
        let (winner, node) = if wins[0] {
            ("a", &mut a)
        } else {
            ("b", &mut b)
        };
        // Each arbiter sees what the other decided.
        for at in to {
            assert_eq!(holder(node, at), Some((name(winner), episode)));
        }
        // Given back to the one that was not asked for it.
        let other = to[usize::from(wins[0])];
        let unfence = Request::Unfence {
            episode,
            vouched: 0,
        };
        assert_eq!(node.told(other, unfence), Answer::Released { episode });
        expected.push(format!("r0 FENCE {winner} {episode}"));
        expected.push(format!("r0 UNFENCE {winner} {episode}"));
    }
    for place in &places {
        assert_eq!(place.journal(), expected);
    }
    // The administrator's word, by either.
    decided(&mut a, to[0], 30);
    let (good, text) = places[1].command(&["release", "r0", "a", "30", "--yes"]);
    assert!(good, "{text}");
    assert_eq!(holder(&mut b, to[0]), None);
    // Another resource of the name is seen by both.
    let refused = Answer::Refused {
        episode: 31,
        why: Refusal::OtherResource,
    };
    assert_eq!(Node::new("b", 3, 8).told(to[1], fence(31)), refused);
}

#[test]
fn without_a_majority_nothing_is_granted_and_with_one_it_goes_on() {
    let data = Place::empty("etcd-away");
    let Some(mut members) = cluster(&data, 3) else {
        return;
    };
    let place = arbiter("etcd-away-1", &members, "");
    let mut daemon = Daemon::start(&place);
    let (mut a, mut b) = (Node::new("a", 1, 0), Node::new("b", 2, 0));
    assert_eq!(decided(&mut a, daemon.address, 1), granted(1));
    // One server fewer, and an arbiter that was killed: what it said holds.
    members[0].kill();
    drop(daemon);
    daemon = Daemon::start(&place);
    let held = Refusal::Held {
        holder: name("a"),
        episode: 1,
    };
    let refused = |why| Answer::Refused { episode: 2, why };
    assert_eq!(decided(&mut b, daemon.address, 2), refused(held));
    assert_eq!(
        a.told(
            daemon.address,
            Request::Unfence {
                episode: 1,
                vouched: 0
            }
        ),
        Answer::Released { episode: 1 }
    );
    // Two fewer.
    members[1].kill();
    assert_eq!(
        b.told(daemon.address, fence(2)),
        refused(Refusal::NotStored)
    );
    let line = daemon.logged("nothing was stored, and nothing granted");
    assert!(line.contains("etcd: http://"), "{line}");
    // A question about the state, or an end of a fence, is not answered at all.
    let patience = Duration::from_millis(500);
    assert_eq!(a.ask(daemon.address, Request::Query, patience), None);
    let (good, text) = place.command(&["list"]);
    assert!(!good && text.contains("etcd: http://"), "{text}");
    members[1].start();
    assert_eq!(decided(&mut b, daemon.address, 2), granted(2));
    assert_eq!(
        place.journal(),
        ["r0 FENCE a 1", "r0 UNFENCE a 1", "r0 FENCE b 2"]
    );
}

#[test]
fn an_arbiter_starts_before_its_etcd_and_says_so() {
    let data = Place::empty("etcd-late");
    let Some(mut members) = off(&data, 1) else {
        return;
    };
    let place = arbiter("etcd-late-1", &members, "");
    let daemon = Daemon::start(&place);
    daemon.logged("no fence is granted before this is better: etcd: http://");
    let mut a = Node::new("a", 1, 0);
    let why = Refusal::NotStored;
    assert_eq!(
        a.told(daemon.address, fence(1)),
        Answer::Refused { episode: 1, why }
    );
    members[0].start();
    assert_eq!(decided(&mut a, daemon.address, 1), granted(1));
}

/// Handlers of one resource run in turn over all arbiters; one whose turn was lost grants nothing.
#[test]
fn arbiters_run_handlers_in_turn() {
    let data = Place::empty("etcd-turn");
    let Some(members) = cluster(&data, 1) else {
        return;
    };
    let trace = data.0.join("trace");
    let command = |code: u8| {
        let trace = trace.display();
        format!(
            "echo begin $PALISADE_HANDLER $PALISADE_EPISODE >> {trace}; sleep 0.7; echo end $PALISADE_HANDLER $PALISADE_EPISODE >> {trace}; exit {code}"
        )
    };
    let more = format!(
        "handler-timeout = 20\n[resource.handlers]\nfence-peer = {:?}\nunfence-peer = {:?}\n",
        command(4),
        command(0)
    );
    let places = ["etcd-turn-1", "etcd-turn-2"].map(|test| arbiter(test, &members, &more));
    let daemons = [Daemon::start(&places[0]), Daemon::start(&places[1])];
    let to = [daemons[0].address, daemons[1].address];
    let mut a = Node::new("a", 1, 0);
    let mut again = Node::new("a", 2, 0);
    assert_eq!(decided(&mut a, to[0], 1), granted(1));
    again.told(to[1], Request::Query);
    // The end of the first fence is on its way by one arbiter when the next fence goes to the other one.
    let unfence = Request::Unfence {
        episode: 1,
        vouched: 0,
    };
    std::thread::scope(|scope| {
        let unfenced = scope.spawn(|| a.told(to[0], unfence));
        daemons[0].logged("unfence-peer for a, episode 1: running");
        assert_eq!(again.told(to[1], fence(2)), granted(2));
        assert_eq!(
            unfenced.join().expect("asked"),
            Answer::Released { episode: 1 }
        );
    });
    daemons[1].logged("another arbiter runs a handler");
    let handlers = ["fence-peer 1", "unfence-peer 1", "fence-peer 2"];
    let expected: String = handlers.map(|h| format!("begin {h}\nend {h}\n")).concat();
    assert_eq!(data.read("trace"), expected);
    // The turn is lost in the middle: by an etcd that could not hear for so long, say.
    again.told(
        to[1],
        Request::Unfence {
            episode: 2,
            vouched: 0,
        },
    );
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| again.told(to[1], fence(3)));
        daemons[1].logged("fence-peer for a, episode 3: running");
        let question = r#"{"key":"cGFsaXNhZGUvdHVybi9yMA=="}"#; // palisade/turn/r0
        let url = format!("http://{}/v3/kv/deleterange", members[0].client);
        let answer = ureq::post(url).send(question).expect("deleted");
        let text = answer.into_body().read_to_string().expect("text");
        assert!(text.contains("\"deleted\":\"1\""), "{text}");
        asked.join().expect("asked")
    });
    let why = Refusal::NotStored;
    assert_eq!(asked, Answer::Refused { episode: 3, why });
    assert_eq!(holder(&mut a, to[0]), None);
}
