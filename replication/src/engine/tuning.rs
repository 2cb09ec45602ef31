//! What an operator may change while the engine runs.

use super::{Engine, text};
use crate::api::{
    ConnectionState, FencingConfig, Micros, Mirroring, OnCongestion, ResyncConfig, Text, Timers,
    Trouble,
};
use crate::lineage::Policies;

/// Times, limits and policies that may become different. What both nodes must agree on, or what was built at the start, is not
/// among them.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// See [`crate::api::EngineConfig::timers`].
    pub timers: Timers,
    /// See [`crate::api::EngineConfig::policies`].
    pub policies: Policies,
    /// See [`crate::api::EngineConfig::trouble`].
    pub trouble: Trouble,
    /// See [`crate::api::EngineConfig::resync`].
    pub resync: ResyncConfig,
    /// See [`Mirroring::on_congestion`].
    pub on_congestion: OnCongestion,
    /// See [`Mirroring::congestion_fill`].
    pub congestion_fill: u64,
    /// See [`Mirroring::congestion_extents`].
    pub congestion_extents: Option<u32>,
    /// See [`FencingConfig::timeout`].
    pub fence_timeout: Micros,
    /// See [`FencingConfig::auto_promote`].
    pub auto_promote: bool,
    /// See [`FencingConfig::promote_at_loss`].
    pub promote_at_loss: bool,
}

impl Engine {
    /// Takes other times, limits and policies; they count from the next [`crate::api::Event::Tick`] on. Deadlines that were set stay.
    ///
    /// # Errors
    /// Nothing is changed then: the nodes are in the midst of a handshake, which goes by what they have told each other; or times would
    /// change under a command that is being carried out.
    pub fn tune(&mut self, tuning: &Tuning) -> Result<(), Text> {
        if self.link.state == ConnectionState::Handshake {
            return Err(text!(
                "the nodes are in the midst of a handshake: try again"
            ));
        }
        if self.task.is_some() && tuning.timers != self.config.timers {
            return Err(text!(
                "a command or a promotion is being carried out: try again"
            ));
        }
        let config = &mut self.config;
        config.timers = tuning.timers;
        config.policies = tuning.policies;
        config.resync = tuning.resync;
        config.mirroring = Mirroring {
            on_congestion: tuning.on_congestion,
            congestion_fill: tuning.congestion_fill,
            congestion_extents: tuning.congestion_extents,
            ..config.mirroring
        };
        config.fencing = FencingConfig {
            timeout: tuning.fence_timeout,
            auto_promote: tuning.auto_promote,
            promote_at_loss: tuning.promote_at_loss,
            ..config.fencing
        };
        config.trouble = tuning.trouble;
        self.auto.tuned(&self.config.fencing);
        self.controller.set_limits(tuning.resync.limits);
        self.order.set_limit(tuning.resync.max_parallel);
        self.settle_order();
        self.time_disks();
        Ok(())
    }
}
