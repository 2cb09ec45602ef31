//! Fences that an operator ends, or a policy; and a link that is cut again when the last resync ends.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::load::{Load, Survives};
use e2e::tools::wait_for;
use e2e::{Node, Pair};
use std::time::{Duration, Instant};

const VOLUME: u64 = 64 << 20;

/// Adds a line to a section of a node's configuration, and boots it with that. Node a is Primary again then.
fn configure_a(pair: &Pair, section: &str, line: &str) {
    let config = pair.dir().join("a.toml");
    let text = std::fs::read_to_string(&config).expect("the node's configuration");
    assert!(text.contains(section), "{text}");
    let text = text.replacen(section, &format!("{section}\n{line}"), 1);
    std::fs::write(&config, text).expect("room for it");
    pair.must_exec(Node::A, "secondary --force");
    pair.kill(Node::A);
    pair.start(Node::A);
    pair.wait_in_sync(60);
    pair.must_exec(Node::A, "primary");
}

/// The nodes reach each other in no way, nor an arbiter.
fn cut_off(pair: &Pair) {
    pair.arbiter("kill");
    pair.cut("peers");
    pair.cut("replication");
}

fn together_again(pair: &Pair) {
    for network in ["peers", "replication"] {
        pair.restore(network);
    }
    pair.wait_in_sync(60);
}

fn wait_unfenced(pair: &Pair, node: Node) {
    pair.wait_status(node, "without a fence", 30, |status| {
        status.fence().is_none()
    });
}

#[test]
fn who_is_to_step_down_drops_its_clients_when_nobody_decides_in_time() {
    let options = ["--fence-timeout", "3s"];
    let pair = Pair::boot_fenced("resource-and-stonith", &options);
    configure_a(&pair, "[resource]", "on-fence-timeout = \"step-down\"");
    let load = Load::new(0, VOLUME, 2, 5).start(pair.port(Node::A));
    wait_for("some load", 30, || (load.done() > 100).then_some(()));
    cut_off(&pair);
    pair.wait_status(Node::A, "Secondary", 30, |status| {
        status.role() == "Secondary"
    });
    wait_for("its clients are dropped", 30, || {
        (!load.alive()).then_some(())
    });
    let mut load = load.stop();
    assert!(!pair.status(Node::A).frozen());
    // It gave way, but to nobody: neither node is promoted while nobody answers.
    for node in [Node::A, Node::B] {
        let refused = pair.exec(node, "primary");
        assert!(refused.is_err(), "{refused:?}");
    }
    pair.arbiter("start");
    together_again(&pair);
    for node in [Node::A, Node::B] {
        wait_unfenced(&pair, node);
    }
    // The other one takes over, with all that was answered.
    pair.must_exec(Node::B, "primary");
    assert!(load.verify(pair.port(Node::B), Survives::Answered) > 0);
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn frozen_clients_go_on_by_the_operators_word() {
    let pair = Pair::boot_fenced("resource-and-stonith", &["--fence-timeout", "2s"]);
    let load = Load::new(0, VOLUME, 2, 6).start(pair.port(Node::A));
    wait_for("some load", 30, || (load.done() > 100).then_some(()));
    cut_off(&pair);
    // What the operator must know before.
    pair.kill(Node::B);
    pair.wait_status(Node::A, "frozen", 30, |status| status.frozen());
    // Also beyond the bound: by this policy it waits, and says so.
    wait_for("it says that nobody decides", 30, || {
        let log = pair.must_exec(Node::A, "log 100");
        log.contains("nobody has decided").then_some(())
    });
    let status = pair.status(Node::A);
    assert!(status.frozen() && status.role() == "Primary", "{status:?}");
    let answered = load.done();
    let said = pair.must_exec(Node::A, "resume-io");
    assert!(said.contains("go on"), "{said}");
    wait_for("an answer to a client", 30, || {
        (load.done() > answered + 20).then_some(())
    });
    assert!(load.alive(), "nobody was dropped");
    assert!(!pair.status(Node::A).frozen());
    // It asks on, and holds the fence as soon as there is somebody who grants it.
    pair.arbiter("start");
    pair.wait_status(Node::A, "the holder", 30, |status| {
        status.fence().is_some_and(|(_, state)| state == "held")
    });
    pair.start(Node::B);
    together_again(&pair);
    wait_unfenced(&pair, Node::A);
    let mut load = load.stop();
    assert!(load.verify(pair.port(Node::A), Survives::Answered) > 0);
    let journal = pair.journal();
    assert_eq!(journal.len(), 2, "{journal:?}");
    assert!(
        journal[0].starts_with("FENCE a") && journal[1].starts_with("UNFENCE a"),
        "{journal:?}"
    );
    pair.assert_identical_after_clean_stop(1);
}

#[test]
fn the_fence_of_a_node_that_is_gone_for_good_is_ended_by_hand() {
    let pair = Pair::boot_fenced("resource-and-stonith", &[]);
    pair.cut("replication");
    pair.wait_status(Node::A, "alone by a fence", 20, |status| {
        status.fence() == Some((1, "held"))
    });
    pair.kill(Node::A);
    let primary = |word: &str| pair.exec(Node::B, &format!("primary{word}"));
    let refused = primary("").expect_err("it is fenced");
    assert!(refused.contains("episode 1"), "{refused}");
    // Not without a word, nor for a number that is not the fence's.
    let refused = pair.exec(Node::B, "unfence 1").expect_err("without --yes");
    assert!(refused.contains("--yes"), "{refused}");
    assert!(pair.exec(Node::B, "unfence 7 --yes").is_err());
    assert!(
        pair.must_exec(Node::B, "fence")
            .contains("fenced by a, episode 1")
    );
    pair.must_exec(Node::B, "unfence 1 --yes");
    let said = pair.must_exec(Node::B, "fence");
    assert!(!said.contains("fenced by a"), "{said}");
    // Its data is old, and the arbiter knows of nothing yet: both is for the operator to say.
    let refused = primary("");
    assert!(refused.is_err(), "{refused:?}");
    let release = |words: &[&str]| {
        let all = [&["arbiter", "release", "r0", "a", "1"], words].concat();
        pair.script(&all).status.success()
    };
    assert!(!release(&[]), "without --yes");
    assert_eq!(pair.journal(), ["FENCE a 1"]);
    assert!(release(&["--yes"]));
    primary(" --force").expect("the operator's word");
    pair.qemu_io(
        &pair.node_uri(Node::B, 0),
        &["write -P 0x53 1M 64k", "flush"],
        60,
    );
    let journal = pair.journal();
    assert_eq!(journal[..2], ["FENCE a 1", "RELEASED-BY-HAND a 1"]);
}

/// Every FENCE in the journal is followed by its UNFENCE before the next one, once; the last may still be held.
fn assert_in_turn(journal: &[String]) {
    let mut last = 0;
    for pair in journal.chunks(2) {
        let words: Vec<&str> = pair[0].split(' ').collect();
        let number = words[2].parse().expect("an episode");
        assert_eq!(words[..2], ["FENCE", "a"], "{journal:?}");
        assert!(number > last, "{journal:?}");
        last = number;
        if let Some(end) = pair.get(1) {
            assert_eq!(*end, format!("UNFENCE a {number}"), "{journal:?}");
        }
    }
}

#[test]
fn a_second_cut_when_the_last_resync_ends_is_an_episode_of_its_own() {
    let pair = Pair::boot_fenced("resource-and-stonith", &["--volumes", "2"]);
    let uris = [0, 1].map(|volume| pair.node_uri(Node::A, volume));
    let part = || {
        pair.cut("replication");
        pair.wait_status(Node::A, "alone by a fence", 30, |status| {
            status.fence().is_some_and(|(_, state)| state == "held") && !status.frozen()
        });
    };
    let fill = |round: u8| {
        for uri in &uris {
            pair.qemu_io(uri, &[&format!("write -P {round} 1M 2M"), "flush"], 60);
        }
    };
    // How long it takes from the cable to the end of the last resync, by the log's clock of the first time.
    part();
    fill(1);
    let began = Instant::now();
    pair.restore("replication");
    wait_unfenced(&pair, Node::A);
    let usual = began.elapsed();
    assert_in_turn(&pair.journal());
    // Closing in on the moment from both sides: what has come to pass at the cut decides, and never are there two of anything.
    let (mut before, mut after) = (0, 0);
    let (mut early, mut late) = (Duration::ZERO, usual);
    for round in 0..12u8 {
        let known = pair.journal().len();
        part();
        fill(2 + round);
        pair.restore("replication");
        // Its neighbourhood stays wide enough for what the host adds.
        let delay = (early + late) / 2 + Duration::from_millis(u64::from(round % 3) * 4);
        std::thread::sleep(delay);
        pair.cut("replication");
        std::thread::sleep(Duration::from_millis(2500));
        let journal = pair.journal();
        assert_in_turn(&journal);
        if journal.len() > known + 1 {
            (after, late) = (after + 1, delay);
        } else {
            (before, early) = (before + 1, delay);
        }
        pair.restore("replication");
        pair.wait_in_sync(60);
        wait_unfenced(&pair, Node::A);
        let journal = pair.journal();
        assert_in_turn(&journal);
        assert_eq!(journal.len() % 2, 0, "{journal:?}");
    }
    println!(
        "    the usual way took {usual:?}; the second cut came {before} times before the end of the fence and {after} times after it"
    );
    assert_eq!(pair.status(Node::A).role(), "Primary");
    for uri in &uris {
        pair.qemu_io(uri, &["read -P 13 1M 2M"], 60);
    }
    pair.assert_identical_after_clean_stop(2);
}
