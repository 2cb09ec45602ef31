//! When to call the peer: pure logic, without sockets.

use super::search::Sought;
use core::net::SocketAddr;
use replication::api::Micros;

/// Pause after the first refused attempt; doubles up to the connect interval. Short, since a peer that attaches a disk
/// hangs up and is called again at once.
const FIRST_PAUSE: Micros = 10_000;
/// Time limit of the first attempt. Shorter than TCP's own retransmission, whose least time-out
/// of a second would cost a second for one lost SYN.
const FIRST_TIMEOUT: Micros = 250_000;
/// Time limit of later attempts at most, but for the patient ones: a peer that comes back while its hardware address is
/// still known is found within this time. The two nodes are near each other.
const TIMEOUT_MAX: Micros = 1_000_000;
/// One attempt in so many is a patient one: on hosts that are so busy that an answer takes more than [`TIMEOUT_MAX`], all
/// others end before it comes, and the nodes would not meet as long as that lasts.
const PATIENT_EVERY: u32 = 4;
/// Time limit of the first patient attempt; doubles up to the largest. TCP sends its SYN again within it, so a peer that
/// comes up in the middle of one is found, too.
const PATIENT_FIRST: Micros = 2_000_000;
const PATIENT_MAX: Micros = 8_000_000;
/// The peer's hardware address is asked for so often at first, and so often later.
const SOLICIT_FAST: Micros = 50_000;
const SOLICIT_SLOW: Micros = 250_000;
/// How long "at first" is.
const FAST_FOR: Micros = 5_000_000;
/// A connection that lived shorter counts as a failed attempt.
const SHORT_LIFE: Micros = 2_000_000;
/// A search that lasts so long, and two connect intervals, is worth a line in the log. The next line comes when it has
/// lasted twice as long, and so on, so that a peer that is gone for good fills no log.
const FIRST_WORD: Micros = 5_000_000;
/// The longest time between two such lines.
const LAST_PAUSE: Micros = 3_600_000_000;

/// A node's part in connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Calls the other.
    Dials,
    /// Waits to be called.
    Listens,
}

impl Side {
    /// The node with the larger address (then port) dials. Both nodes must be configured with
    /// the same two endpoints.
    #[must_use]
    pub fn of(local: SocketAddr, peer: SocketAddr) -> Self {
        if (local.ip(), local.port()) > (peer.ip(), peer.port()) {
            Self::Dials
        } else {
            Self::Listens
        }
    }
}

/// What the owner of the sockets must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialStep {
    /// Start a connection; report [`Dialer::connected`] or [`Dialer::failed`].
    Dial,
    /// Drop the attempt that is running; another follows at once.
    Abandon,
    /// Ask for the peer's hardware address.
    Solicit,
    /// Tell the engine that the peer could not be reached for a whole connect interval.
    ReportFailure,
    /// Tell people that the search goes on, and what it has found ([`Dialer::sought`]).
    Tell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection is wanted.
    Closed,
    /// Wanted: the next attempt is due at this time (never, on the side that listens).
    Waiting(Micros),
    /// An attempt is running until this time.
    Dialling(Micros),
    /// There is a connection, since this time.
    Up(Micros),
}

/// Decides about attempts, their time limits and the pauses between them.
///
/// An attempt that is not answered at all is followed by the next at once, so that a peer that
/// comes up is found within its solicitation interval. After a refusal, or a connection that
/// died young (a peer of another version, say), there is a pause.
#[derive(Debug)]
pub struct Dialer {
    side: Side,
    connect_interval: Micros,
    state: State,
    pause: Micros,
    /// Attempts of the present series that nobody answered.
    unanswered: u32,
    /// When the present series of attempts began.
    since: Micros,
    /// What came of the series so far.
    found: Option<Sought>,
    next_solicit: Micros,
    next_report: Micros,
    /// When the search is worth a line in the log.
    next_word: Micros,
}

impl Dialer {
    /// A dialer that wants no connection yet. `connect_interval` is the longest pause.
    #[must_use]
    pub fn new(side: Side, connect_interval: Micros) -> Self {
        Self {
            side,
            connect_interval: connect_interval.max(FIRST_PAUSE),
            state: State::Closed,
            pause: FIRST_PAUSE,
            unanswered: 0,
            since: 0,
            found: None,
            next_solicit: 0,
            next_report: 0,
            next_word: 0,
        }
    }

    /// The longest pause is another one from now on.
    pub fn set_connect_interval(&mut self, connect_interval: Micros) {
        self.connect_interval = connect_interval.max(FIRST_PAUSE);
        self.pause = self.pause.min(self.connect_interval);
    }

    /// Since when a connection is sought, and what came of it; `None` while there is one, or none is wanted, or nothing
    /// has come of it yet.
    #[must_use]
    pub fn sought(&self) -> Option<(Micros, Sought)> {
        match self.state {
            State::Closed | State::Up(_) => None,
            State::Waiting(_) | State::Dialling(_) => self.found.map(|found| (self.since, found)),
        }
    }

    /// Whether a connection is wanted.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.state != State::Closed
    }

    /// A connection is wanted; nothing changes if one was already.
    pub fn open(&mut self, now: Micros) {
        if self.state == State::Closed {
            self.pause = FIRST_PAUSE;
            self.begin(now, now);
        }
    }

    /// No connection is wanted any more.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    fn begin(&mut self, now: Micros, first: Micros) {
        self.unanswered = 0;
        self.since = now;
        self.found = match self.side {
            Side::Dials => None,
            Side::Listens => Some(Sought::NotCalled),
        };
        self.next_word = now.saturating_add(self.first_word());
        self.next_solicit = now;
        self.next_report = now.saturating_add(self.connect_interval);
        self.state = State::Waiting(match self.side {
            Side::Dials => first,
            Side::Listens => Micros::MAX,
        });
    }

    fn first_word(&self) -> Micros {
        FIRST_WORD.max(self.connect_interval.saturating_mul(2))
    }

    /// The peer has called, whatever comes of it: on the side that listens, the search begins anew.
    pub fn called(&mut self, now: Micros) {
        if self.side == Side::Listens && matches!(self.state, State::Waiting(_)) {
            self.since = now;
            self.next_word = now.saturating_add(self.first_word());
        }
    }

    /// There is a connection, dialled or accepted.
    pub fn connected(&mut self, now: Micros) {
        if self.wanted() {
            self.state = State::Up(now);
        }
    }

    /// The attempt was refused, or could not be made.
    pub fn failed(&mut self, now: Micros) {
        if matches!(self.state, State::Dialling(_)) {
            self.state = State::Waiting(now.saturating_add(self.pause));
            self.pause = (self.pause * 2).min(self.connect_interval);
            self.found = Some(Sought::Refused);
        }
    }

    /// The connection is gone and a new one is wanted.
    pub fn lost(&mut self, now: Micros) {
        let State::Up(since) = self.state else {
            return;
        };
        if now.saturating_sub(since) < SHORT_LIFE {
            let first = now.saturating_add(self.pause);
            self.pause = (self.pause * 2).min(self.connect_interval);
            self.begin(now, first);
        } else {
            self.pause = FIRST_PAUSE;
            self.begin(now, now);
        }
    }

    /// One of the nodes refused the other, which only an operator can change: there is no hurry.
    pub fn refused(&mut self, now: Micros) {
        if matches!(self.state, State::Up(_)) {
            self.pause = self.connect_interval;
            self.begin(now, now.saturating_add(self.connect_interval));
        }
    }

    /// The next thing to do at `now`; call until `None`.
    pub fn poll(&mut self, now: Micros) -> Option<DialStep> {
        match self.state {
            State::Closed | State::Up(_) => return None,
            State::Waiting(at) if at <= now => {
                self.state = State::Dialling(now.saturating_add(time_limit(self.unanswered)));
                self.next_solicit = now.saturating_add(SOLICIT_FAST);
                return Some(DialStep::Dial);
            }
            State::Dialling(until) if until <= now => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.found = Some(Sought::NoAnswer);
                self.state = State::Waiting(now);
                return Some(DialStep::Abandon);
            }
            State::Waiting(_) | State::Dialling(_) => {}
        }
        if self.next_report <= now {
            self.next_report = now.saturating_add(self.connect_interval);
            return Some(DialStep::ReportFailure);
        }
        if self.next_word <= now {
            let lasted = now.saturating_sub(self.since).min(LAST_PAUSE);
            self.next_word = now.saturating_add(lasted);
            return Some(DialStep::Tell);
        }
        if self.next_solicit <= now {
            let young = now.saturating_sub(self.since) < FAST_FOR;
            let interval = if young { SOLICIT_FAST } else { SOLICIT_SLOW };
            self.next_solicit = now.saturating_add(interval);
            return Some(DialStep::Solicit);
        }
        None
    }

    /// When [`Dialer::poll`] has something next.
    #[must_use]
    pub fn poll_at(&self) -> Option<Micros> {
        let at = match self.state {
            State::Closed | State::Up(_) => return None,
            State::Waiting(at) | State::Dialling(at) => at,
        };
        let others = self.next_solicit.min(self.next_report);
        Some(at.min(others).min(self.next_word))
    }
}

/// How long the attempt may last that follows so many unanswered ones.
fn time_limit(unanswered: u32) -> Micros {
    let doubled = |first: Micros, times: u32, most: Micros| (first << times.min(16)).min(most);
    let round = unanswered / PATIENT_EVERY;
    if unanswered % PATIENT_EVERY == PATIENT_EVERY - 1 {
        doubled(PATIENT_FIRST, round, PATIENT_MAX)
    } else {
        doubled(FIRST_TIMEOUT, unanswered, TIMEOUT_MAX)
    }
}
