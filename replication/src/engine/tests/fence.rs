//! Fencing: the fence worker in the engine, with a management network and an arbiter between two nodes.

use super::*;
use fencing::Own;
use fencing::arbiter::Arbiter;

/// The management network and who is reached by it.
pub(in crate::engine) struct Management {
    pub arbiter: Option<Arbiter>,
    /// The nodes reach each other.
    pub peers: bool,
    /// What the arbiter was asked that changed something, in order.
    pub journal: Vec<(usize, Request)>,
    /// The handlers that it was told to run, in order, each once.
    pub handlers: Vec<(usize, u64, fencing::Event, Option<u8>)>,
    /// Handlers run on, and are not answered.
    pub handlers_hang: bool,
    /// How handlers before a resync end.
    pub exit_code: u8,
}

impl Management {
    pub const fn new() -> Self {
        Self {
            arbiter: None,
            peers: false,
            journal: Vec::new(),
            handlers: Vec::new(),
            handlers_hang: false,
            exit_code: 0,
        }
    }
}

impl Pair {
    /// Delivers one message of the management network, if there is one. What nobody receives is lost.
    pub fn talk(&mut self) -> bool {
        for n in 0..2 {
            if let Some((to, request)) = self.nodes[n].asks.pop_front() {
                match to {
                    Party::Arbiter => self.ask_arbiter(n, request),
                    Party::Peer if self.management.peers => {
                        let (from, token) = (Party::Peer, 7);
                        let event = Event::Asked {
                            from,
                            token,
                            request,
                        };
                        self.handle(1 - n, event);
                    }
                    Party::Peer => {}
                }
                return true;
            }
            if let Some((to, token, answer)) = self.nodes[n].answers.pop_front() {
                assert_eq!((to, token), (Party::Peer, 7));
                if self.management.peers {
                    let from = Party::Peer;
                    self.handle(1 - n, Event::Answered { from, answer });
                }
                return true;
            }
        }
        false
    }

    fn ask_arbiter(&mut self, n: usize, request: Request) {
        let name = self.nodes[n].config.node.clone();
        let management = &mut self.management;
        let Some(arbiter) = &mut management.arbiter else {
            return;
        };
        if let Request::Notify {
            number,
            event,
            volume,
        } = request
        {
            let handler = (n, number, event, volume);
            if !management.handlers.contains(&handler) {
                management.handlers.push(handler);
            }
            if !management.handlers_hang {
                let code = if event.awaited() {
                    management.exit_code
                } else {
                    0
                };
                let answer = Answer::Handled { number, code };
                let from = Party::Arbiter;
                self.handle(n, Event::Answered { from, answer });
            }
            return;
        }
        let verdict = arbiter
            .ask(&name, request)
            .expect("a question for an arbiter");
        if verdict.next != *arbiter {
            management.journal.push((n, request));
        }
        *arbiter = verdict.next;
        let from = Party::Arbiter;
        let answer = verdict.answer;
        self.handle(n, Event::Answered { from, answer });
    }

    pub fn own(&self, n: usize) -> Own {
        self.nodes[n].status().fencing.record.own
    }

    fn uuid(&self, n: usize) -> u64 {
        self.nodes[n].status().volumes[0].current_uuid
    }

    pub fn frozen(&self, n: usize) -> bool {
        self.nodes[n].status().suspended.fencing
    }

    pub fn holder(&self) -> Option<(String, u64)> {
        let arbiter = self.management.arbiter.as_ref().expect("an arbiter");
        let holder = arbiter.holder.clone();
        holder.map(|(name, episode)| (name.to_string(), episode))
    }
}

fn fenced(node: &str, peer: &str, policy: Policy) -> EngineConfig {
    EngineConfig {
        fencing: FencingConfig {
            policy,
            peer_endpoint: true,
            arbiter: true,
            timeout: 5_000_000,
            ..FencingConfig::default()
        },
        ..config(node, peer)
    }
}

/// Both in sync, `a` is Primary, by this policy.
pub(super) fn pair_by(policy: Policy) -> Pair {
    let mut pair = Pair::with(fenced("a", "b", policy), fenced("b", "a", policy));
    pair.management.arbiter = Some(Arbiter::default());
    pair.management.peers = true;
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.wait(1_000_000);
    pair
}

pub(super) fn pair() -> Pair {
    pair_by(Policy::ResourceAndStonith)
}

/// Nobody can be asked.
pub(super) fn deaf(pair: &mut Pair) {
    pair.management.arbiter = None;
    pair.management.peers = false;
}

#[test]
fn clients_wait_at_the_loss_and_go_on_in_a_new_generation_when_the_fence_is_granted() {
    let mut pair = pair();
    let before = pair.uuid(0);
    pair.management.peers = false;
    let arbiter = pair.management.arbiter.take();
    // Under way at the loss: it is on its way to the peer.
    let under_way = pair.write(0, 0, 4096, 1);
    pair.cut();
    pair.run();
    assert!(pair.frozen(0));
    let later = pair.write(0, 8192, 4096, 2);
    pair.wait(1_000_000);
    assert_eq!(pair.reply(0, under_way), None);
    assert_eq!(pair.reply(0, later), None);
    assert_eq!(pair.uuid(0), before, "frozen I/O mints no generation");
    pair.management.arbiter = arbiter;
    pair.wait(3_000_000);
    assert!(!pair.frozen(0));
    assert_eq!(pair.reply(0, under_way), Some(Ok(())));
    assert_eq!(pair.reply(0, later), Some(Ok(())));
    assert_ne!(pair.uuid(0), before);
    assert_eq!(pair.holder(), Some(("a".into(), 1)));
    assert_eq!(
        pair.nodes[0].status().volumes[0].peer_disk,
        DiskState::Outdated
    );
    pair.management.peers = true;
    pair.heal();
    pair.wait(5_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.holder(), None);
    assert_eq!((pair.own(0), pair.own(1)), (Own::None, Own::None));
}

#[test]
fn the_peer_back_before_the_decision_gets_what_was_frozen_and_no_generation_is_begun() {
    let mut pair = pair();
    deaf(&mut pair);
    let before = pair.uuid(0);
    let under_way = pair.write(0, 0, 4096, 1);
    pair.cut();
    let later = pair.write(0, 8192, 4096, 2);
    pair.wait(1_000_000);
    assert!(pair.frozen(0));
    pair.heal();
    assert!(!pair.frozen(0));
    assert_eq!(pair.reply(0, under_way), Some(Ok(())));
    assert_eq!(pair.reply(0, later), Some(Ok(())));
    assert_eq!(pair.uuid(0), before);
    pair.management.arbiter = Some(Arbiter::default());
    pair.management.peers = true;
    pair.wait(5_000_000);
    pair.assert_in_sync();
    assert_eq!((pair.own(0), pair.own(1)), (Own::None, Own::None));
    assert_eq!(pair.holder(), None);
}

#[test]
fn an_outage_without_writes_is_unfenced_once_and_only_when_every_volume_is_in_sync() {
    let mut pair = pair();
    pair.cut();
    pair.wait(1_000_000);
    assert!(matches!(pair.own(0), Own::Held(1, _)));
    pair.heal();
    pair.wait(5_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.own(0), Own::None);
    let asked: Vec<_> = pair
        .management
        .journal
        .iter()
        .map(|(n, r)| (*n, *r))
        .collect();
    assert!(
        matches!(
            asked[..],
            [
                (0, Request::Fence { episode: 1, .. }),
                (
                    0,
                    Request::Unfence {
                        episode: 1,
                        vouched: 1
                    }
                )
            ]
        ),
        "{asked:?}"
    );
}

#[test]
fn no_unfence_while_one_of_two_volumes_is_behind() {
    let mut pair = pair();
    pair.cut();
    pair.wait(1_000_000);
    let id = pair.submit_to(0, 1, 0, |node| {
        let buf = node.pool.alloc(4096).expect("memory");
        ClientOp::Write { buf, fua: false }
    });
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.ok(0, Command::PauseSync { volume: Some(1) });
    pair.heal();
    pair.wait(10_000_000);
    assert_eq!(
        pair.nodes[0].status().volumes[0].peer_disk,
        DiskState::UpToDate
    );
    assert!(matches!(pair.own(0), Own::Held(1, _)), "{:?}", pair.own(0));
    assert_eq!(pair.holder(), Some(("a".into(), 1)));
    pair.ok(0, Command::ResumeSync { volume: Some(1) });
    pair.wait(5_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.holder(), None);
}

#[test]
fn a_refused_primary_drops_its_clients_outdates_itself_and_becomes_secondary() {
    let mut pair = pair();
    let name = Name::try_from("b").unwrap();
    let arbiter = pair.management.arbiter.as_mut().unwrap();
    (arbiter.holder, arbiter.last) = (Some((name, 1)), 1);
    pair.management.peers = false;
    let under_way = pair.write(0, 0, 4096, 1);
    pair.cut();
    pair.wait(2_000_000);
    assert_eq!(pair.role_of(0), Role::Secondary);
    assert!(!pair.nodes[0].serving);
    assert_eq!(pair.nodes[0].disk(), DiskState::Outdated);
    assert_ne!(pair.reply(0, under_way), Some(Ok(())));
    assert_eq!(pair.nodes[0].status().fencing.record.mark, Some(1));
    let denied = pair.command(0, Command::Primary { force: false });
    assert!(denied.unwrap_err().contains("episode 1"));
    // It is known after a restart too.
    pair.reboot(0);
    assert_eq!(pair.nodes[0].disk(), DiskState::Outdated);
    assert_eq!(pair.nodes[0].status().fencing.record.mark, Some(1));
}

impl Pair {
    fn role_of(&self, n: usize) -> Role {
        self.nodes[n].role()
    }
}

#[test]
fn a_standby_becomes_primary_by_a_fence_and_the_old_primary_may_not_return_as_one() {
    let mut pair = pair();
    let id = pair.write(0, 0, 4096, 7);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.reboot(0);
    pair.nodes[0].asks.clear();
    // The old Primary is off: nobody answers for it.
    pair.management.peers = false;
    let promotion = pair.start(1, Command::Primary { force: false });
    pair.wait(3_000_000);
    assert_eq!(
        pair.nodes[1].done.get(&promotion).map(Result::is_ok),
        Some(true)
    );
    assert!(pair.nodes[1].serving);
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
    assert_eq!(pair.holder(), Some(("b".into(), 1)));
    assert_eq!(pair.read(1, 0, 4096), [7; 4096]);
    let id = pair.write(1, 0, 4096, 8);
    pair.run();
    assert_eq!(pair.reply(1, id), Some(Ok(())));
    let denied = pair.start(0, Command::Primary { force: false });
    pair.wait(6_000_000);
    let why = pair.nodes[0].done[&denied].clone().unwrap_err();
    assert!(why.contains("fences this node by episode 1"), "{why}");
    pair.management.peers = true;
    pair.heal();
    pair.wait(8_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.holder(), None);
    assert_eq!(pair.nodes[0].status().fencing.record.mark, None);
    // And roles can be changed again.
    pair.ok(1, Command::Secondary { force: true });
    pair.ok(0, Command::Primary { force: false });
}

#[test]
fn a_secondary_that_is_asked_is_outdated_durably_before_it_says_so() {
    let mut pair = pair();
    pair.cut();
    pair.run();
    pair.management.peers = false;
    pair.nodes[1].meta_held = true;
    let (from, token) = (Party::Peer, 7);
    let request = Request::Outdate {
        vouched: 0,
        episode: 9,
        primary: true,
    };
    pair.handle(
        1,
        Event::Asked {
            from,
            token,
            request,
        },
    );
    assert!(pair.nodes[1].answers.is_empty(), "it is not stored yet");
    while pair.nodes[1].answers.is_empty() {
        assert!(pair.complete_meta(1), "nothing is being stored");
    }
    let (_, _, answer) = pair.nodes[1].answers.pop_front().unwrap();
    assert_eq!(answer, Answer::Granted { episode: 9 });
    // The power is cut before the second copy is written.
    pair.nodes[1].meta_ops.clear();
    pair.reboot(1);
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    assert_eq!(pair.nodes[1].status().fencing.record.mark, Some(9));
}

#[test]
fn a_primary_refuses_to_be_outdated_and_who_asked_outdates_itself() {
    let mut pair = pair();
    pair.management.arbiter = None;
    // b alone finds the connection lost.
    pair.black_hole = true;
    pair.network = false;
    pair.up = false;
    pair.handle(1, Event::LinkDown(LinkDownReason::Closed));
    let denied = pair.start(1, Command::Primary { force: false });
    pair.wait(1_000_000);
    let why = pair.nodes[1].done[&denied].clone().unwrap_err();
    assert!(why.contains("Primary"), "{why}");
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    assert_eq!(pair.role_of(0), Role::Primary);
}

#[test]
fn resume_io_lets_frozen_clients_go_on_in_a_new_generation() {
    let mut pair = pair();
    deaf(&mut pair);
    let before = pair.uuid(0);
    pair.cut();
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), None);
    pair.ok(0, Command::ResumeIo);
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_ne!(pair.uuid(0), before);
}

#[test]
fn undecided_in_time_a_primary_stays_frozen_or_steps_down_as_configured() {
    for on_timeout in [OnTimeout::KeepFrozen, OnTimeout::StepDown] {
        let policy = Policy::ResourceAndStonith;
        let mut a = fenced("a", "b", policy);
        a.fencing.on_timeout = on_timeout;
        let mut pair = Pair::with(a, fenced("b", "a", policy));
        pair.ok(0, Command::NewCurrentUuid);
        pair.ok(0, Command::Primary { force: false });
        pair.cut();
        let id = pair.write(0, 0, 4096, 1);
        pair.wait(4_000_000);
        assert!(pair.frozen(0));
        pair.wait(2_000_000);
        assert!(pair.nodes[0].status().fencing.overdue);
        match on_timeout {
            OnTimeout::KeepFrozen => {
                assert!(pair.frozen(0) && pair.reply(0, id).is_none());
                assert_eq!(pair.role_of(0), Role::Primary);
            }
            OnTimeout::StepDown => {
                assert!(!pair.frozen(0));
                assert_eq!(pair.reply(0, id), Some(Err(ClientError::NotServing)));
                assert_eq!(pair.role_of(0), Role::Secondary);
                assert_eq!(pair.nodes[0].disk(), DiskState::Consistent);
            }
        }
    }
}

#[test]
fn resource_only_goes_on_while_it_asks_and_stops_when_it_is_refused() {
    let mut pair = pair_by(Policy::ResourceOnly);
    let arbiter = pair.management.arbiter.take();
    pair.management.peers = false;
    pair.cut();
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    let name = Name::try_from("b").unwrap();
    pair.management.arbiter = arbiter;
    let arbiter = pair.management.arbiter.as_mut().unwrap();
    (arbiter.holder, arbiter.last) = (Some((name, 5)), 5);
    pair.wait(3_000_000);
    assert_eq!(pair.role_of(0), Role::Secondary);
    assert_eq!(pair.nodes[0].disk(), DiskState::Outdated);
}

#[test]
fn without_anybody_to_ask_only_force_promotes_a_lone_node() {
    let policy = Policy::ResourceAndStonith;
    let with = |node, peer| {
        let mut config = fenced(node, peer, policy);
        (config.fencing.arbiter, config.fencing.peer_endpoint) = (false, false);
        config
    };
    let mut pair = Pair::with(with("a", "b"), with("b", "a"));
    pair.ok(0, Command::NewCurrentUuid);
    pair.cut();
    pair.run();
    let denied = pair.command(0, Command::Primary { force: false });
    assert!(denied.unwrap_err().contains("neither a management network"));
    pair.ok(0, Command::Primary { force: true });
    assert!(pair.nodes[0].serving);
}

#[test]
fn the_record_of_a_held_fence_survives_and_lets_its_holder_become_primary_again_when_it_is_confirmed()
 {
    let mut pair = pair();
    pair.cut();
    pair.wait(1_000_000);
    assert!(matches!(pair.own(0), Own::Held(1, by) if by.peer && by.arbiter));
    pair.reboot(0);
    let arbiter = pair.management.arbiter.take();
    deaf(&mut pair);
    assert!(matches!(pair.own(0), Own::Held(1, by) if by.peer && by.arbiter));
    assert_eq!(pair.nodes[0].disk(), DiskState::Consistent);
    let denied = pair.start(0, Command::Primary { force: false });
    pair.wait(6_000_000);
    let why = pair.nodes[0].done[&denied].clone().unwrap_err();
    assert!(why.contains("held the fence of episode 1"), "{why}");
    assert_eq!(pair.nodes[0].disk(), DiskState::Consistent);
    pair.management.arbiter = arbiter;
    pair.ok(0, Command::Primary { force: false });
    assert!(pair.nodes[0].serving);
    assert!(!pair.frozen(0));
}

#[test]
fn both_nodes_agree_on_an_identity_and_keep_it() {
    let mut pair = pair();
    let identity = pair.nodes[0].engine.resource_identity();
    assert!(identity.is_some());
    assert_eq!(identity, pair.nodes[1].engine.resource_identity());
    for n in [0, 1] {
        pair.reboot(n);
        assert_eq!(identity, pair.nodes[n].engine.resource_identity());
    }
    pair.heal();
    assert_eq!(identity, pair.nodes[1].engine.resource_identity());
    let blank = Pair::ready();
    assert_eq!(blank.nodes[0].engine.resource_identity(), None);
}

#[test]
fn nodes_with_other_fencing_policies_refuse_each_other() {
    let pair = Pair::with(
        fenced("a", "b", Policy::ResourceOnly),
        fenced("b", "a", Policy::ResourceAndStonith),
    );
    let status = pair.nodes[0].status();
    assert_ne!(status.connection, ConnectionState::Connected);
    assert!(
        status.reason.contains("fencing policy"),
        "{}",
        status.reason
    );
}

#[test]
fn a_fence_is_ended_by_hand_only_by_its_number() {
    let mut pair = pair();
    pair.cut();
    pair.wait(1_000_000);
    assert!(pair.command(0, Command::Unfence { episode: 2 }).is_err());
    assert_eq!(pair.nodes[1].status().fencing.record.mark, Some(1));
    pair.ok(1, Command::Unfence { episode: 1 });
    assert_eq!(pair.nodes[1].status().fencing.record.mark, None);
}

#[test]
fn while_its_fence_is_not_given_back_a_node_does_not_consent_to_its_peers_promotion() {
    let mut pair = pair();
    pair.cut();
    pair.wait(1_000_000);
    deaf(&mut pair);
    pair.heal();
    pair.ok(0, Command::Secondary { force: true });
    pair.wait(1_000_000);
    assert!(matches!(pair.own(0), Own::Releasing(1)));
    assert!(pair.command(1, Command::Primary { force: false }).is_err());
    pair.management.peers = true;
    pair.wait(5_000_000);
    pair.ok(1, Command::Primary { force: false });
}

#[test]
fn a_refusal_says_who_holds_the_fence() {
    let mut pair = pair();
    let name = Name::try_from("b").unwrap();
    let arbiter = pair.management.arbiter.as_mut().unwrap();
    (arbiter.holder, arbiter.last) = (Some((name, 4)), 4);
    pair.management.peers = false;
    pair.cut();
    pair.wait(2_000_000);
    assert!(pair.nodes[0].logged("the arbiter refuses episode"));
    assert!(pair.nodes[0].logged("node b holds a fence, by episode 4"));
}
