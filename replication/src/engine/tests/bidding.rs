//! PROMOTE: the arbiter's administrator has a node become Primary.

use super::fence::{deaf, pair as fenced_pair};
use super::*;
use fencing::{Promoting, Withheld};

impl Pair {
    /// What the node answers to PROMOTE with this number: a number and how it stands.
    fn promote(&mut self, n: usize, nonce: u64) -> (u64, Promoting) {
        let event = Event::Asked {
            from: Party::Arbiter,
            token: 9,
            request: Request::Promote { nonce },
        };
        self.handle(n, event);
        let answer = self.nodes[n].answers.pop_back();
        let Some((Party::Arbiter, 9, Answer::Promoting { nonce, state })) = answer else {
            panic!("{answer:?}");
        };
        (nonce, state)
    }

    /// Has a node set about it.
    fn begin(&mut self, n: usize) -> u64 {
        let (nonce, state) = self.promote(n, 0);
        assert_eq!(state, Promoting::Ready);
        assert_eq!(self.promote(n, nonce), (nonce, Promoting::UnderWay));
        nonce
    }

    /// How often the log says that.
    fn times_logged(&self, n: usize, what: &str) -> usize {
        let logs = &self.nodes[n].logs;
        logs.iter().filter(|line| line.contains(what)).count()
    }
}

const BEGUN: &str = "the arbiter's administrator wants this node Primary";

/// Both are Secondary and in sync.
fn idle() -> Pair {
    let mut pair = fenced_pair();
    pair.ok(0, Command::Secondary { force: true });
    pair.wait(1_000_000);
    pair
}

#[test]
fn beside_a_secondary_a_node_becomes_primary_once_however_often_it_is_asked() {
    let mut pair = idle();
    let (nonce, state) = pair.promote(1, 0);
    assert_eq!(state, Promoting::Ready);
    pair.run();
    assert_eq!(pair.nodes[1].role(), Role::Secondary, "nothing is done yet");
    for _ in 0..5 {
        assert_eq!(pair.promote(1, nonce), (nonce, Promoting::UnderWay));
        assert_eq!(pair.promote(1, 0), (nonce, Promoting::UnderWay));
    }
    pair.run();
    assert_eq!(pair.nodes[1].role(), Role::Primary);
    assert_eq!(pair.promote(1, nonce), (nonce, Promoting::Primary));
    assert_eq!(pair.promote(1, 0), (0, Promoting::Primary));
    assert_eq!(pair.times_logged(1, BEGUN), 1);
    assert_eq!(pair.times_logged(1, "now Primary"), 1);
    // A late repetition undoes no later command.
    pair.ok(1, Command::Secondary { force: false });
    assert_eq!(pair.promote(1, nonce), (nonce, Promoting::Primary));
    pair.wait(1_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
}

#[test]
fn what_is_held_back_for_too_long_does_nothing() {
    let mut pair = idle();
    let (nonce, _) = pair.promote(1, 0);
    pair.wait(7_000_000);
    let late = Promoting::Denied(Withheld::TooLate);
    assert_eq!(pair.promote(1, nonce), (nonce, late));
    // Nor what was meant for an earlier life.
    let (nonce, _) = pair.promote(1, 0);
    pair.reboot(1);
    pair.heal();
    assert_eq!(pair.promote(1, nonce), (nonce, late));
    pair.wait(1_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    assert_eq!(pair.times_logged(1, BEGUN), 0);
}

#[test]
fn beside_a_primary_it_is_denied_and_says_why() {
    let mut pair = fenced_pair();
    let nonce = pair.begin(1);
    pair.run();
    let denied = Promoting::Denied(Withheld::PeerIsPrimary);
    assert_eq!(pair.promote(1, nonce), (nonce, denied));
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    assert!(pair.nodes[1].logged("not promoted, as the arbiter's administrator wanted: peer a is"));
    let status = pair.nodes[1].status();
    assert!(!status.denied.expect("it was denied").for_clients);
}

#[test]
fn without_its_peer_it_needs_the_fence() {
    let mut pair = fenced_pair();
    // The Primary holds one, and lives.
    pair.cut();
    pair.wait(2_000_000);
    let nonce = pair.begin(1);
    pair.wait(1_000_000);
    let denied = Promoting::Denied(Withheld::Fenced(1));
    assert_eq!(pair.promote(1, nonce), (nonce, denied));
    // Nobody is there to be asked: it takes fence-timeout to find out.
    let mut pair = fenced_pair();
    deaf(&mut pair);
    pair.reboot(0);
    let nonce = pair.begin(1);
    pair.wait(1_000_000);
    assert_eq!(pair.promote(1, nonce), (nonce, Promoting::UnderWay));
    pair.wait(6_000_000);
    let denied = Promoting::Denied(Withheld::NoAnswer);
    assert_eq!(pair.promote(1, nonce), (nonce, denied));
    // The Primary is dead, and the arbiter grants it.
    let mut pair = fenced_pair();
    pair.management.peers = false;
    pair.reboot(0);
    let nonce = pair.begin(1);
    pair.wait(5_000_000);
    assert_eq!(pair.promote(1, nonce), (nonce, Promoting::Primary));
    assert_eq!(pair.holder(), Some(("b".into(), 1)));
}

#[test]
fn it_waits_in_turn_with_the_consoles_commands_and_each_gets_its_own_answer() {
    let mut pair = fenced_pair();
    deaf(&mut pair);
    pair.reboot(0);
    // The console's waits for a fence that nobody grants; the other one waits for its end, and finds the same.
    let console = pair.start(1, Command::Primary { force: false });
    pair.wait(1_000_000);
    let nonce = pair.begin(1);
    pair.wait(4_500_000);
    let why = pair.nodes[1].done[&console].clone().unwrap_err();
    assert!(why.contains("answered in time"), "{why}");
    assert_eq!(pair.promote(1, nonce), (nonce, Promoting::UnderWay));
    pair.wait(6_000_000);
    let denied = Promoting::Denied(Withheld::NoAnswer);
    assert_eq!(pair.promote(1, nonce), (nonce, denied));
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    // And the other way round: who comes second finds the node Primary.
    let mut pair = idle();
    let nonce = pair.begin(1);
    let console = pair.start(1, Command::Primary { force: false });
    pair.run();
    assert!(pair.nodes[1].done[&console].is_ok());
    assert_eq!(pair.promote(1, nonce), (nonce, Promoting::Primary));
}

#[test]
fn the_peer_may_not_ask_it() {
    let mut pair = idle();
    let event = Event::Asked {
        from: Party::Peer,
        token: 9,
        request: Request::Promote { nonce: 0 },
    };
    pair.handle(1, event);
    assert!(pair.nodes[1].answers.is_empty());
}
