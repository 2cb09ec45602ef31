//! The fence worker of a node: one state machine that runs fence and unfence strictly in turn, and answers the
//! peer's requests. No I/O and no clock: [`Fencer::handle`], then [`Fencer::poll_action`] until `None`.
//!
//! ```text
//!                 need               a grant            in sync
//!        None ───────────► Requested ───────► Held ─────────────► Releasing ──► None
//!         ▲                 │      ▲                               │    everybody told
//!         └──── Releasing ◄─┘      └───────────────────────────────┘
//!                  not needed any more              need (a new number)
//! ```
//!
//! What is in the record is durable before anything is said or done because of it: every step first decides what
//! the record should be, then has it stored, and acts only when what is stored is what should be. So a crash at
//! any point leaves a record from which the node goes on:
//!
//! - *Requested*: the fence may have been granted, but nothing was done under it. It can be given up.
//! - *Held*: the node may have gone on alone. Only when every volume is UpToDate on both sides is it given back. After a
//!   restart it must be confirmed before the node goes on alone again ([`confirmation`]).
//! - *Releasing*: the peer is as good as this node was when that was stored. A loss after that takes a new number.
//!
//! Numbers make late messages harmless. Each is higher than all that its node has seen, and whoever granted one or was
//! told of its end grants none up to it any more; one that is given up is given back like one that was held, so that
//! a late copy of the request finds its number used. No answer needs to be believed for more than what it says of
//! its own episode; a late UNFENCE(n) cannot undo FENCE(n+1).

mod answers;
pub mod api;
mod confirmation;
mod endpoint;
#[cfg(test)]
mod tests;

use crate::{Answer, Party, Request};
use crate::{EPISODE_MAX, Episode, Grantors, Own, Policy, Record};
use api::{Action, Config, Denied, Disk, Input, Notice, OnTimeout, Thaw, Timer, View};
use confirmation::Confirmation;
use heapless::Vec;

/// Actions of one step at most: those of a view (freeze, deny, thaw), of its decision, of one save and of all that waited for it.
const ACTIONS_MAX: usize = 24;

/// How far one party has been asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Progress {
    /// It is to be asked.
    wanted: bool,
    /// Now.
    due: bool,
    /// Tries so far, for the back-off.
    tries: u8,
}

impl Progress {
    const fn new(wanted: bool) -> Self {
        Self {
            wanted,
            due: wanted,
            tries: 0,
        }
    }
}

/// The fence worker; see the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fencer {
    config: Config,
    /// What must be known after a power cut, as it should be.
    record: Record,
    /// As it is stored.
    stored: Record,
    /// As it is being stored.
    saving: Option<Record>,
    view: View,
    /// Clients are frozen.
    frozen: bool,
    /// The bound has passed.
    overdue: bool,
    /// A promotion waits for a fence.
    promoting: bool,
    /// The operator's word for a promotion waits to be stored.
    forced: bool,
    /// The node is Primary by the operator's word, and the peer has not been back since.
    by_force: bool,
    /// The peer, which this node fences, says that it is Primary all the same: by an operator's word.
    rival: bool,
    /// Whether a held episode may be gone on with.
    confirmation: Confirmation,
    /// Since it started this node has had no episode of its own: what the arbiter says of one is of a disk that is gone.
    unused: bool,
    /// The connection after whose loss the episode was asked for; none: in an earlier life.
    asked_after: Option<u64>,
    peer: Progress,
    arbiter: Progress,
    /// The question how things stand at the arbiter.
    query: Progress,
    /// An answer that waits until what it says is stored.
    reply: Option<(Party, u32, Answer)>,
    /// The engine was told that the peer is fenced.
    told: bool,
    /// To be done when the mark is stored, even if it was lifted meanwhile: the disks were outdated with it.
    outdating: Option<Episode>,
    /// To be said when the end of this episode is stored.
    ending: Option<Episode>,
    out: Vec<Action, ACTIONS_MAX>,
}

/// What people see of fencing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The durable record as it should be.
    pub record: Record,
    /// It is not stored yet.
    pub saving: bool,
    /// Clients wait for the fence.
    pub frozen: bool,
    /// Longer than the bound.
    pub overdue: bool,
    /// A promotion waits for the fence.
    pub promoting: bool,
    /// The peer's answer is awaited.
    pub awaits_peer: bool,
    /// The arbiter's answer is awaited.
    pub awaits_arbiter: bool,
}

impl Fencer {
    /// A worker with what the disk says; a Secondary that is not connected.
    #[must_use]
    pub fn new(config: Config, record: Record, connection: u64) -> Self {
        let releasing = matches!(record.own, Own::Releasing(_));
        Self {
            peer: Progress::new(releasing && config.peer_endpoint),
            arbiter: Progress::new(releasing && config.arbiter),
            config,
            record,
            stored: record,
            saving: None,
            view: View {
                primary: false,
                connected: false,
                connection,
                peer_may_be_current: true,
                in_sync: false,
                lone: false,
                elsewhere: false,
                agreed: 0,
                disk: Disk::Unusable,
            },
            frozen: false,
            overdue: false,
            promoting: false,
            forced: false,
            by_force: false,
            rival: false,
            confirmation: Confirmation::of_stored(&record),
            unused: true,
            asked_after: None,
            query: Progress::default(),
            reply: None,
            told: false,
            outdating: None,
            ending: None,
            out: Vec::new(),
        }
    }

    /// What people see.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            record: self.record,
            saving: self.record != self.stored,
            frozen: self.frozen,
            overdue: self.overdue,
            promoting: self.promoting,
            awaits_peer: self.peer.wanted,
            awaits_arbiter: self.arbiter.wanted || self.query.wanted,
        }
    }

    /// The record that is durable.
    #[must_use]
    pub const fn stored(&self) -> &Record {
        &self.stored
    }

    /// Whether clients are frozen.
    #[must_use]
    pub const fn frozen(&self) -> bool {
        self.frozen
    }

    /// Whether the connected peer may become Primary as far as this node's own fence is concerned.
    ///
    /// # Errors
    ///
    /// The episode must be given back first: if the peer were lost as Primary, the arbiter would take this node for
    /// the holder and refuse it. It is enough that one of the two knows: the peer shows the arbiter what it was told.
    pub fn consent(&self) -> Result<(), Denied> {
        match self.stored.own {
            Own::None => Ok(()),
            Own::Releasing(_) if self.stored == self.record && self.somebody_knows() => Ok(()),
            own => Err(Denied::NotReleased(own.episode().unwrap_or(0))),
        }
    }

    /// Whether the arbiter has yet to learn what this node gave back, or up to which number it alone is vouched for.
    #[must_use]
    pub const fn is_untold(&self) -> bool {
        matches!(self.record.own, Own::Releasing(_)) && self.arbiter.wanted
    }

    /// Of those who are to be told of a release, somebody was, or there is nobody.
    const fn somebody_knows(&self) -> bool {
        let asked = self.config.peer_endpoint as u8 + self.config.arbiter as u8;
        let open = self.peer.wanted as u8 + self.arbiter.wanted as u8;
        open < asked || asked == 0
    }

    /// Whether this node may become Primary beside a connected peer that consents.
    ///
    /// # Errors
    ///
    /// It is fenced, and the fence is not given back yet.
    pub fn may_promote_connected(&self) -> Result<(), Denied> {
        match self.record.mark {
            Some(episode) => Err(Denied::Fenced(episode)),
            None => Ok(()),
        }
    }

    /// The next thing to be done.
    pub fn poll_action(&mut self) -> Option<Action> {
        (!self.out.is_empty()).then(|| self.out.remove(0))
    }

    /// One step.
    ///
    /// # Panics
    ///
    /// If actions of earlier steps were not polled.
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::View(view) => self.look(view),
            Input::Persisted => {
                if let Some(record) = self.saving.take() {
                    self.stored = record;
                }
            }
            Input::Timer(timer) => self.timer(timer),
            Input::Promote { force } => self.promote(force),
            Input::PromoteCancelled => self.cancel(),
            Input::Request {
                from,
                token,
                request,
            } => self.request_from(from, token, request),
            Input::Answer { from, answer } => self.answer_from(from, answer),
            Input::ResumeIo => self.thaw(Thaw::Operator),
            Input::ReleaseByHand(episode) => self.by_hand(episode),
            Input::StandIn { here } => self.stand_in(here),
            Input::Reconcile => self.query = Progress::new(self.config.arbiter),
            Input::Identity(identity) => self.record.identity = identity,
            Input::Found(record) => self.found(record),
        }
        self.decide();
        self.unused &= self.record.own == Own::None;
        self.save();
        if self.saving.is_none() {
            self.act();
        }
    }

    fn push(&mut self, action: Action) {
        let pushed = self.out.push(action);
        assert!(
            pushed.is_ok(),
            "the fencer's actions are polled after every step"
        );
    }

    fn notice(&mut self, notice: Notice) {
        self.push(Action::Notice(notice));
    }

    fn thaw(&mut self, why: Thaw) {
        if core::mem::take(&mut self.frozen) {
            self.push(Action::Thaw(why));
        }
    }

    /// Ends a promotion that waits.
    fn deny(&mut self, why: Denied) {
        if core::mem::take(&mut self.promoting) {
            self.query.wanted = false;
            self.stop_confirming();
            self.push(Action::Promotion(Err(why)));
        }
    }

    /// Takes note that a number was used.
    pub(crate) fn saw(&mut self, episode: Episode) {
        self.record.seen = self.record.seen.max(episode);
    }

    const fn holds(&self) -> bool {
        matches!(self.record.own, Own::Held(..))
    }

    const fn anybody_to_ask(&self) -> bool {
        self.config.peer_endpoint || self.config.arbiter
    }

    /// Whether the peer must be fenced now.
    fn needed(&self) -> bool {
        let view = &self.view;
        let alone = if view.connected {
            view.primary && view.lone
        } else {
            view.primary && view.peer_may_be_current && !view.elsewhere
        };
        self.record.mark.is_none()
            && (alone && self.config.policy != Policy::DontCare
                || self.promoting && !view.connected)
            && self.anybody_to_ask()
    }

    fn look(&mut self, new: View) {
        let old = core::mem::replace(&mut self.view, new);
        if new.connected {
            self.told = false;
            self.rival = false;
            self.deny(Denied::PeerIsBack);
        }
        self.by_force &= new.primary && !new.connected;
        if new.in_sync {
            self.saw(new.agreed);
            self.record.vouched = self.record.vouched.max(new.agreed);
        }
        self.look_for_confirmation();
        let lost = old.connected && !new.connected && new.peer_may_be_current;
        // Its peer's disk is gone, and what was on it may come back.
        let lone = new.lone && !(old.lone && old.primary);
        // Of a volume whose good copy was out of reach there is one here again.
        let back = old.elsewhere && !new.elsewhere && !new.connected && new.peer_may_be_current;
        // With a copy that only the peer has the peer is not fenced, so it may go on: nothing is answered, by any policy.
        let policy = match self.config.policy {
            Policy::DontCare => false,
            Policy::ResourceOnly => new.elsewhere && !new.connected,
            Policy::ResourceAndStonith => true,
        };
        let freezes = policy && new.primary;
        if (lost || lone || back) && freezes && !self.holds() && !self.frozen {
            self.frozen = true;
            self.overdue = false;
            self.push(Action::Freeze);
            self.push(Action::SetTimer(Timer::Bound, 0));
        }
        if !new.primary {
            self.thaw(Thaw::Demoted);
        } else if new.connected && !new.lone {
            self.thaw(Thaw::Reconnected);
        }
    }

    fn promote(&mut self, force: bool) {
        if self.promoting || self.forced {
            return;
        }
        self.promoting = true;
        if self.view.disk == Disk::Unusable {
            self.deny(Denied::Disk(Disk::Unusable));
        } else if force {
            // The operator vouches that the peer will not be Primary.
            self.promoting = false;
            self.forced = true;
            self.record.mark = None;
        } else if let Some(episode) = self.record.mark {
            if self.config.arbiter && !self.view.connected {
                self.query = Progress::new(true);
                self.push(Action::SetTimer(Timer::Bound, 0));
            } else {
                self.deny(Denied::Fenced(episode));
            }
        } else if self.view.connected {
            self.promoting = false;
            self.push(Action::Promotion(Ok(())));
        } else if self.config.policy == Policy::DontCare {
            self.deny(Denied::PeerUnreachable);
        } else if self.rival && self.holds() {
            self.deny(Denied::PeerIsPrimary);
        } else if !self.anybody_to_ask() && !self.holds() {
            self.deny(Denied::NobodyToAsk);
        }
    }

    /// Whoever wanted this node Primary was told that it is not. A word that could not be stored in time must not take effect
    /// later, when the operator may have forced the other node.
    fn cancel(&mut self) {
        if core::mem::take(&mut self.forced) && self.record.mark.is_none() {
            let released = self.record.released;
            self.record.mark = self.stored.mark.filter(|mark| *mark > released);
        }
        self.deny(Denied::Cancelled);
    }

    /// The Primary's disk is lost. It may be there again when its node has restarted, and cannot know that it is old. So a number
    /// is used up, up to which only the disk that stands in is vouched for; the arbiter learns it as at the end of a fence. The
    /// Primary, which has no disk to store it on, takes note of it to be able to vouch for what its clients were answered.
    fn stand_in(&mut self, here: bool) {
        let episode = self.record.seen.max(self.view.agreed) + 1;
        if !self.anybody_to_ask() || episode >= EPISODE_MAX {
            return;
        }
        self.saw(episode);
        if !here {
            self.confirmation = Confirmation::Missing;
            return;
        }
        self.record.vouched = episode;
        // Who is a holder is one at the arbiter, which denies the other node anyway.
        if !self.holds() {
            let untold = matches!(self.record.own, Own::Releasing(_)) && self.peer.wanted;
            self.release(episode);
            self.peer.wanted &= untold;
        }
    }

    /// Whether this Primary only waits for its peer, which has the only good copy of a volume: it may go on in this one's
    /// place, since nothing was answered without it.
    const fn gives_way(&self) -> bool {
        self.view.primary && self.view.elsewhere && self.frozen && !self.view.connected
    }

    /// What another copy of the record knows more. All that is in it was stored once.
    fn found(&mut self, other: Record) {
        if self.record == Record::default() && self.saving.is_none() {
            // That of a node that has just started: it says what is stored.
            self.stored = other;
        }
        let record = &mut self.record;
        record.seen = record.seen.max(other.seen);
        record.released = record.released.max(other.released);
        record.vouched = record.vouched.max(other.vouched);
        if record.identity == 0 {
            record.identity = other.identity;
        }
        if record.own == Own::None {
            record.own = other.own;
            self.confirmation = Confirmation::of_stored(&other);
            if let Own::Releasing(episode) = other.own {
                self.release(episode);
            }
        }
        let mark = other.mark.filter(|mark| *mark > self.record.released);
        if mark > self.record.mark && !self.view.primary {
            self.record.mark = mark;
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Retry(Party::Peer) => self.peer.due = self.peer.wanted,
            Timer::Retry(Party::Arbiter) => {
                self.arbiter.due = self.arbiter.wanted;
                self.query.due = self.query.wanted;
            }
            Timer::PeerWait => {
                self.turn_to_arbiter();
                self.peer_is_silent();
            }
            Timer::Bound => {
                self.deny(self.undecided());
                if self.frozen && !self.overdue {
                    self.overdue = true;
                    let episode = self.record.own.episode().unwrap_or(0);
                    self.notice(Notice::Overdue(episode));
                    if self.config.on_timeout == OnTimeout::StepDown {
                        self.push(Action::StepDown);
                    }
                }
            }
        }
    }

    /// The peer does not decide it: the arbiter is asked.
    fn turn_to_arbiter(&mut self) {
        let asked = self.arbiter.wanted || !self.config.arbiter;
        let requested = matches!(self.record.own, Own::Requested(_)) && self.needed();
        if (requested || self.confirmation == Confirmation::Asked) && !asked {
            self.arbiter = Progress::new(true);
        }
    }

    fn by_hand(&mut self, episode: Episode) {
        if self.record.mark == Some(episode) {
            self.record.mark = None;
            self.record.released = self.record.released.max(episode);
            self.notice(Notice::ByHand(episode));
        }
        if let Own::Requested(own) | Own::Held(own, _) = self.record.own
            && own == episode
        {
            self.notice(Notice::ByHand(episode));
            self.release(episode);
        }
    }

    /// What the record should be.
    fn decide(&mut self) {
        if self.promoting && self.record.mark.is_none() && self.view.disk < Disk::Consistent {
            self.deny(Denied::Disk(self.view.disk));
        }
        self.confirm();
        if self.view.in_sync
            && self.record.mark.is_some()
            && self.anybody_to_ask()
            && !self.query.wanted
        {
            // The peer may have given it back already, and told the arbiter alone, or nobody: all volumes are in sync.
            self.query = Progress::new(true);
        }
        if self.gives_way() && self.config.arbiter && !self.query.wanted {
            // Nobody else tells it that the peer goes on.
            self.query = Progress::new(true);
        }
        let need = self.needed();
        match self.record.own {
            Own::None | Own::Releasing(_) if need => self.request(),
            // One that was asked for before the last connection: an answer to it counts no more.
            Own::Requested(_) if need && self.asked_after != Some(self.view.connection) => {
                self.request();
            }
            Own::Requested(episode) if !need && (!self.view.connected || self.view.in_sync) => {
                self.notice(Notice::Withdrawn(episode));
                self.release(episode);
            }
            Own::Held(episode, _) if self.view.in_sync => {
                self.notice(Notice::Releasing(episode));
                self.release(episode);
            }
            Own::Releasing(episode) if !self.peer.wanted && !self.arbiter.wanted => {
                self.record.own = Own::None;
                self.ending = Some(episode);
            }
            Own::None | Own::Requested(_) | Own::Held(..) | Own::Releasing(_) => {}
        }
    }

    /// Asks under a number that nobody has used.
    fn request(&mut self) {
        if self.record.seen >= EPISODE_MAX {
            return;
        }
        let episode = self.record.seen + 1;
        if !matches!(self.record.own, Own::Requested(_)) {
            self.overdue = false;
            self.push(Action::SetTimer(Timer::Bound, 0));
        }
        self.record.seen = episode;
        self.record.own = Own::Requested(episode);
        self.asked_after = Some(self.view.connection);
        self.told = false;
        self.peer = Progress::new(self.config.peer_endpoint);
        // Who only wants to become Primary asks the peer first: it may be Primary, and then the arbiter must not be
        // bothered at all, for its grant would stop that one.
        let at_once = self.view.primary || !self.config.peer_endpoint;
        self.arbiter = Progress::new(self.config.arbiter && at_once);
        if self.config.arbiter && !at_once {
            self.push(Action::SetTimer(Timer::PeerWait, 0));
        }
        self.notice(Notice::Requested(episode));
        if self.view.connected && !self.config.arbiter {
            // The peer has no disk to remember it by, and without it nobody but this node can grant it a fence. It is asked
            // when it is lost.
            let by = Grantors {
                peer: true,
                arbiter: false,
            };
            self.record.own = Own::Held(episode, by);
            self.notice(Notice::Granted(episode, Party::Peer));
        }
    }

    fn release(&mut self, episode: Episode) {
        self.record.own = Own::Releasing(episode);
        self.told = false;
        self.peer = Progress::new(self.config.peer_endpoint);
        self.arbiter = Progress::new(self.config.arbiter);
    }

    fn save(&mut self) {
        if self.saving.is_none() && self.record != self.stored {
            self.saving = Some(self.record);
            self.push(Action::Persist(self.record));
        }
    }

    /// Does what follows from the record. It is stored.
    fn act(&mut self) {
        if let Some((party, token, answer)) = self.reply.take() {
            self.push(Action::Reply(party, token, answer));
        }
        if let Some(episode) = self.outdating.take() {
            self.push(Action::OutdateSelf(Some(episode)));
        }
        if let Some(episode) = self.ending.take() {
            self.notice(Notice::Unfenced(episode));
        }
        if core::mem::take(&mut self.forced) {
            self.view.primary = true;
            self.by_force = !self.view.connected;
            self.push(Action::Promotion(Ok(())));
        }
        match self.record.own {
            Own::None => {}
            Own::Requested(_) if !self.needed() => {}
            Own::Requested(episode) => self.ask(episode),
            Own::Held(episode, _) => {
                self.go_on(episode);
                self.ask(episode);
            }
            Own::Releasing(episode) => {
                for party in [Party::Peer, Party::Arbiter] {
                    let vouched = self.record.vouched;
                    self.send(party, Request::Unfence { episode, vouched });
                }
            }
        }
        if core::mem::take(&mut self.query.due) {
            if self.config.arbiter {
                self.push(Action::Send(Party::Arbiter, Request::Query));
            }
            if self.config.peer_endpoint && self.view.in_sync {
                self.push(Action::Send(Party::Peer, Request::Query));
            }
            self.push(Action::SetTimer(
                Timer::Retry(Party::Arbiter),
                self.query.tries,
            ));
            self.query.tries = self.config.doublings.min(self.query.tries + 1);
        }
    }

    /// The peer is fenced: the node may go on alone.
    fn go_on(&mut self, episode: Episode) {
        if self.view.connected {
            if self.view.lone {
                self.thaw(Thaw::Fenced);
            }
            return;
        }
        if self.is_doubtful() && !self.view.primary {
            return;
        }
        if !core::mem::replace(&mut self.told, true) {
            self.push(Action::PeerFenced(episode));
        }
        self.thaw(Thaw::Fenced);
        if self.promoting && self.record.mark.is_none() {
            self.promoting = false;
            self.view.primary = true;
            self.push(Action::Promotion(Ok(())));
        }
    }

    /// Asks for the grant, and, once one is there, for the other one too: the arbiter then refuses a peer that has
    /// lost its metadata, and the peer one that has lost its arbiter.
    fn ask(&mut self, episode: Episode) {
        // A Primary has what its clients were answered, whatever came to pass; and who held the episode had everything then.
        let vouched = match self.record.own {
            _ if self.view.primary => self.record.seen,
            Own::Held(own, _) => self.record.vouched.max(own),
            Own::None | Own::Requested(_) | Own::Releasing(_) => self.record.vouched,
        };
        if !self.view.connected && !self.view.elsewhere {
            let outdate = Request::Outdate {
                episode,
                vouched,
                primary: self.view.primary,
            };
            self.send(Party::Peer, outdate);
        }
        let fence = Request::Fence {
            episode,
            released: self.record.released,
            vouched,
            up_to_date: self.view.disk == Disk::UpToDate,
            force: self.by_force,
        };
        self.send(Party::Arbiter, fence);
    }

    fn progress(&mut self, party: Party) -> &mut Progress {
        match party {
            Party::Peer => &mut self.peer,
            Party::Arbiter => &mut self.arbiter,
        }
    }

    fn send(&mut self, party: Party, request: Request) {
        let most = self.config.doublings;
        let progress = self.progress(party);
        if progress.wanted && core::mem::take(&mut progress.due) {
            let tries = progress.tries;
            progress.tries = most.min(tries.saturating_add(1));
            self.push(Action::Send(party, request));
            self.push(Action::SetTimer(Timer::Retry(party), tries));
        }
    }

    /// The grant of one of the two is there.
    fn grant(&mut self, from: Party, by: Grantors, episode: Episode) {
        let by = match from {
            Party::Peer => Grantors { peer: true, ..by },
            Party::Arbiter => Grantors {
                arbiter: true,
                ..by
            },
        };
        self.progress(from).wanted = false;
        if self.confirmation == Confirmation::Asked || !self.holds() {
            self.confirmation = Confirmation::Given;
        }
        if self.record.own != Own::Held(episode, by) {
            self.record.own = Own::Held(episode, by);
            self.notice(Notice::Granted(episode, from));
        }
    }
}
