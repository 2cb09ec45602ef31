//! The events of a node on their way to the arbiter: one after the other, each asked again until it is answered.
//!
//! No I/O and no clock. The pump asks [`Notifier::question`] whenever something changed, sends it, and sends it again
//! after a pause that doubles, until [`Notifier::answer`] takes it off. How long it is patient is the pump's affair:
//! [`Notifier::give_up`] ends it.

use crate::{Answer, Event, Request};
use heapless::Deque;

/// Events that may wait: two of each of 16 volumes.
pub const WAITING_MAX: usize = 32;

/// Exit code of a handler that was not run to its end: missing, killed, or over its time.
pub const NO_EXIT_CODE: u8 = 255;

/// An event that is being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Told {
    /// Tells it from all others of this node's life.
    pub number: u64,
    /// What happened.
    pub event: Event,
    /// To which volume; `None`: to the resource.
    pub volume: Option<u8>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The handler's exit code, 0 if none is configured, or [`NO_EXIT_CODE`].
    Code(u8),
    /// Nobody answered in time. The handler may have run all the same.
    NoAnswer,
}

/// Too many events wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    /// Of the last event.
    number: u64,
    waiting: Deque<Told, WAITING_MAX>,
}

impl Notifier {
    /// Nothing to tell yet. For one session: numbers begin with 1.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            number: 0,
            waiting: Deque::new(),
        }
    }

    /// Something happened. Answers the number by which its outcome will be known.
    ///
    /// # Errors
    ///
    /// [`Full`]: it is not told. Whoever waits for the outcome must take it for [`Outcome::NoAnswer`].
    pub fn notify(&mut self, event: Event, volume: Option<u8>) -> Result<u64, Full> {
        let number = self.number + 1;
        let told = Told {
            number,
            event,
            volume,
        };
        self.waiting.push_back(told).map_err(|_| Full)?;
        self.number = number;
        Ok(number)
    }

    /// Whether the same waits that was not asked yet.
    #[must_use]
    pub fn waits(&self, event: Event, volume: Option<u8>) -> bool {
        let mut later = self.waiting.iter().skip(1);
        later.any(|told| told.event == event && told.volume == volume)
    }

    /// What is to be asked, if anything.
    #[must_use]
    pub fn question(&self) -> Option<Request> {
        self.waiting.front().map(|told| Request::Notify {
            number: told.number,
            event: told.event,
            volume: told.volume,
        })
    }

    /// An answer of the arbiter. `None`: not to the question, which is to be asked on.
    pub fn answer(&mut self, answer: &Answer) -> Option<(Told, Outcome)> {
        let Answer::Handled { number, code } = *answer else {
            return None;
        };
        let told = *self.waiting.front()?;
        if told.number != number {
            return None;
        }
        self.waiting.pop_front();
        Some((told, Outcome::Code(code)))
    }

    /// Nobody answered for so long that the next one is tried.
    pub fn give_up(&mut self) -> Option<(Told, Outcome)> {
        let told = self.waiting.pop_front()?;
        Some((told, Outcome::NoAnswer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handled(number: u64, code: u8) -> Answer {
        Answer::Handled { number, code }
    }

    #[test]
    fn one_after_the_other_until_each_is_answered() {
        let mut notifier = Notifier::new();
        assert_eq!(notifier.question(), None);
        assert_eq!(notifier.notify(Event::BeforeResyncTarget, Some(0)), Ok(1));
        assert_eq!(notifier.notify(Event::SplitBrain, None), Ok(2));
        let first = Request::Notify {
            number: 1,
            event: Event::BeforeResyncTarget,
            volume: Some(0),
        };
        assert_eq!(notifier.question(), Some(first));
        // An answer that comes twice, or to something else, ends nothing.
        assert_eq!(notifier.answer(&handled(2, 0)), None);
        assert_eq!(notifier.answer(&Answer::Granted { episode: 1 }), None);
        assert_eq!(notifier.question(), Some(first));
        let (told, outcome) = notifier.answer(&handled(1, 3)).unwrap();
        assert_eq!((told.number, outcome), (1, Outcome::Code(3)));
        assert_eq!(notifier.answer(&handled(1, 3)), None);
        let (told, outcome) = notifier.give_up().unwrap();
        assert_eq!(
            (told.event, outcome),
            (Event::SplitBrain, Outcome::NoAnswer)
        );
        assert_eq!(notifier.question(), None);
        assert_eq!(notifier.give_up(), None);
    }

    #[test]
    fn more_than_can_wait_is_refused_and_not_counted() {
        let mut notifier = Notifier::new();
        for number in 1..=WAITING_MAX as u64 {
            assert_eq!(notifier.notify(Event::Disconnected, None), Ok(number));
        }
        assert_eq!(notifier.notify(Event::Disconnected, None), Err(Full));
        notifier.give_up();
        let next = WAITING_MAX as u64 + 1;
        assert_eq!(notifier.notify(Event::Disconnected, None), Ok(next));
    }

    #[test]
    fn codes_and_names_are_of_one_event_each() {
        for event in Event::ALL {
            assert_eq!(Event::from_code(event.code()), Some(event));
            let same = |other: &Event| other.name() == event.name();
            assert_eq!(Event::ALL.iter().filter(|other| same(other)).count(), 1);
        }
        assert_eq!(Event::from_code(0), None);
        assert_eq!(Event::from_code(12), None);
    }
}
