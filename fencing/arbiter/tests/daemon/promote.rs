//! `promote`: a node played by its two parts that matter here, `Channel` and `Bidding`, on networks that do as they like.

use crate::rig::{Daemon, Node, PROGRAM, Place, SECRET, fence, name};
use fencing::datagram::{Channel, DATAGRAM_MAX, Ends, Key, Received, Rejected};
use fencing::{Answer, Bidding, Promoting, Refusal, Request, Withheld};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is wrong with the way to the node and back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Good,
    /// Every second datagram is lost, either way; what arrives does so twice.
    Bad,
    /// In front of each answer come forged ones, which say that the node is Primary.
    Hostile,
}

/// What the node has seen.
#[derive(Default)]
struct Seen {
    /// Promotions that it set about.
    begun: u32,
    /// PROMOTEs that it obeyed or answered.
    asked: u32,
    /// Its answers, as they went out.
    answers: Vec<Vec<u8>>,
}

/// A node that serves until it is told to stop.
struct Fake {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Node, Seen)>,
}

impl Fake {
    /// How a promotion ends after a while; `None`: not at all.
    fn start(node: Node, network: Network, fate: Option<Result<(), Withheld>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(node, network, fate, &told));
        Self { stop, thread }
    }

    fn stop(self) -> (Node, Seen) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the node")
    }
}

fn primary_by(key: &Key, session: u64) -> Vec<u8> {
    let ends = Ends {
        resource: name("r0"),
        identity: 7,
        here: name("a"),
        there: name("arbiter"),
    };
    let mut channel = Channel::new(ends.clone(), key.clone(), session);
    // A ticket of a question that nobody asked.
    let mut asker = Channel::new(
        Ends {
            here: ends.there.clone(),
            there: ends.here.clone(),
            ..ends
        },
        key.clone(),
        session,
    );
    let mut out = [0; DATAGRAM_MAX];
    let len = asker.ask(Request::Promote { nonce: 0 }, &mut out);
    let Ok(Received::SayAgain(ticket)) = channel.receive(&out[..len]) else {
        panic!("a session that is not known");
    };
    let answer = Answer::Promoting {
        nonce: 0,
        state: Promoting::Primary,
    };
    let len = channel.answer(ticket, answer, &mut out);
    out[..len].to_vec()
}

fn forgeries(answer: &[u8]) -> Vec<Vec<u8>> {
    let mut flipped = answer.to_vec();
    // The state in the body of PROMOTING.
    flipped[152] = 3;
    let wrong = Key::new(b"not the secret at all", &name("r0"));
    let right = Key::new(SECRET.as_bytes(), &name("r0"));
    vec![
        flipped,
        answer[..answer.len() - 1].to_vec(),
        answer[..60].to_vec(),
        primary_by(&wrong, 99),
        // Signed, as of another life of the arbiter.
        primary_by(&right, 99),
    ]
}

fn serve(
    mut node: Node,
    network: Network,
    fate: Option<Result<(), Withheld>>,
    stop: &AtomicBool,
) -> (Node, Seen) {
    let begun = Instant::now();
    let (mut bidding, mut seen, mut serving) = (Bidding::new(), Seen::default(), false);
    let mut decides: Option<Instant> = None;
    let (mut came, mut drawn) = (0u32, 100u64);
    let mut bytes = [0; DATAGRAM_MAX + 1];
    let pause = Some(Duration::from_millis(10));
    node.socket.set_read_timeout(pause).expect("a time");
    while !stop.load(Ordering::Relaxed) {
        if let (Some(at), Some(how)) = (decides, fate)
            && at <= Instant::now()
        {
            decides = None;
            bidding.ended(how);
            serving = how.is_ok();
        }
        let Ok((len, from)) = node.socket.recv_from(&mut bytes) else {
            continue;
        };
        came += 1;
        let bad = network == Network::Bad;
        if bad && came % 2 == 1 {
            continue;
        }
        let (mut out, len) = ([0; DATAGRAM_MAX], len.min(DATAGRAM_MAX));
        let out_len = match node.channel.receive(&bytes[..len]) {
            Ok(Received::SayAgain(ticket)) => node.channel.again(ticket, 55, &mut out),
            Ok(Received::Request(Request::Promote { nonce }, ticket)) => {
                // The very same again is a replay.
                let again = node.channel.receive(&bytes[..len]);
                assert_eq!(again, Err(Rejected::Replayed));
                seen.asked += 1;
                drawn += 1;
                let now = begun.elapsed().as_millis() as u64;
                let (answer, begins) = bidding.asked(nonce, serving, (now, 6000), drawn);
                if begins {
                    seen.begun += 1;
                    decides = Some(Instant::now() + Duration::from_millis(120));
                }
                node.channel.answer(ticket, answer, &mut out)
            }
            // Answers to what it asked before it began to serve.
            Ok(Received::Answer(_) | Received::AskAgain) | Err(Rejected::NotAsked) => continue,
            other => panic!("{other:?}"),
        };
        if network == Network::Hostile {
            for forged in forgeries(&out[..out_len]) {
                node.socket.send_to(&forged, from).expect("sent");
            }
        }
        seen.answers.push(out[..out_len].to_vec());
        let lost = bad && came % 4 == 0;
        for _ in 0..if lost { 0 } else { 1 + u32::from(bad) } {
            node.socket.send_to(&out[..out_len], from).expect("sent");
        }
    }
    (node, seen)
}

/// A node that the daemon has heard.
fn heard(daemon: SocketAddr, identity: u64) -> Node {
    let mut node = Node::new("a", 1, identity);
    node.told(daemon, Request::Query);
    node
}

/// Exit status, standard output, standard error.
fn promote(place: &Place, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(PROGRAM);
    let output = command
        .arg(place.0.join("arbiter.toml"))
        .args(["promote", "r0"])
        .args(words)
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let code = output.status.code().expect("it ended by itself");
    (code, text(output.stdout), text(output.stderr))
}

#[test]
fn a_node_becomes_primary_and_the_second_command_finds_it_so() {
    let place = Place::new("promote");
    let daemon = Daemon::start(&place);
    let fake = Fake::start(heard(daemon.address, 0), Network::Good, Some(Ok(())));
    let (code, out, err) = promote(&place, &["a"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "a is now Primary of r0\n"),
        "{err}"
    );
    let (code, out, err) = promote(&place, &["a", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\"outcome\": \"already-primary\""), "{out}");
    assert!(out.contains("\"reason\": null"), "{out}");
    daemon.logged("resource r0: PROMOTE a, by hand, to 127.0.0.1:");
    daemon.logged("resource r0: PROMOTE: a is now Primary of r0");
    let (_, seen) = fake.stop();
    assert_eq!(seen.begun, 1);
    // Nothing of it is a change of who holds what.
    assert_eq!(place.journal(), [""; 0]);
}

#[test]
fn what_is_denied_is_said_with_its_reason() {
    let place = Place::new("promote-denied");
    let daemon = Daemon::start(&place);
    let fate = Some(Err(Withheld::Fenced(4)));
    let fake = Fake::start(heard(daemon.address, 0), Network::Good, fate);
    let (code, out, err) = promote(&place, &["a"]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    let why = "a does not become Primary: its peer fences it by episode 4";
    assert!(err.contains(why), "{err}");
    let (code, out, err) = promote(&place, &["--json", "a"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    for part in [
        "\"outcome\": \"denied\"",
        "\"reason\": \"fenced\"",
        "\"episode\": 4",
        "\"node\": \"a\"",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert_eq!(fake.stop().1.begun, 2);
}

#[test]
fn over_a_network_that_loses_and_repeats_it_is_begun_once() {
    let place = Place::new("promote-bad");
    let daemon = Daemon::start(&place);
    let fake = Fake::start(heard(daemon.address, 0), Network::Bad, Some(Ok(())));
    let (code, out, err) = promote(&place, &["a", "--timeout", "60"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "a is now Primary of r0\n"),
        "{err}"
    );
    let (_, seen) = fake.stop();
    assert_eq!(seen.begun, 1);
    assert!(seen.asked >= 3, "{}", seen.asked);
}

#[test]
fn forged_cut_and_replayed_answers_promote_nobody() {
    let place = Place::new("promote-hostile");
    let daemon = Daemon::start(&place);
    // A first command whose answers are recorded: the node became Primary.
    let fake = Fake::start(heard(daemon.address, 0), Network::Good, Some(Ok(())));
    assert_eq!(promote(&place, &["a"]).0, 0);
    let (node, recorded) = fake.stop();
    assert!(recorded.answers.len() >= 3, "AGAIN, ready, Primary");
    // It says no now, and somebody else plays what it said then, and forges what it did not.
    let fake = Fake::start(node, Network::Hostile, Some(Err(Withheld::Busy)));
    let stop = Arc::new(AtomicBool::new(false));
    let player = {
        let (stop, to) = (Arc::clone(&stop), daemon.address);
        std::thread::spawn(move || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
            while !stop.load(Ordering::Relaxed) {
                for answer in &recorded.answers {
                    socket.send_to(answer, to).expect("sent");
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let (code, out, err) = promote(&place, &["a", "--timeout", "60"]);
    stop.store(true, Ordering::Relaxed);
    player.join().expect("the player");
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("at something else"), "{err}");
    assert_eq!(fake.stop().1.begun, 1);
    daemon.logged("wrong HMAC");
    daemon.logged("of the wrong length");
    daemon.logged("an answer to nothing that was asked");
}

#[test]
fn a_node_that_is_silent_or_was_never_heard_is_told_from_one_that_denies() {
    let place = Place::new("promote-silent");
    let _daemon = Daemon::start(&place);
    let (code, _, err) = promote(&place, &["a"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("a was not heard since this arbiter runs"),
        "{err}"
    );
    let (code, out, _) = promote(&place, &["a", "--json"]);
    assert_eq!(code, 1);
    assert!(out.contains("\"outcome\": \"unheard\""), "{out}");
    // An address is given: somebody is asked, and does not answer.
    let mut silent = Node::new("a", 1, 0);
    let address = silent.socket.local_addr().expect("an address").to_string();
    let begun = Instant::now();
    let words = ["a", "--address", &address, "--timeout", "1"];
    let (code, _, err) = promote(&place, &words);
    assert_eq!(code, 3, "{err}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(err.contains("a has not answered within 1 s"), "{err}");
    // It was sent there, more than once, and obeyed by nobody yet.
    let mut bytes = [0; DATAGRAM_MAX];
    for _ in 0..3 {
        let (len, _) = silent.socket.recv_from(&mut bytes).expect("a PROMOTE");
        assert_eq!(bytes[5], 5);
        let received = silent.channel.receive(&bytes[..len]);
        assert!(
            matches!(received, Ok(Received::SayAgain(_))),
            "{received:?}"
        );
    }
    // The same address serves.
    let fake = Fake::start(silent, Network::Good, Some(Ok(())));
    let (code, out, err) = promote(&place, &["a", "--address", &address, "--timeout", "60"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "a is now Primary of r0\n"),
        "{err}"
    );
    fake.stop();
}

#[test]
fn one_that_does_not_come_to_an_end_is_undecided_and_another_command_waits_for_it() {
    let place = Place::new("promote-undecided");
    let daemon = Daemon::start(&place);
    let fake = Fake::start(heard(daemon.address, 0), Network::Good, None);
    let mut first = Command::new(PROGRAM)
        .arg(place.0.join("arbiter.toml"))
        .args(["promote", "r0", "a", "--timeout", "2"])
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    daemon.logged("PROMOTE a, by hand");
    let (code, _, err) = promote(&place, &["a", "--timeout", "1"]);
    assert_eq!(code, 1);
    assert!(err.contains("another 'promote r0 a' is under way"), "{err}");
    // Others are served meanwhile.
    assert!(place.command(&["list"]).0);
    assert_eq!(first.wait().expect("it ends").code(), Some(3));
    let (code, out, _) = promote(&place, &["a", "--timeout", "1", "--json"]);
    assert_eq!(code, 3);
    assert!(out.contains("\"outcome\": \"undecided\""), "{out}");
    assert_eq!(
        fake.stop().1.begun,
        1,
        "the second command asked after the first one's"
    );
}

#[test]
fn a_node_of_another_resource_of_this_name_is_asked_for_its_word_alone() {
    let place = Place::new("promote-other");
    let daemon = Daemon::start(&place);
    let mut known = Node::new("b", 2, 8);
    known.told(daemon.address, fence(1));
    let mut other = Node::new("a", 1, 7);
    let why = Refusal::OtherResource;
    let refused = Answer::Refused { episode: 2, why };
    assert_eq!(other.told(daemon.address, fence(2)), refused);
    let fake = Fake::start(other, Network::Good, Some(Ok(())));
    let (code, out, _) = promote(&place, &["a", "--json"]);
    assert_eq!(code, 1);
    assert!(out.contains("\"outcome\": \"other-resource\""), "{out}");
    daemon.logged("is of another resource of this name (it is 0000000000000007");
    assert_eq!(fake.stop().1.begun, 0);
}

#[test]
fn wrong_words_are_told_and_nobody_is_asked() {
    let place = Place::new("promote-words");
    let daemon = Daemon::start(&place);
    for (words, said) in [
        (&["a", "b"][..], "promote RESOURCE NODE"),
        (&[][..], "promote RESOURCE NODE"),
        (
            &["a", "--timeout", "0"][..],
            "whole seconds are wanted, 1 to 600",
        ),
        (
            &["a", "--timeout", "601"][..],
            "whole seconds are wanted, 1 to 600",
        ),
        (&["a", "--timeout"][..], "--timeout needs a value"),
        (
            &["a", "--address", "node-a"][..],
            "an IP address and a port are wanted",
        ),
        (&["a", "--force"][..], "promote has no option --force"),
    ] {
        let (code, _, err) = promote(&place, words);
        assert_eq!(code, 64, "{words:?}");
        assert!(err.contains(said), "{err}");
    }
    let (code, _, err) = promote(&place, &["c"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("resource r0 has no node c: its nodes are a and b"),
        "{err}"
    );
    let (good, text) = place.command(&["promote", "r9", "a"]);
    assert!(
        !good && text.contains("no resource r9 is configured"),
        "{text}"
    );
    assert!(daemon.log().iter().all(|line| !line.contains("PROMOTE")));
}
