//! What each sector may legally hold: the oracle's independent register model.
//!
//! Every write is a *candidate* for its sectors from its submission on. It goes out of the set at
//! two levels: what a client may **read** ends when a write that began after the candidate's end
//! was answered; what may **survive** a power cut ends only when such a write is also covered by
//! an answered flush or FUA. A write whose fate is unknown (its connection or node died) ends
//! then: what is submitted and answered later must win over it (nbs #7070).

use crate::stamp::Value;

/// A logical instant: the world's count of submissions and answers, so that "before" is exact.
pub type Order = u64;

/// Not yet.
const NEVER: Order = Order::MAX;

/// How strict a judgement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only flushed and FUA writes must be there (after a power cut).
    Durable,
    /// Of the other answered writes a prefix: none that began after the answer to one that is missing (protocol A).
    Lagging,
    /// Every answered write must be there.
    Answered,
}

/// One write to one sector.
#[derive(Debug, Clone)]
struct Candidate {
    value: Value,
    begin: Order,
    end: Order,
    /// A discard on a pair whose disks treat discards differently: it may or may not show.
    weak: bool,
    answered: bool,
    /// Answered and superseded by another answered write: no disk in sync holds it any more.
    superseded: Order,
    /// A read saw a later one, which may not be answered, nor be on the other disk.
    unseen: Order,
    /// Superseded by a write that is durable: not even a power cut brings it back.
    perished: Order,
}

impl Candidate {
    fn settled(value: Value) -> Self {
        Self {
            value,
            begin: 0,
            end: 0,
            weak: false,
            answered: true,
            superseded: NEVER,
            unseen: NEVER,
            perished: NEVER,
        }
    }
}

/// All candidates of one volume.
#[derive(Debug, Clone)]
pub struct History {
    sectors: Vec<Vec<Candidate>>,
}

impl History {
    /// A history that begins with what a disk holds (`durable`: what a power cut leaves of it).
    #[must_use]
    pub fn new(current: &[Value], durable: &[Value]) -> Self {
        let sector = |(&value, &kept): (&Value, &Value)| {
            let mut list = vec![Candidate::settled(value)];
            if kept != value {
                let superseded = 0;
                list.push(Candidate {
                    superseded,
                    ..Candidate::settled(kept)
                });
            }
            list
        };
        Self {
            sectors: current.iter().zip(durable).map(sector).collect(),
        }
    }

    /// A client submits a write of `value`.
    pub fn submit(&mut self, sector: usize, value: Value, weak: bool, begin: Order) {
        let fresh = Candidate {
            begin,
            end: NEVER,
            weak,
            answered: false,
            ..Candidate::settled(value)
        };
        self.sectors[sector].push(fresh);
    }

    /// The write that began at `begin` was answered.
    pub fn answer(&mut self, sector: usize, begin: Order, now: Order, oldest_read: Order) {
        let list = &mut self.sectors[sector];
        let Some(mine) = list.iter_mut().find(|c| c.begin == begin) else {
            return;
        };
        mine.end = now;
        mine.answered = true;
        if mine.weak {
            return;
        }
        for c in list.iter_mut().filter(|c| c.end < begin) {
            c.superseded = c.superseded.min(now);
        }
        list.retain(|c| c.perished == NEVER || c.superseded >= oldest_read);
    }

    /// The write that began at `begin` is covered by an answered flush or by its own FUA.
    pub fn make_durable(&mut self, sector: usize, begin: Order, now: Order) {
        let list = &mut self.sectors[sector];
        if !list.iter().any(|c| c.begin == begin && !c.weak) {
            return;
        }
        for c in list.iter_mut().filter(|c| c.end < begin) {
            c.perished = c.perished.min(now);
        }
    }

    /// The fate of the write that began at `begin` will never be known.
    pub fn orphan(&mut self, sector: usize, begin: Order, now: Order) {
        if let Some(c) = self.sectors[sector].iter_mut().find(|c| c.begin == begin) {
            c.end = c.end.min(now);
        }
    }

    /// Whether a read that began at `begin` may have returned `value`.
    #[must_use]
    pub fn readable(&self, sector: usize, value: Value, begin: Order) -> bool {
        let fits = |c: &Candidate| c.value == value && c.superseded.min(c.unseen) >= begin;
        self.sectors[sector].iter().any(fits)
    }

    /// A read that began at `begin` returned `value`: answered writes that ended before were
    /// before `value`, and no later read may return them.
    pub fn observe(&mut self, sector: usize, value: Value, begin: Order, now: Order) {
        let list = &mut self.sectors[sector];
        if list.len() < 2 || list.iter().any(|c| c.weak) {
            return;
        }
        for c in list
            .iter_mut()
            .filter(|c| c.value != value && c.answered && c.end < begin)
        {
            c.unseen = c.unseen.min(now);
        }
    }

    /// Whether a disk may hold `value` at this level.
    #[must_use]
    pub fn legal(&self, sector: usize, value: Value, level: Level) -> bool {
        let fits = |c: &Candidate| {
            let until = if level == Level::Answered {
                c.superseded
            } else {
                c.perished
            };
            c.value == value && until == NEVER
        };
        self.sectors[sector].iter().any(fits)
    }

    /// When the write that left `value` began; `None` if that is not known for sure.
    #[must_use]
    pub fn began(&self, sector: usize, value: Value) -> Option<Order> {
        let fits = |c: &&Candidate| value != 0 && c.value == value && c.perished == NEVER;
        let candidates = self.sectors[sector].iter().filter(fits);
        candidates.map(|c| c.begin).min()
    }

    /// Whether a disk that has a write that began at `cut` may hold `value`: everything that was answered before
    /// that must be there, or something later.
    #[must_use]
    pub fn before(&self, sector: usize, value: Value, cut: Order) -> bool {
        let list = &self.sectors[sector];
        let hidden = |c: &Candidate| {
            let hides = |x: &Candidate| x.answered && !x.weak && x.end < cut && c.end < x.begin;
            list.iter().any(hides)
        };
        let fits = |c: &Candidate| c.value == value && c.perished == NEVER;
        list.iter().any(|c| fits(c) && !hidden(c))
    }

    /// Another node serves from now on: what a read saw of writes in flight is not on its disk.
    pub fn forget_sights(&mut self, sector: usize) {
        for c in &mut self.sectors[sector] {
            c.unseen = NEVER;
        }
    }

    /// A node was promoted whose disk holds `value`: from now on that is the truth. After a power
    /// cut (`Level::Durable`) what survived is durable; else the durable fallbacks stay.
    pub fn settle(&mut self, sector: usize, value: Value, level: Level, now: Order) {
        let list = &mut self.sectors[sector];
        if list.iter().any(|c| c.weak) {
            // Either content stays possible; after a power cut also what was answered after it, and where the last
            // answered writes are lost what they had superseded.
            for c in list.iter_mut() {
                let back = match level {
                    Level::Durable => true,
                    Level::Lagging => c.value == value,
                    Level::Answered => false,
                };
                if back && c.perished == NEVER {
                    c.superseded = NEVER;
                }
                c.answered &= level == Level::Answered || c.value == value;
            }
            return;
        }
        for c in list.iter_mut() {
            if c.value == value {
                c.superseded = NEVER;
                c.answered = true;
                c.end = c.end.min(now);
            } else {
                c.superseded = c.superseded.min(now);
                // Some of these are lost, and nothing that comes later depends on them any more.
                c.answered &= level == Level::Answered;
                if level == Level::Durable {
                    c.perished = c.perished.min(now);
                }
            }
        }
    }

    /// Adds a content that the sector may yet turn into: a write in the cache or in flight when
    /// this history split off.
    pub fn allow(&mut self, sector: usize, value: Value, now: Order) {
        self.sectors[sector].push(Candidate {
            end: now,
            answered: false,
            ..Candidate::settled(value)
        });
    }

    /// The legal values, for a message.
    #[must_use]
    pub fn explain(&self, sector: usize) -> String {
        let mut text = String::new();
        for c in &self.sectors[sector] {
            let mark = |at: Order, word: &str| {
                if at == NEVER {
                    String::new()
                } else {
                    format!(", {word}")
                }
            };
            text += &format!(
                "\n      {}{}{}{}{}{}",
                crate::stamp::describe(c.value),
                if c.answered { "" } else { ", not answered" },
                mark(c.superseded, "superseded"),
                mark(c.unseen, "a read saw a later one"),
                mark(c.perished, "durably superseded"),
                if c.weak { ", a discard" } else { "" },
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank() -> History {
        History::new(&[0], &[0])
    }

    #[test]
    fn beside_a_discard_too_what_a_lost_write_had_superseded_is_back() {
        let mut history = blank();
        history.submit(0, 7, false, 10);
        history.answer(0, 10, 11, 0);
        history.submit(0, 0, true, 12);
        history.answer(0, 12, 13, 0);
        // Answered by protocol A, and lost with its node.
        history.submit(0, 8, false, 14);
        history.answer(0, 14, 15, 0);
        assert!(!history.readable(0, 7, 16));
        history.settle(0, 7, Level::Lagging, 17);
        assert!(history.readable(0, 7, 18));
    }

    #[test]
    fn an_answered_write_supersedes_what_ended_before_it_began() {
        let mut history = blank();
        history.submit(0, 7, false, 10);
        assert!(history.readable(0, 0, 11) && history.readable(0, 7, 11));
        history.answer(0, 10, 12, 0);
        assert!(history.readable(0, 7, 13) && !history.readable(0, 0, 13));
        assert!(
            history.readable(0, 0, 11),
            "a read that began before the answer"
        );
        assert!(history.legal(0, 0, Level::Durable), "until a flush");
        history.make_durable(0, 10, 14);
        assert!(!history.legal(0, 0, Level::Durable));
    }

    #[test]
    fn concurrent_writes_may_win_either_way_until_one_is_seen() {
        let mut history = blank();
        history.submit(0, 7, false, 10);
        history.submit(0, 8, false, 11);
        history.answer(0, 10, 12, 0);
        history.answer(0, 11, 13, 0);
        assert!(history.readable(0, 7, 14) && history.readable(0, 8, 14));
        history.observe(0, 7, 14, 15);
        assert!(!history.readable(0, 8, 16), "the order is known now");
    }

    #[test]
    fn a_write_of_unknown_fate_loses_against_what_is_answered_later() {
        let mut history = blank();
        history.submit(0, 7, false, 10);
        history.orphan(0, 10, 11);
        assert!(history.readable(0, 7, 12) && history.readable(0, 0, 12));
        history.submit(0, 8, false, 13);
        history.answer(0, 13, 14, 14);
        assert!(!history.readable(0, 7, 15), "it stalled and came back");
    }

    #[test]
    fn whoever_has_a_write_has_what_was_answered_before_it_began() {
        let mut history = History::new(&[0, 0], &[0, 0]);
        history.submit(0, 7, false, 10);
        history.answer(0, 10, 12, 0);
        // One that began before the answer, and one after it.
        for (value, begin) in [(8, 11), (9, 13)] {
            history.submit(1, value, false, begin);
        }
        let missing = |history: &History, other| {
            let cut = history.began(1, other).expect("a stamp");
            history.before(0, 0, cut)
        };
        assert!(missing(&history, 8), "they were under way together");
        assert!(!missing(&history, 9));
        assert!(history.before(0, 7, 13));
        // Lost with the Primary, and the survivor promoted: nobody depends on it any more.
        history.settle(0, 0, Level::Lagging, 14);
        assert!(missing(&history, 9) && !history.readable(0, 7, 15));
        assert!(history.began(1, 0).is_none(), "zeroes tell nothing");
    }

    #[test]
    fn after_a_power_cut_what_survived_is_the_truth() {
        let mut history = blank();
        history.submit(0, 7, false, 10);
        history.answer(0, 10, 11, 11);
        history.settle(0, 0, Level::Durable, 12);
        assert!(history.readable(0, 0, 13) && !history.readable(0, 7, 13));
        assert!(!history.legal(0, 7, Level::Durable));
    }
}
