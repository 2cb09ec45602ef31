//! What a connection would lead to, without making one (DRBD's `connect --tentative`), and what the last handshake
//! came to.
//!
//! The node whose operator asks says so in its greeting. Both nodes then decide as ever, but carry nothing out: each
//! keeps what it found, tells the other that it has ([`Refusal::DryRun`]), and they part. The asker stands alone
//! afterwards, or what it was asked about might happen a second later; the other one goes on looking for its peer.
//! Nothing that a disk must know changes on the way.

use super::link::Next;
use super::{Engine, text};
use crate::api::{CommandId, ConnectionState, Level, Micros, Role, Text};
use crate::lineage::Explanation;
use crate::wire::{Frame, Refusal};
use alloc::vec::Vec;

/// The peer may have to be told first that it is to look for this node: an operator needs time for that.
const PATIENCE: Micros = 5;

/// A dry run under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct DryRun {
    id: CommandId,
    deadline: Micros,
    /// This node's changes would be given up.
    pub discard: bool,
    /// The node looks for its peer anyway.
    looks: bool,
}

/// What was decided about the volumes, and when.
#[derive(Debug, Default)]
pub(super) struct Explained {
    at: Micros,
    volumes: Vec<Explanation>,
}

impl Explained {
    /// Nothing yet, with room for so many volumes.
    pub fn new(volumes: usize) -> Self {
        Self {
            at: 0,
            volumes: Vec::with_capacity(volumes),
        }
    }
}

impl Engine {
    /// What the last handshake decided about each volume, and the microseconds since; none before the first one.
    pub fn explanations(&self, now: Micros) -> (Micros, &[Explanation]) {
        let explained = &self.explained;
        (now.saturating_sub(explained.at), &explained.volumes)
    }

    /// What the last dry run, of either node, found; none if a handshake came since.
    pub fn forecasts(&self, now: Micros) -> (Micros, &[Explanation]) {
        let forecast = &self.forecast;
        (now.saturating_sub(forecast.at), &forecast.volumes)
    }

    /// The place for what a handshake, or a dry run, comes to: taken out to be filled, and put back.
    pub(super) fn take_explained(&mut self, tentative: bool) -> Vec<Explanation> {
        self.forecast.volumes.clear();
        let place = if tentative {
            &mut self.forecast
        } else {
            &mut self.explained
        };
        place.volumes.clear();
        place.at = self.now;
        core::mem::take(&mut place.volumes)
    }

    /// What the last handshake decided about the volume at `at`.
    pub(super) fn explained_of(&self, at: usize) -> Option<Explanation> {
        self.explained.volumes.get(at).copied()
    }

    pub(super) fn put_explained(&mut self, tentative: bool, volumes: Vec<Explanation>) {
        if tentative {
            self.forecast.volumes = volumes;
        } else {
            self.explained.volumes = volumes;
        }
    }

    /// `connect --dry-run`.
    pub(super) fn dry_run(&mut self, id: CommandId, discard: bool) {
        if let Err(reason) = self.begin_dry_run(id, discard) {
            self.done(id, Err(text!("{reason}")));
        }
    }

    fn begin_dry_run(&mut self, id: CommandId, discard: bool) -> Result<(), &'static str> {
        if discard && self.role == Role::Primary {
            return Err(
                "this node is Primary: run 'secondary' first if its changes are to be given up",
            );
        }
        if self.link.dry_run.is_some() {
            return Err("a dry run is under way");
        }
        let state = self.link.state;
        match state {
            ConnectionState::Connected => {
                return Err(
                    "connected already: 'explain' shows what was decided; after a 'disconnect' a dry run shows what would be",
                );
            }
            ConnectionState::Handshake if self.link.hello_sent => {
                return Err("a connection is being made at this moment: see 'status'");
            }
            _ => {}
        }
        self.link.dry_run = Some(DryRun {
            id,
            deadline: self.now + PATIENCE * self.config.timers.timeout,
            discard,
            looks: state != ConnectionState::StandAlone,
        });
        if self.link.closing {
            if state == ConnectionState::StandAlone {
                self.link.state = ConnectionState::Unconnected;
            }
            self.link.next = Next::Reopen;
        } else if matches!(
            state,
            ConnectionState::StandAlone | ConnectionState::Unconnected
        ) {
            self.open_link();
        }
        Ok(())
    }

    /// Whether the connection that is being made is to be a dry run: of this node, or of the peer.
    pub(super) fn tentative(&self, peer_asks: bool) -> bool {
        self.link.told_dry || peer_asks
    }

    /// Both sides know what they would do: they say it and part.
    pub(super) fn foretold(&mut self, peer_asks: bool) {
        let asker = if self.link.told_dry && peer_asks {
            "of both nodes"
        } else if peer_asks {
            "of the peer"
        } else {
            "of this node"
        };
        for at in 0..self.forecast.volumes.len() {
            let line = text!("dry run {asker}: {}", self.forecast.volumes[at].summary());
            self.log(Level::Info, line);
        }
        self.send(Frame::Refuse {
            reason: Refusal::DryRun,
            volume: 0,
        });
        self.part();
        if self.link.told_dry {
            self.link.next = Next::StandAlone;
            if self.link.reason.is_empty() {
                self.link.reason = text!("after a dry run: 'connect' connects the nodes");
            }
            if let Some(dry) = self.link.dry_run.take() {
                let said = text!("nothing was changed; 'connect' would do this, and connects");
                self.done(dry.id, Ok(said));
            }
        } else {
            self.link.next = Next::Retry;
        }
    }

    /// The dry run comes to nothing: nobody was met, or nothing could be decided. What the connection does then, if not
    /// what it would do anyway.
    #[must_use]
    pub(super) fn fail_dry_run(&mut self, reason: Text) -> Option<Next> {
        let dry = self.link.dry_run.take()?;
        self.done(dry.id, Err(reason));
        (!dry.looks).then_some(Next::StandAlone)
    }

    /// Whether this node's dry run has found what it was for, and the connection is only to be ended.
    pub(super) fn dry_run_over(&self) -> bool {
        self.link.told_dry && self.link.dry_run.is_none() && self.link.refused_until.is_some()
    }

    /// Another command about the connection overtakes the dry run. What becomes of the connection is its affair.
    pub(super) fn overtake_dry_run(&mut self) {
        if let Some(dry) = self.link.dry_run.take() {
            self.done(dry.id, Err(text!("another command overtook the dry run")));
        }
    }

    pub(super) fn dry_run_deadline(&self) -> Option<Micros> {
        self.link.dry_run.map(|dry| dry.deadline)
    }

    pub(super) fn tick_dry_run(&mut self) {
        if self.dry_run_deadline().is_none_or(|at| at > self.now) {
            return;
        }
        let peer = &self.config.peer;
        let reason = text!(
            "peer {peer} was not met: does it run, and look for this node? If it is StandAlone, run 'connect' there first, or a dry run at the same time"
        );
        let told = self.link.in_handshake() && self.link.told_dry;
        match self.fail_dry_run(reason) {
            Some(next) if self.link.up => self.close_link(next),
            Some(_) => self.stand_alone(),
            // The peer has been told otherwise.
            None if told => self.reopen_link(),
            None => {}
        }
    }
}
