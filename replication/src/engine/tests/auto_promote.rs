//! Promotion because clients wait: when it is tried, when it is not, and what clients are told.

use super::*;
use fencing::arbiter::Arbiter;

fn config_of(node: &str, peer: &str, policy: Policy) -> EngineConfig {
    let fences = policy != Policy::DontCare;
    EngineConfig {
        fencing: FencingConfig {
            policy,
            peer_endpoint: fences,
            arbiter: fences,
            timeout: 5_000_000,
            auto_promote: true,
            ..FencingConfig::default()
        },
        ..config(node, peer)
    }
}

/// Both are Secondary and in sync.
fn idle(policy: Policy) -> Pair {
    let mut pair = Pair::with(config_of("a", "b", policy), config_of("b", "a", policy));
    pair.management.arbiter = Some(Arbiter::default());
    pair.management.peers = true;
    pair.ok(0, Command::NewCurrentUuid);
    pair.wait(1_000_000);
    pair
}

/// The same with `a` Primary.
fn served(policy: Policy) -> Pair {
    let mut pair = idle(policy);
    pair.ok(0, Command::Primary { force: false });
    pair.wait(1_000_000);
    pair
}

impl Pair {
    fn waiting(&mut self, n: usize, clients: u32) {
        self.handle(n, Event::WaitingClients(clients));
        self.run();
    }

    fn roles(&self) -> [Role; 2] {
        [self.nodes[0].role(), self.nodes[1].role()]
    }
}

#[test]
fn a_client_that_waits_is_served_with_the_consent_of_a_connected_secondary() {
    let mut pair = idle(Policy::DontCare);
    assert_eq!(
        pair.nodes[1].engine.not_serving().unwrap(),
        "node b is not Primary: it is not decided yet whether it may be; see 'status' there"
    );
    pair.waiting(1, 1);
    assert_eq!(pair.roles(), [Role::Secondary, Role::Primary]);
    assert!(pair.nodes[1].serving && pair.nodes[1].refusals.is_empty());
    assert_eq!(pair.nodes[1].engine.not_serving(), None);
    assert!(pair.nodes[1].logged("clients waited"));
}

#[test]
fn without_the_policy_clients_just_wait() {
    let mut pair = Pair::new();
    pair.ok(0, Command::NewCurrentUuid);
    pair.waiting(0, 1);
    pair.wait(10_000_000);
    assert_eq!(pair.roles(), [Role::Secondary; 2]);
    assert!(pair.nodes[0].refusals.is_empty());
    assert_eq!(pair.nodes[0].engine.not_serving(), None);
}

#[test]
fn clients_at_both_nodes_make_one_of_them_primary() {
    let mut pair = idle(Policy::ResourceAndStonith);
    // Both ask before either has heard of the other.
    pair.handle(0, Event::WaitingClients(1));
    pair.handle(1, Event::WaitingClients(1));
    pair.wait(5_000_000);
    assert_eq!(pair.roles(), [Role::Primary, Role::Secondary]);
    assert!(pair.nodes[1].refusals.is_empty(), "its clients wait on");
    assert_eq!(
        pair.nodes[1].engine.not_serving().unwrap(),
        "node b is not Primary: its peer a is: connect there"
    );
}

#[test]
fn nobody_is_asked_while_the_peer_is_primary_and_a_fence_is_when_it_dies() {
    let mut pair = served(Policy::ResourceAndStonith);
    let id = pair.write(0, 0, 4096, 7);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.waiting(1, 3);
    pair.wait(20_000_000);
    assert_eq!(pair.roles(), [Role::Primary, Role::Secondary]);
    assert!(pair.nodes[1].refusals.is_empty());
    assert!(pair.management.journal.is_empty());
    // It dies.
    pair.management.peers = false;
    pair.reboot(0);
    pair.nodes[0].asks.clear();
    pair.wait(3_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Primary);
    assert!(pair.nodes[1].serving && pair.nodes[1].refusals.is_empty());
    assert!(matches!(pair.own(1), fencing::Own::Held(1, _)));
    assert_eq!(pair.read(1, 0, 4096), [7; 4096]);
}

#[test]
fn who_is_fenced_is_not_promoted_and_clients_hear_by_whom() {
    let mut pair = served(Policy::ResourceAndStonith);
    pair.cut();
    pair.wait(2_000_000);
    assert!(matches!(pair.own(0), fencing::Own::Held(..)));
    pair.waiting(1, 1);
    pair.wait(1_000_000);
    assert_eq!(pair.roles(), [Role::Primary, Role::Secondary]);
    let told = pair.nodes[1].refusals.last().expect("it is told").clone();
    assert!(
        told.starts_with("node b is not Primary: the peer fences this node by episode 1"),
        "{told}"
    );
    let denied = pair.nodes[1].status().denied.expect("it was denied");
    assert!(denied.for_clients && denied.why.contains("episode 1"));
    assert!(pair.nodes[1].logged("Warn not promoted for the clients that wait"));
    // Clients that are told go, and the next one is told, too; but nobody is asked for each of them.
    let asked = pair.management.journal.len();
    for _ in 0..40 {
        pair.waiting(1, 0);
        pair.waiting(1, 1);
        pair.wait(1_000_000);
    }
    assert!(
        (2..10).contains(&pair.nodes[1].refusals.len()),
        "{}",
        pair.nodes[1].refusals.len()
    );
    assert_eq!(pair.management.journal.len(), asked);
    let said = |line: &&String| line.contains("not promoted for");
    assert_eq!(pair.nodes[1].logs.iter().filter(said).count(), 1);
    // The peer is back: what was said of it holds no more.
    pair.heal();
    pair.wait(8_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[1].status().denied, None);
    assert_eq!(pair.roles(), [Role::Primary, Role::Secondary]);
}

#[test]
fn with_dont_care_a_lost_peer_is_never_replaced_by_itself() {
    let mut pair = served(Policy::DontCare);
    pair.reboot(0);
    pair.waiting(1, 1);
    pair.wait(7_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    let told = pair.nodes[1].refusals.first().expect("it is told");
    assert!(told.contains("--force"), "{told}");
}

#[test]
fn a_disk_that_is_not_good_is_never_promoted_by_itself() {
    let mut pair = served(Policy::ResourceAndStonith);
    pair.cut();
    pair.wait(2_000_000);
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.ok(0, Command::PauseSync { volume: Some(0) });
    pair.heal();
    pair.wait(1_000_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    // The source dies in the middle of the resync.
    pair.management.peers = false;
    pair.reboot(0);
    pair.nodes[0].asks.clear();
    pair.waiting(1, 1);
    pair.wait(8_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    assert!(!pair.nodes[1].refusals.is_empty());
    // And one that the operator has outdated is not either.
    let mut pair = idle(Policy::ResourceAndStonith);
    pair.cut();
    pair.run();
    pair.management.peers = false;
    pair.ok(1, Command::Outdate);
    pair.waiting(1, 1);
    pair.wait(8_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    let told = pair.nodes[1].refusals.last().expect("it is told");
    assert!(told.contains("Outdated"), "{told}");
}

#[test]
fn what_the_operator_said_is_not_undone_by_clients() {
    let mut pair = served(Policy::ResourceAndStonith);
    pair.ok(0, Command::Secondary { force: true });
    pair.waiting(0, 2);
    pair.wait(10_000_000);
    assert_eq!(pair.roles(), [Role::Secondary; 2]);
    assert!(
        pair.nodes[0]
            .engine
            .not_serving()
            .unwrap()
            .contains("operator")
    );
    // The peer has them, and then it dies: this node may take over.
    pair.waiting(1, 1);
    pair.wait(1_000_000);
    assert_eq!(pair.roles(), [Role::Secondary, Role::Primary]);
    pair.management.peers = false;
    pair.reboot(1);
    pair.nodes[1].asks.clear();
    pair.wait(8_000_000);
    assert_eq!(pair.nodes[0].role(), Role::Primary);
}

#[test]
fn nobody_answers_and_clients_hear_that_within_the_bound() {
    let mut pair = served(Policy::ResourceAndStonith);
    super::fence::deaf(&mut pair);
    pair.reboot(0);
    pair.nodes[0].asks.clear();
    pair.waiting(1, 1);
    pair.wait(4_000_000);
    assert!(pair.nodes[1].refusals.is_empty(), "it is not decided");
    pair.wait(2_000_000);
    let told = pair.nodes[1].refusals.first().expect("it is told");
    assert!(
        told.contains("neither the peer nor the arbiter answered in time"),
        "{told}"
    );
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    // Who waits on is served as soon as somebody answers.
    pair.management.arbiter = Some(Arbiter::default());
    pair.wait(8_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Primary);
}

#[test]
fn clients_that_reach_no_standby_are_served_after_the_loss_of_their_primary() {
    let mut at_loss = [("a", "b"), ("b", "a")]
        .map(|(node, peer)| config_of(node, peer, Policy::ResourceAndStonith));
    at_loss
        .iter_mut()
        .for_each(|config| config.fencing.promote_at_loss = true);
    let [a, b] = at_loss;
    let mut pair = Pair::with(a, b);
    pair.management.arbiter = Some(Arbiter::default());
    pair.management.peers = true;
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.wait(1_000_000);
    // A cut link: the Primary lives, and the standby finds that out.
    pair.cut();
    pair.wait(10_000_000);
    assert_eq!(pair.roles(), [Role::Primary, Role::Secondary]);
    pair.heal();
    pair.wait(8_000_000);
    pair.assert_in_sync();
    // Its death.
    pair.management.peers = false;
    pair.reboot(0);
    pair.nodes[0].asks.clear();
    pair.wait(8_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Primary);
    // A Secondary's death promotes nobody.
    let mut pair = idle(Policy::ResourceAndStonith);
    pair.management.peers = false;
    pair.reboot(0);
    pair.wait(10_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
}
