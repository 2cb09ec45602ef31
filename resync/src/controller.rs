//! How fast a resync goes: as fast as the pair can while nobody else needs it, and beside clients as
//! fast as leaves them most of what they had. No parameter is needed.
//!
//! # Alone
//!
//! The runs in flight are limited by a window that is steered by delay (`window.rs`): it grows while a
//! run's round trip stays below 10 ms (or below twice the shortest one known, on a long path) and
//! shrinks when it is above. That fills any path, and keeps the queue that the first
//! request of a client finds to 10 ms.
//!
//! # Beside clients
//!
//! What clients may lose is measured, not guessed. Their requests' durations without a resync are
//! known from the time before it, and from short *quiet* spells in which no run is started. Between these, in
//! *shared* spells, durations are compared with that baseline, class by class, and the rate of the
//! resync is moved so that requests take 1.4 times as long as undisturbed. A client with a fixed
//! number of requests in flight then keeps 1/1.4 = 71 % of its rate. A floor keeps the
//! resync going whatever clients suffer.
//!
//! ```text
//!              first request                  baseline known
//!   ┌───────┐ ──────────────► ┌───────────┐ ──────────────► ┌────────────┐
//!   │ alone │                 │   quiet   │                 │   shared   │
//!   └───────┘ ◄────────────── └───────────┘ ◄────────────── └────────────┘
//!       ▲      30-50 ms without a request      every 400 ms         │
//!       └──────────────────────────────────────────────────────────┘
//! ```
//!
//! # Calls
//!
//! [`Controller::client_started`] and [`Controller::client_finished`] always, also without a resync; while
//! there is one, [`Controller::allowance`] before runs are started and whenever [`Allowance::wake`]
//! comes, [`Controller::started`] and [`Controller::finished`] for each run. One controller serves all
//! volumes of a connection: they share the link, and mostly the disks.

mod baseline;
mod pace;
mod window;

pub use baseline::Class;
pub use window::RUNS_MAX;

use crate::{MAX_RUN, Micros};
use baseline::{Baseline, Samples};
use pace::Pace;
use window::Window;

/// Clients count as gone so long after their last request: three times the round trip aimed at, which is
/// what the next one may find queued, so that one which asks again and again after pauses still
/// keeps three quarters of its rate. But not longer than that, in microseconds.
const LINGER: u64 = 3;
const LINGER_MAX: Micros = 50_000;
/// Between two quiet spells.
const QUIET_EVERY: Micros = 400_000;
/// A quiet spell is a tenth of the time at most, however long it took.
const QUIET_SHARE: Micros = 10;
/// Requests begun so soon after the last run meet emptier queues than clients make for themselves.
const SETTLE: Micros = 3_000;
/// Undisturbed requests that end a quiet spell at once; twice those in flight, if that is more: the
/// quick ones come first.
const QUIET_SAMPLES: u32 = 16;
/// A quiet spell ends after so long if anything at all was measured,
const QUIET_LONG: Micros = 20_000;
/// and after so long in any case: clients that wait for something else must not stop a resync.
const QUIET_MAX: Micros = 1_000_000;
/// A shared spell is judged after so long, and so many requests and runs,
const JUDGE_AFTER: Micros = 20_000;
const JUDGE_SAMPLES: u32 = 8;
const JUDGE_RUNS: u32 = 4;
/// or after so long in any case.
const JUDGE_MAX: Micros = 200_000;
/// The slowdown of clients that is aimed at, in 1024ths: 1.4.
const SLOWDOWN_GOAL: u64 = 1434;
/// The first rate beside clients, when the pair's capacity is not known, in bytes a second.
const RATE_START: u64 = 8 << 20;
/// The least rate beside clients, in bytes a second, unless told otherwise.
const RATE_FLOOR: u64 = 1 << 20;
/// The part of the pair's capacity that the resync has at the least, and that it begins with.
const FLOOR_SHARE: u64 = 32;
const START_SHARE: u64 = 8;
/// The pair's capacity is measured over so long.
const METER: Micros = 50_000;

/// What an operator may set; without it everything is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes a second that the resync has even when clients suffer (`c-min-rate`). `None`: 1 MiB/s,
    /// or a 32nd of what the pair can do, if that is more.
    pub min_rate: Option<u64>,
    /// Bytes a second that it never exceeds (`c-max-rate`), which wins over `min_rate`. `None`, and
    /// zero: no limit.
    pub max_rate: Option<u64>,
}

impl Limits {
    /// A resync that may send nothing would never end.
    fn sane(self) -> Self {
        Self {
            max_rate: self.max_rate.filter(|rate| *rate > 0),
            ..self
        }
    }
}

/// Who else uses the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nobody: full speed.
    Alone,
    /// Clients; nothing is started for a moment, to see how fast they are without a resync.
    Quiet,
    /// Clients; the rate is bounded so that they keep most of theirs.
    Shared,
}

/// What may be started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Runs that may be started.
    pub runs: u32,
    /// Bytes that may be started; the last run may exceed it. Zero if and only if `runs` is.
    pub bytes: u64,
    /// When to ask again, if nothing else happens before. `None`: after the next run's end.
    pub wake: Option<Micros>,
    /// What holds more back, if it is not the runs in flight.
    pub held: Option<Held>,
}

/// Why the controller does not allow more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The operator's upper limit.
    MaxRate,
    /// Clients need the pair.
    Clients,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Controller {
    limits: Limits,
    mode: Mode,
    since: Micros,
    window: Window,
    pace: Pace,
    /// Bytes a second beside clients.
    rate: u64,
    /// Most bytes a second that were seen lately without clients.
    capacity: u64,
    meter: (Micros, u64),
    in_flight: u32,
    /// When a run was last in flight.
    disturbed: Micros,
    clients: u32,
    last_client: Micros,
    baseline: Baseline,
    /// Undisturbed requests that the baseline has not learned yet.
    undisturbed: Samples,
    /// Of the present quiet spell: since when nothing has been in flight.
    calm_since: Option<Micros>,
    next_quiet: Micros,
    /// Of the present judgement: since when, what clients saw, and what the resync did.
    judging: Judging,
}

#[derive(Debug, Default)]
struct Judging {
    since: Micros,
    samples: Samples,
    runs: u32,
    /// The rate was what held the resync back.
    paced: bool,
}

impl Controller {
    /// A controller that knows nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: limits.sane(),
            mode: Mode::Alone,
            since: 0,
            window: Window::new(),
            pace: Pace::default(),
            rate: 0,
            capacity: 0,
            meter: (0, 0),
            in_flight: 0,
            disturbed: 0,
            clients: 0,
            last_client: 0,
            baseline: Baseline::default(),
            undisturbed: Samples::default(),
            calm_since: None,
            next_quiet: 0,
            judging: Judging::default(),
        }
    }

    /// Takes other limits, from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits.sane();
    }

    /// Who else uses the pair, as of the last [`Controller::allowance`].
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes a second that the resync is held to now; `None`: whatever it can do.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        match self.mode {
            Mode::Alone => self.limits.max_rate,
            Mode::Quiet | Mode::Shared => Some(self.shared_rate()),
        }
    }

    /// A client's request was started.
    pub fn client_started(&mut self, now: Micros) {
        self.clients += 1;
        self.last_client = self.last_client.max(now);
    }

    /// A client's request, begun at `began`, has ended.
    pub fn client_finished(&mut self, now: Micros, class: Class, began: Micros) {
        self.clients = self.clients.saturating_sub(1);
        self.last_client = self.last_client.max(now);
        let took = now.saturating_sub(began);
        if self.mode == Mode::Shared {
            if began >= self.judging.since {
                self.judging.samples.add(class, took);
            }
        } else if self.in_flight == 0 && began >= self.disturbed + SETTLE {
            // Not in a shared spell, where only the quickest requests fit between two runs.
            self.undisturbed.add(class, took);
            if self.undisturbed.count() >= QUIET_SAMPLES.max(self.clients * 2) {
                self.learn();
            }
        }
    }

    /// A client's request will not end here: its connection is gone.
    pub fn client_gone(&mut self) {
        self.clients = self.clients.saturating_sub(1);
    }

    fn learn(&mut self) {
        self.baseline.learn(&self.undisturbed);
        self.undisturbed = Samples::default();
        self.next_quiet = self.last_client + QUIET_EVERY;
    }

    /// A run of `len` bytes was started.
    pub fn started(&mut self, now: Micros, len: u32) {
        self.in_flight += 1;
        self.disturbed = self.disturbed.max(now);
        self.pace.spend(len);
        self.window.started(now, self.in_flight);
    }

    /// A run of `len` bytes that was started at `began` has ended: acknowledged, or not.
    pub fn finished(&mut self, now: Micros, len: u32, began: Micros, acknowledged: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.disturbed = self.disturbed.max(now);
        if !acknowledged {
            return;
        }
        self.judging.runs += 1;
        self.window.observe(now, began);
        if self.mode == Mode::Alone {
            self.window.adapt(now, began);
            self.measure(now, len);
        }
    }

    /// The connection is lost: no run will be answered.
    pub fn link_lost(&mut self) {
        self.in_flight = 0;
    }

    fn measure(&mut self, now: Micros, len: u32) {
        let (since, bytes) = &mut self.meter;
        *bytes += u64::from(len);
        let passed = now.saturating_sub(*since);
        if passed >= METER {
            let seen = *bytes * 1_000_000 / passed;
            self.capacity = seen.max(self.capacity - self.capacity / 16);
            self.meter = (now, 0);
        }
    }

    /// What may be started now.
    pub fn allowance(&mut self, now: Micros) -> Allowance {
        self.turn(now);
        let rate = self.rate();
        self.pace.advance(now, rate.unwrap_or(u64::MAX >> 24));
        let room = self.runs_allowed(rate).saturating_sub(self.in_flight);
        let held = match self.mode {
            Mode::Alone => Held::MaxRate,
            Mode::Shared if rate == self.limits.max_rate => Held::MaxRate,
            Mode::Quiet | Mode::Shared => Held::Clients,
        };
        let paced = rate.filter(|_| !self.pace.is_open() && self.mode != Mode::Quiet);
        let wake = self.next_turn();
        if let Some(rate) = paced {
            self.judging.paced = true;
            let opens = self.pace.opens_at(rate);
            return Allowance {
                runs: 0,
                bytes: 0,
                wake: Some(wake.map_or(opens, |wake| wake.min(opens))),
                held: Some(held),
            };
        }
        let bytes = match rate {
            Some(_) if room > 0 => self.pace.bytes(),
            _ => u64::from(room) * u64::from(MAX_RUN),
        };
        Allowance {
            runs: room,
            bytes,
            wake,
            held: (self.mode != Mode::Alone).then_some(held),
        }
    }

    /// Runs in flight at most, in this mode and at this rate.
    fn runs_allowed(&self, rate: Option<u64>) -> u32 {
        match (self.mode, rate) {
            (Mode::Quiet, _) => 0,
            (Mode::Alone, _) | (_, None) => self.window.runs(),
            (Mode::Shared, Some(rate)) => {
                // As many as the rate fills in one round trip, and one more.
                let bytes = u128::from(rate) * u128::from(self.window.goal()) / 1_000_000;
                let runs = u32::try_from(bytes / u128::from(MAX_RUN)).unwrap_or(RUNS_MAX);
                (runs.saturating_add(1)).min(self.window.runs())
            }
        }
    }

    /// The rate beside clients, within all bounds.
    fn shared_rate(&self) -> u64 {
        let floor = self.limits.min_rate.unwrap_or_else(|| {
            let share = self.capacity / FLOOR_SHARE;
            share.max(RATE_FLOOR)
        });
        let rate = self.rate.max(floor);
        self.limits.max_rate.map_or(rate, |max| rate.min(max))
    }

    fn clients_present(&self, now: Micros) -> bool {
        self.clients > 0 || self.last_client > 0 && now < self.last_client + self.linger()
    }

    fn linger(&self) -> Micros {
        (LINGER * self.window.goal()).min(LINGER_MAX)
    }

    /// Changes the mode if it is time to, and judges a shared spell.
    fn turn(&mut self, now: Micros) {
        let present = self.clients_present(now);
        match self.mode {
            Mode::Alone if present => {
                if self.rate == 0 {
                    self.rate = match self.capacity {
                        0 => RATE_START,
                        capacity => capacity / START_SHARE,
                    };
                }
                self.enter(now, Mode::Quiet);
            }
            Mode::Quiet | Mode::Shared if !present => self.enter(now, Mode::Alone),
            Mode::Shared if now >= self.next_quiet => self.enter(now, Mode::Quiet),
            Mode::Shared => self.judge(now),
            Mode::Alone | Mode::Quiet => {}
        }
        if self.mode == Mode::Quiet {
            self.turn_quiet(now);
        }
    }

    fn enter(&mut self, now: Micros, mode: Mode) {
        self.mode = mode;
        self.since = now;
        if mode == Mode::Quiet {
            self.undisturbed = Samples::default();
        }
        self.calm_since = None;
        self.window.forget_round();
        self.meter = (now, 0);
        self.judging = Judging {
            since: now,
            ..Judging::default()
        };
    }

    /// Ends a quiet spell that has seen enough.
    fn turn_quiet(&mut self, now: Micros) {
        if self.calm_since.is_none() && self.in_flight == 0 {
            self.calm_since = Some(now);
        }
        let calm = self.calm_since.map_or(0, |since| now.saturating_sub(since));
        let fresh = self.next_quiet > now;
        let seen = calm >= QUIET_LONG && self.undisturbed.count() > 0;
        let took = now.saturating_sub(self.since);
        if fresh || seen || took >= QUIET_MAX {
            self.learn();
            self.next_quiet = now + QUIET_EVERY.max(took * QUIET_SHARE);
            self.enter(now, Mode::Shared);
        }
    }

    /// Compares what clients saw with what they would have seen, and moves the rate.
    fn judge(&mut self, now: Micros) {
        let judging = &self.judging;
        let passed = now.saturating_sub(judging.since);
        let enough = passed >= JUDGE_AFTER
            && judging.samples.count() >= JUDGE_SAMPLES
            && judging.runs >= JUDGE_RUNS;
        if !enough && passed < self.judge_max() {
            return;
        }
        let rate = self.shared_rate();
        let slowdown = match self.baseline.slowdown(&judging.samples) {
            Some(slowdown) => slowdown,
            // Clients wait and nothing of theirs ends: be careful.
            None if judging.samples.count() == 0 && self.clients > 0 => 4 * 1024,
            None => SLOWDOWN_GOAL,
        };
        // The loss grows with the rate, about in proportion; steps are bounded as the measure is noisy.
        let (excess, wanted) = (slowdown.saturating_sub(1024).max(1), SLOWDOWN_GOAL - 1024);
        let aimed = u128::from(rate) * u128::from(wanted) / u128::from(excess);
        let aimed = u64::try_from(aimed).unwrap_or(u64::MAX);
        // A rate that is not used must not grow: it would be far off when it is.
        let most = match judging.paced {
            true if aimed / 4 > rate => rate.saturating_add(rate / 2),
            true => rate.saturating_add(rate / 4),
            false => rate,
        };
        self.rate = aimed.clamp(rate / 2, most);
        self.judging = Judging {
            since: now,
            ..Judging::default()
        };
    }

    /// Requests that take long need a longer look.
    fn judge_max(&self) -> Micros {
        JUDGE_MAX.max(self.baseline.longest() * 3).min(QUIET_MAX)
    }

    /// When [`Controller::turn`] may have something to do that no call announces.
    fn next_turn(&self) -> Option<Micros> {
        let gone = (self.clients == 0).then(|| self.last_client + self.linger());
        let own = match self.mode {
            Mode::Alone => return None,
            Mode::Quiet => {
                let long = self.calm_since.map(|since| since + QUIET_LONG);
                let seen = long.filter(|_| self.undisturbed.count() > 0);
                seen.unwrap_or(self.since + QUIET_MAX)
            }
            Mode::Shared => self.next_quiet.min(self.judging.since + self.judge_max()),
        };
        Some(gone.map_or(own, |gone| gone.min(own)))
    }
}

#[cfg(test)]
mod tests;
