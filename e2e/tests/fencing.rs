//! Fences between a real pair and a real arbiter: lost links, a lost arbiter, a lost Primary.

use e2e::load::{Load, Running, Survives};
use e2e::tools::wait_for;
use e2e::{Node, Pair};
use std::time::{Duration, Instant};

const VOLUME: u64 = 64 << 20;
/// After which a silent peer is lost, see [`Pair::boot_fenced`].
const TIMEOUT: Duration = Duration::from_secs(2);
fn load(pair: &Pair, node: Node) -> Running {
    Load::new(0, VOLUME, 2, 5).start(pair.port(node))
}

/// The longest time without an answer to any client while `act` is done and until answers have come again for half a second.
fn longest_wait(load: &Running, act: impl FnOnce()) -> Duration {
    let moves = |since: Instant, longest: &mut Duration| {
        let done = load.done();
        wait_for("an answer to a client", 60, || {
            (load.done() > done).then_some(())
        });
        *longest = since.elapsed().max(*longest);
    };
    let mut longest = Duration::ZERO;
    moves(Instant::now(), &mut longest);
    act();
    let end = Instant::now() + TIMEOUT + Duration::from_secs(2);
    while Instant::now() < end {
        moves(Instant::now(), &mut longest);
    }
    longest
}

/// What clients waited for, by the node's log: a fence that was granted, and no time limit. How long that took is only
/// printed, and measured by bench.sh: a busy host may take any time.
fn served_again_by_grant(pair: &Pair, node: Node, episode: u64) {
    let log = pair.must_exec(node, "log 200");
    let steps = [
        "clients wait until it is decided".to_owned(),
        format!("episode {episode} is granted by"),
        "the peer is fenced: clients are served again".to_owned(),
    ];
    let mut rest = log.as_str();
    for step in &steps {
        let found = rest.split_once(step.as_str());
        rest = found
            .unwrap_or_else(|| panic!("'{step}' in its turn: {log}"))
            .1;
    }
    assert!(!log.contains("nobody has decided"), "{log}");
}

/// Answers have come while nobody had granted anything, and nothing was held back meanwhile.
fn nothing_was_held_back(pair: &Pair, node: Node) {
    let log = pair.must_exec(node, "log 200");
    assert!(
        !log.contains("is granted by") && !log.contains("clients wait until it is decided"),
        "{log}"
    );
}

fn wait_unfenced(pair: &Pair, node: Node) {
    pair.wait_status(node, "without a fence", 30, |status| {
        status.fence().is_none()
    });
}

#[test]
fn a_cut_link_is_one_fence_and_one_unfence_after_the_last_volume() {
    let pair = Pair::boot_fenced("resource-and-stonith", &["--volumes", "2"]);
    let load = load(&pair, Node::A);
    let waited = longest_wait(&load, || pair.cut("replication"));
    println!("    clients waited {waited:?} at the cut, timeout {TIMEOUT:?}");
    let status = pair.wait_status(Node::A, "alone by a fence", 10, |status| {
        status.fence() == Some((1, "held"))
    });
    assert!(!status.frozen() && status.role() == "Primary");
    served_again_by_grant(&pair, Node::A, 1);
    pair.qemu_io(&pair.node_uri(Node::A, 1), &["write -P 0x51 0 4M"], 60);
    // The fenced node says why it does not become Primary.
    let refused = pair.exec(Node::B, "primary").expect_err("it is fenced");
    assert!(refused.contains("episode 1"), "{refused}");
    assert!(
        pair.must_exec(Node::B, "fence")
            .contains("fenced by a, episode 1")
    );

    // vol1 takes its time. As long as it does, nothing is given back.
    pair.must_exec(Node::A, "pause-sync vol1");
    pair.restore("replication");
    pair.wait_status(Node::A, "in sync on vol0", 30, |status| {
        status.peer_disk(0) == "UpToDate" && status.connection() == "Connected"
    });
    std::thread::sleep(Duration::from_secs(1));
    let status = pair.status(Node::A);
    assert_eq!(status.fence(), Some((1, "held")));
    assert_ne!(status.peer_disk(1), "UpToDate");
    assert_eq!(pair.journal(), ["FENCE a 1"]);
    pair.must_exec(Node::A, "resume-sync vol1");
    pair.wait_in_sync(60);
    wait_unfenced(&pair, Node::A);
    assert_eq!(pair.journal(), ["FENCE a 1", "UNFENCE a 1"]);
    let mut load = load.stop();
    assert!(load.verify(pair.port(Node::A), Survives::Answered) > 0);
    pair.assert_identical_after_clean_stop(2);
}

#[test]
fn clients_wait_until_an_arbiter_that_was_killed_is_back() {
    let pair = Pair::boot_fenced("resource-and-stonith", &[]);
    let load = load(&pair, Node::A);
    // The nodes cannot reach each other in any way; the arbiter could be reached, but is not there.
    pair.cut("peers");
    pair.arbiter("kill");
    pair.cut("replication");
    pair.wait_status(Node::A, "frozen", 20, |status| {
        status.frozen()
            && status
                .fence()
                .is_some_and(|(_, state)| state == "requested")
    });
    // What was on its way to a client when it froze.
    std::thread::sleep(Duration::from_millis(300));
    let answered = load.done();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(load.done(), answered, "nobody is answered before the grant");
    assert!(load.alive(), "clients wait, and nobody drops them");
    pair.arbiter("start");
    pair.wait_status(Node::A, "alone by a fence", 20, |status| {
        status.fence().is_some_and(|(_, state)| state == "held") && !status.frozen()
    });
    wait_for("an answer to a client", 20, || {
        (load.done() > answered).then_some(())
    });
    // The other one reaches the arbiter too, which tells it who holds the fence.
    let refused = pair
        .exec(Node::B, "primary")
        .expect_err("a holds the fence");
    assert!(refused.contains("fence"), "{refused}");
    assert_eq!(pair.status(Node::B).role(), "Secondary");
    for network in ["peers", "replication"] {
        pair.restore(network);
    }
    pair.wait_in_sync(60);
    wait_unfenced(&pair, Node::A);
    let journal = pair.journal();
    let of = |word: &str| journal.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((of("FENCE a"), of("UNFENCE a")), (1, 1), "{journal:?}");
    assert_eq!(of("FENCE b"), 0, "{journal:?}");
    let mut load = load.stop();
    assert!(load.verify(pair.port(Node::A), Survives::Answered) > 0);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn with_resource_only_nobody_waits_for_the_arbiter() {
    // Short: the promotion that is tried below is denied when it is over.
    let pair = Pair::boot_fenced("resource-only", &["--fence-timeout", "3s"]);
    let load = load(&pair, Node::A);
    pair.arbiter("kill");
    pair.cut("peers");
    let waited = longest_wait(&load, || pair.cut("replication"));
    println!("    clients waited {waited:?} at the cut, timeout {TIMEOUT:?}");
    let status = pair.status(Node::A);
    assert!(
        status
            .fence()
            .is_some_and(|(_, state)| state == "requested")
    );
    nothing_was_held_back(&pair, Node::A);
    assert!(!status.frozen());
    // Nobody grants the other node anything either.
    let refused = pair
        .exec(Node::B, "primary")
        .expect_err("nobody answers it");
    assert!(refused.contains("answer"), "{refused}");
    pair.arbiter("start");
    pair.wait_status(Node::A, "the holder", 20, |status| {
        status.fence().is_some_and(|(_, state)| state == "held")
    });
    assert!(load.alive());
    load.stop();
}

#[test]
fn the_standby_fences_a_dead_primary_and_serves() {
    let pair = Pair::boot_fenced("resource-and-stonith", &[]);
    let load = load(&pair, Node::A);
    wait_for("some load", 30, || (load.done() > 200).then_some(()));
    pair.kill(Node::A);
    let killed = Instant::now();
    // An operator, or a cluster manager, who asks until it is so.
    wait_for("b is Primary", 30, || pair.exec(Node::B, "primary").ok());
    let mut load = load.stop();
    assert!(load.verify(pair.port(Node::B), Survives::Answered) > 0);
    println!(
        "    b served {:?} after the Primary was killed",
        killed.elapsed()
    );
    let status = pair.status(Node::B);
    let Some((episode, "held")) = status.fence() else {
        panic!("{status:?}");
    };
    assert_eq!(pair.journal(), [format!("FENCE b {episode}")]);
    pair.qemu_io(
        &pair.node_uri(Node::B, 0),
        &["write -P 0x52 8M 64k", "flush"],
        60,
    );

    // The dead one comes back behind a cut cable: it does not become Primary, and says who is in its way.
    pair.cut("replication");
    pair.start(Node::A);
    pair.cut("replication");
    let refused = pair
        .exec(Node::A, "primary")
        .expect_err("b holds the fence");
    assert!(
        refused.contains("fence") || refused.contains("Primary"),
        "{refused}"
    );
    pair.restore("replication");
    pair.wait_in_sync(60);
    wait_unfenced(&pair, Node::B);
    assert_eq!(
        pair.journal(),
        [format!("FENCE b {episode}"), format!("UNFENCE b {episode}")]
    );
    pair.qemu_io(&pair.node_uri(Node::B, 0), &["read -P 0x52 8M 64k"], 60);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn with_dont_care_a_cut_link_asks_nobody() {
    let pair = Pair::boot_fenced("dont-care", &[]);
    let load = load(&pair, Node::A);
    let waited = longest_wait(&load, || pair.cut("replication"));
    println!("    clients waited {waited:?} at the cut, timeout {TIMEOUT:?}");
    nothing_was_held_back(&pair, Node::A);
    let status = pair.status(Node::A);
    assert!(
        status.fence().is_none() && status.out_of_sync(0) > 0,
        "{status:?}"
    );
    load.stop();
}
