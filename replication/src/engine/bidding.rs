//! PROMOTE: the arbiter's administrator has this node become Primary ([`fencing::Bidding`], docs/MANAGEMENT.md, "PROMOTE").
//!
//! It is the promotion by command without `--force`, under a command id of its own: it waits in turn with the console's
//! commands, and while it is under way a repetition only asks how it stands.

use super::{Engine, text};
use crate::api::{Command, CommandId, Level, Party, Text};
use crate::buf::Mem;
use fencing::Withheld;

/// Who waits for the promotion instead of an operator at the console.
pub(super) const ADMINISTRATOR: CommandId = CommandId::MAX - 2;

impl Engine {
    /// The arbiter asks with this number, or 0.
    pub(super) fn bidden(&mut self, token: u32, nonce: u64, mem: &mut Mem<'_>) {
        let fresh = self.random().max(1);
        let time = (self.now, self.config.timers.timeout);
        let (answer, begins) = self.bidding.asked(nonce, self.serving, time, fresh);
        self.queue.answer(Party::Arbiter, token, answer);
        if begins {
            self.log(
                Level::Info,
                text!("the arbiter's administrator wants this node Primary"),
            );
            self.command(ADMINISTRATOR, Command::Primary { force: false }, mem);
        }
    }

    /// Whoever asked by PROMOTE is to be told this, in place of the words for the console.
    pub(super) fn withhold(&mut self, id: CommandId, why: Withheld) {
        if id == ADMINISTRATOR {
            self.bidding.ended(Err(why));
        }
    }

    /// What became of it.
    pub(super) fn bidden_done(&mut self, result: Result<Text, Text>) {
        match result {
            Ok(_) => self.bidding.ended(Ok(())),
            Err(why) => {
                // What has a reason of its own was told already.
                self.bidding.ended(Err(Withheld::Busy));
                self.log(
                    Level::Warn,
                    text!("not promoted, as the arbiter's administrator wanted: {why}"),
                );
            }
        }
    }
}
