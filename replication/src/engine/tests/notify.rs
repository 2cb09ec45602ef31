//! Handlers at the arbiter: which are run, in which order, and what waits for them.

use super::*;
use fencing::Event as Occasion;
use fencing::arbiter::Arbiter;

const PATIENCE: Micros = 20_000_000;

fn config_of(node: &str, peer: &str) -> EngineConfig {
    let fencing = FencingConfig {
        arbiter: true,
        notify: Some(PATIENCE),
        ..FencingConfig::default()
    };
    EngineConfig {
        fencing,
        ..config(node, peer)
    }
}

/// Both in sync, `a` is Primary, and nothing was told yet.
fn pair() -> Pair {
    let mut pair = Pair::with(config_of("a", "b"), config_of("b", "a"));
    pair.management.arbiter = Some(Arbiter::default());
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.wait(5_000_000);
    pair.management.handlers.clear();
    pair
}

/// The link is lost, and the Primary writes to its first volume.
fn outage(pair: &mut Pair) {
    pair.cut();
    pair.run();
    let id = pair.write(0, 0, 65536, 9);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
}

impl Pair {
    /// What node `n` had run.
    fn told(&self, n: usize) -> Vec<(Occasion, Option<u8>)> {
        let all = self.management.handlers.iter();
        let own = all.filter(|(node, ..)| *node == n);
        own.map(|(_, _, event, volume)| (*event, *volume)).collect()
    }
}

#[test]
fn handlers_around_a_resync_run_in_order_and_the_first_ones_are_awaited() {
    let mut pair = pair();
    outage(&mut pair);
    pair.management.handlers_hang = true;
    pair.heal();
    pair.wait(10_000_000);
    // The handlers run, and nobody is connected. The target is what it was, and clients are served.
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    assert_ne!(
        pair.nodes[0].status().connection,
        ConnectionState::Connected
    );
    let begun = [
        (Occasion::Disconnected, None),
        (Occasion::BeforeResyncSource, Some(0)),
    ];
    assert_eq!(pair.told(0), begun, "one after the other");
    let id = pair.write(0, 0, 4096, 8);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.management.handlers_hang = false;
    pair.wait(10_000_000);
    pair.assert_in_sync();
    // The volumes have one generation, so the other one has a resync too, of nothing.
    assert_eq!(
        pair.told(0),
        [
            (Occasion::Disconnected, None),
            (Occasion::BeforeResyncSource, Some(0)),
            (Occasion::BeforeResyncSource, Some(1))
        ]
    );
    let told = pair.told(1);
    assert_eq!(
        told[..3],
        [
            (Occasion::Disconnected, None),
            (Occasion::BeforeResyncTarget, Some(0)),
            (Occasion::BeforeResyncTarget, Some(1))
        ]
    );
    let mut ended = told[3..].to_vec();
    ended.sort_unstable();
    let after = Occasion::AfterResyncTarget;
    assert_eq!(ended, [(after, Some(0)), (after, Some(1))]);
    assert!(pair.nodes[1].logged("waits for handler before-resync-target"));
}

#[test]
fn a_handler_that_does_not_agree_keeps_the_target_as_it_is_and_is_asked_again() {
    let mut pair = pair();
    outage(&mut pair);
    pair.management.exit_code = 1;
    pair.heal();
    pair.wait(20_000_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    let before = (Occasion::BeforeResyncTarget, Some(0));
    let count = |pair: &Pair| pair.told(1).iter().filter(|told| **told == before).count();
    assert!((2..=12).contains(&count(&pair)), "{}", count(&pair));
    assert!(pair.nodes[1].logged("handler before-resync-target ended with exit code 1"));
    assert!(
        pair.nodes[1]
            .status()
            .reason
            .contains("handler before-resync-target")
    );
    pair.management.exit_code = 0;
    pair.wait(10_000_000);
    pair.assert_in_sync();
    // The next resync has handlers of its own.
    let before = count(&pair);
    outage(&mut pair);
    pair.heal();
    pair.wait(10_000_000);
    pair.assert_in_sync();
    assert_eq!(count(&pair), before + 1);
}

#[test]
fn who_gets_no_answer_does_not_begin_a_resync_and_says_so() {
    let mut pair = pair();
    outage(&mut pair);
    let arbiter = pair.management.arbiter.take();
    pair.heal();
    pair.wait(PATIENCE + 5_000_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    assert!(pair.nodes[1].logged("handler before-resync-target: the arbiter did not say in time"));
    pair.management.arbiter = arbiter;
    pair.wait(15_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_node_without_handlers_waits_for_those_of_its_peer() {
    let mut quiet = config_of("a", "b");
    quiet.fencing.notify = None;
    let mut pair = Pair::with(quiet, config_of("b", "a"));
    pair.management.arbiter = Some(Arbiter::default());
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    outage(&mut pair);
    pair.management.handlers_hang = true;
    pair.heal();
    pair.wait(10_000_000);
    assert!(
        pair.nodes[0]
            .status()
            .reason
            .contains("the handler that the peer runs")
    );
    assert_eq!(pair.told(0), []);
    pair.management.handlers_hang = false;
    pair.wait(10_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_resync_that_ends_in_the_middle_is_told_as_ended() {
    let mut pair = pair();
    outage(&mut pair);
    pair.ok(0, Command::PauseSync { volume: None });
    pair.heal();
    pair.wait(10_000_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    pair.cut();
    pair.wait(1_000_000);
    let told = pair.told(1);
    let ended = [0, 1].map(|volume| (Occasion::AfterResyncTarget, Some(volume)));
    assert_eq!(
        told[told.len() - 3..],
        [ended[0], ended[1], (Occasion::Disconnected, None)]
    );
}

#[test]
fn a_resync_within_a_connection_is_told_and_not_awaited() {
    let mut pair = pair();
    pair.management.handlers_hang = true;
    pair.ok(0, Command::InvalidateRemote { volume: 1 });
    pair.wait(1_000_000);
    pair.assert_in_sync();
    pair.management.handlers_hang = false;
    pair.wait(3_000_000);
    assert_eq!(pair.told(0), [(Occasion::BeforeResyncSource, Some(1))]);
    assert_eq!(
        pair.told(1),
        [
            (Occasion::BeforeResyncTarget, Some(1)),
            (Occasion::AfterResyncTarget, Some(1))
        ]
    );
}

#[test]
fn a_split_brain_is_told_by_both_and_a_primary_that_lost_by_itself() {
    let mut pair = pair();
    outage(&mut pair);
    pair.ok(1, Command::Primary { force: true });
    let id = pair.write(1, 8192, 4096, 4);
    pair.run();
    assert_eq!(pair.reply(1, id), Some(Ok(())));
    pair.heal();
    pair.wait(5_000_000);
    for n in 0..2 {
        assert_eq!(
            pair.told(n),
            [
                (Occasion::Disconnected, None),
                (Occasion::InitialSplitBrain, None),
                (Occasion::SplitBrain, None)
            ]
        );
    }
}

#[test]
fn a_failing_disk_is_told_once_for_many_requests() {
    let mut pair = pair();
    pair.management.handlers_hang = true;
    pair.nodes[0].reads_fail = true;
    for _ in 0..20 {
        pair.read(0, 0, 4096);
    }
    pair.nodes[0].reads_fail = false;
    pair.management.handlers_hang = false;
    pair.wait(3_000_000);
    assert_eq!(pair.told(0), [(Occasion::LocalIoError, Some(0)); 2]);
}
