//! The fence worker ([`fencing::Fencer`]) within the engine.

use super::{Engine, text};
use crate::api::{Answer, CommandId, EngineConfig, Episode, Party, Request};
use fencing::api::{Action, Config, Input};
use fencing::{Fencer, Record, Status};

/// How often the pause between two questions doubles.
const DOUBLINGS: u8 = 3;

/// The fence worker and what the engine keeps for it.
#[derive(Debug)]
pub(super) struct Fence {
    fencer: Fencer,
}

impl Fence {
    pub fn new(config: &EngineConfig) -> Self {
        let fencing = &config.fencing;
        let fencer = Config {
            node: config.node.clone(),
            peer: config.peer.clone(),
            policy: fencing.policy,
            peer_endpoint: fencing.peer_endpoint,
            arbiter: fencing.arbiter,
            on_timeout: fencing.on_timeout,
            doublings: DOUBLINGS,
        };
        Self {
            fencer: Fencer::new(fencer, Record::default(), 0),
        }
    }

    pub fn status(&self) -> Status {
        self.fencer.status()
    }

    /// Whether clients wait until it is decided who may go on.
    pub fn frozen(&self) -> bool {
        self.fencer.frozen()
    }
}

impl Engine {
    /// The number that tells this resource from another one of the same name, once both nodes agree on it.
    #[must_use]
    pub fn resource_identity(&self) -> Option<u64> {
        let identity = self.fence.fencer.stored().identity;
        (identity != 0).then_some(identity)
    }

    /// A question that came out of band.
    pub(super) fn asked(&mut self, from: Party, token: u32, request: Request) {
        self.fence_input(Input::Request {
            from,
            token,
            request,
        });
    }

    /// An answer that came out of band.
    pub(super) fn told_by(&mut self, from: Party, answer: Answer) {
        self.fence_input(Input::Answer { from, answer });
    }

    fn fence_input(&mut self, input: Input) {
        self.fence.fencer.handle(input);
        while let Some(action) = self.fence.fencer.poll_action() {
            match action {
                Action::Send(to, request) => self.queue.ask(to, request),
                Action::Reply(to, token, answer) => self.queue.answer(to, token, answer),
                // Nothing is stored yet, so nothing more comes.
                _ => {}
            }
        }
    }

    /// The operator ends a fence.
    pub(super) fn unfence_by_hand(&mut self, id: CommandId, episode: Episode) {
        self.done(
            id,
            Err(text!("no fence of episode {episode} is known here")),
        );
    }
}
