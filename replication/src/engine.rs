//! The engine (stub; being written).

use crate::api::{Action, EngineConfig, Event, Micros, Role, Status};
use crate::buf::Pool;

/// The replication state machine of one node and resource.
#[derive(Debug)]
pub struct Engine {
    _config: EngineConfig,
}

impl Engine {
    /// Builds an engine with everything it will ever need allocated.
    #[must_use]
    pub fn new(_now: Micros, config: EngineConfig) -> Self {
        Self { _config: config }
    }
    /// Handles one event. `pool` is where payload buffers come from and go back to.
    pub fn handle(&mut self, _now: Micros, _event: Event, _pool: &mut Pool) {}
    /// The next thing to do; drain after every [`Engine::handle`] until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }
    /// When to send [`Event::Tick`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Micros> {
        None
    }
    /// Whether another client request may be submitted now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        false
    }
    /// This node's role.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::Secondary
    }
    /// Whether clients may be served (Primary with a usable disk).
    #[must_use]
    pub fn serving(&self) -> bool {
        false
    }
    /// Everything an operator may ask.
    #[must_use]
    pub fn status(&self, _now: Micros) -> Status {
        unreachable!("stub")
    }
}
