//! The log against a model of its disk that keeps every content that a place of a page may have
//! after a crash, and of the writes whose fate a crash would leave in doubt.

use super::super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// Extents that the model looks at: half of them at the end of the first page, half in the second.
const WINDOW: u64 = 12;
const BASE: u64 = PAGE_EXTENTS - WINDOW / 2;
const SIZE: u64 = (BASE + WINDOW) * EXTENT - 512;
const LIMIT: u32 = 8;

/// A set of extents of the window.
type Bits = u16;

#[derive(Debug, Clone)]
enum Step {
    /// A request for some extents from the window.
    Enter(u64, u64),
    /// A request that continues the latest one, into the next extent.
    Continue,
    /// A request ends, or is given up.
    Leave(usize),
    Begin,
    Committed(usize),
    Failed(usize),
    Tick(u64),
    Cool,
    EndCooling(bool),
    Drain(bool),
    /// The node dies and attaches its disk again; for each page, which of the possible contents is found.
    Crash([usize; 2]),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..WINDOW, 1u64..5).prop_map(|(first, n)| Step::Enter(first, n.min(WINDOW - first))),
        2 => Just(Step::Continue),
        8 => any::<usize>().prop_map(Step::Leave),
        6 => Just(Step::Begin),
        6 => any::<usize>().prop_map(Step::Committed),
        1 => any::<usize>().prop_map(Step::Failed),
        3 => (0u64..6_000_000).prop_map(Step::Tick),
        5 => Just(Step::Cool),
        5 => prop::bool::weighted(0.8).prop_map(Step::EndCooling),
        1 => any::<bool>().prop_map(Step::Drain),
        1 => any::<[usize; 2]>().prop_map(Step::Crash),
    ]
}

#[derive(Debug)]
struct Request {
    offset: u64,
    len: u64,
    bits: Bits,
    started: bool,
}

/// What a place of a page may contain after a crash: a sequence number and bits, or nothing valid.
type Place = Vec<Option<(u64, Bits)>>;

struct World {
    log: ActivityLog,
    now: u64,
    places: [[Place; 2]; 2],
    under_way: Vec<Commit>,
    requests: Vec<Request>,
    /// Extents with data, or dirty bits, that a crash would put in doubt.
    needed: Bits,
    /// While a cooling runs: the extents whose dirty bits it saves and which nobody wrote into since.
    clean: Option<Bits>,
}

fn byte_range(bits_first: u64, count: u64) -> (u64, u64) {
    // Some bytes in the first extent, and some in the last.
    let offset = (BASE + bits_first) * EXTENT + 4096;
    (offset, (count - 1) * EXTENT + 512)
}

fn bits_of(first: u64, count: u64) -> Bits {
    ((1 << count) - 1) << first
}

/// The window's bits in a page's words; nothing else may be set.
fn from_words(page: usize, words: &[u64; PAGE_WORDS]) -> Bits {
    let mut bits = 0;
    for (n, &word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
        for bit in (0..64).filter(|bit| word & (1 << bit) != 0) {
            let at = page as u64 * PAGE_EXTENTS + n as u64 * 64 + bit;
            assert!((BASE..BASE + WINDOW).contains(&at), "extent {at} is hot");
            bits |= 1 << (at - BASE);
        }
    }
    bits
}

fn to_words(page: usize, bits: Bits) -> [u64; PAGE_WORDS] {
    let mut words = [0; PAGE_WORDS];
    for n in (0..WINDOW).filter(|n| bits & (1 << n) != 0) {
        let at = BASE + n;
        if at / PAGE_EXTENTS == page as u64 {
            let extent = at % PAGE_EXTENTS;
            words[(extent / 64) as usize] |= 1 << (extent % 64);
        }
    }
    words
}

fn mask(page: usize) -> Bits {
    let half = (1 << (WINDOW / 2)) - 1;
    if page == 0 {
        half
    } else {
        half << (WINDOW / 2)
    }
}

impl World {
    fn new() -> Self {
        Self {
            log: ActivityLog::new(SIZE, LIMIT),
            now: 0,
            places: core::array::from_fn(|_| core::array::from_fn(|_| vec![Some((0, 0))])),
            under_way: vec![],
            requests: vec![],
            needed: 0,
            clean: None,
        }
    }

    fn place(&mut self, commit: Commit) -> &mut Place {
        &mut self.places[commit.page as usize][commit.copy as usize]
    }

    fn written(&self, commit: Commit) -> (u64, Bits) {
        let mut words = [u64::MAX; PAGE_WORDS];
        self.log.fill(commit, &mut words);
        (commit.sequence, from_words(commit.page as usize, &words))
    }

    /// All that may be found of a page after a crash, by copy, sequence number and bits.
    fn loads(&self, page: usize) -> Vec<(PageCopy, u64, Bits)> {
        let mut found = vec![];
        for a in &self.places[page][0] {
            for b in &self.places[page][1] {
                found.push(match (a, b) {
                    (Some(a), Some(b)) if a.0 >= b.0 => (PageCopy::A, a.0, a.1),
                    (_, Some(b)) => (PageCopy::B, b.0, b.1),
                    (Some(a), None) => (PageCopy::A, a.0, a.1),
                    (None, None) => panic!("page {page} has no valid copy"),
                });
            }
        }
        found
    }

    fn enter(&mut self, offset: u64, len: u64) {
        let started = self.log.enter(self.now, offset, len);
        assert_eq!(started, self.log.ready(offset, len));
        let (first, last) = (offset / EXTENT, (offset + len).div_ceil(EXTENT));
        self.requests.push(Request {
            offset,
            len,
            bits: bits_of(first - BASE, last - first),
            started: false,
        });
        if started {
            self.start(self.requests.len() - 1);
        }
    }

    fn start(&mut self, n: usize) {
        let request = &mut self.requests[n];
        request.started = true;
        self.needed |= request.bits;
        if let Some(clean) = &mut self.clean {
            *clean &= !request.bits;
        }
    }

    fn start_all_ready(&mut self) {
        for n in 0..self.requests.len() {
            let (offset, len) = (self.requests[n].offset, self.requests[n].len);
            let ready = self.log.ready(offset, len);
            if self.requests[n].started {
                assert!(ready, "a started request is not covered any more");
            } else if ready {
                self.start(n);
            }
        }
    }

    fn leave(&mut self, n: usize) {
        let request = self.requests.swap_remove(n);
        self.log.leave(request.offset, request.len);
    }

    fn begin(&mut self) -> bool {
        let Some(commit) = self.log.next_commit() else {
            return false;
        };
        assert!(self.under_way.iter().all(|other| other.page != commit.page));
        self.under_way.push(commit);
        let written = self.written(commit);
        for place in &self.places[commit.page as usize] {
            for old in place.iter().flatten() {
                assert!(old.0 < commit.sequence, "a sequence number was used again");
            }
        }
        self.place(commit).extend([None, Some(written)]);
        true
    }

    fn committed(&mut self, n: usize) {
        let commit = self.under_way.swap_remove(n);
        let written = self.written(commit);
        *self.place(commit) = vec![Some(written)];
        self.log.committed(commit);
        self.start_all_ready();
    }

    fn cool(&mut self) -> bool {
        let Some(count) = self.log.begin_cooling(self.now) else {
            return false;
        };
        assert!(self.clean.is_none() && count > 0);
        let mut saved: Bits = 0;
        for range in self.log.cooling() {
            let first = range.start / EXTENT - BASE;
            let end = ((BASE + first + 1) * EXTENT).min(SIZE);
            assert_eq!(range.end, end);
            assert_eq!(saved & (1 << first), 0, "an extent twice");
            saved |= 1 << first;
        }
        assert_eq!(saved.count_ones(), count);
        for request in &self.requests {
            assert_eq!(request.bits & saved, 0, "a request is in a cooling extent");
        }
        self.clean = Some(saved);
        true
    }

    fn end_cooling(&mut self, ok: bool) {
        if let Some(clean) = self.clean.take() {
            if ok {
                self.needed &= !clean;
            }
            self.log.end_cooling(ok);
        }
    }

    fn crash(&mut self, choice: [usize; 2]) {
        self.log.reset();
        self.requests.clear();
        self.under_way.clear();
        self.clean = None;
        let mut all = 0;
        for (page, choice) in choice.into_iter().enumerate() {
            // Any content of each place may be found; once the disk was flushed it stays.
            for (n, place) in self.places[page].iter_mut().enumerate() {
                let found = place[(choice >> (n * 8)) % place.len()];
                *place = vec![found];
            }
            let (copy, sequence, bits) = self.loads(page)[0];
            let words = to_words(page, bits);
            self.log.load(page as u32, copy, sequence, &words);
            all |= bits;
        }
        let mut shown = 0;
        for range in self.log.hot_ranges() {
            let (first, last) = (range.start / EXTENT, range.end.div_ceil(EXTENT));
            shown |= bits_of(first - BASE, last - first);
        }
        assert_eq!(shown, all);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Enter(first, count) => {
                let (offset, len) = byte_range(first, count);
                self.enter(offset, len);
            }
            Step::Continue => {
                let latest = self
                    .requests
                    .last()
                    .map(|request| request.offset + request.len);
                if let Some(offset) = latest.filter(|end| end + EXTENT < SIZE) {
                    self.enter(offset, EXTENT);
                }
            }
            Step::Leave(n) if !self.requests.is_empty() => self.leave(n % self.requests.len()),
            Step::Begin => {
                self.begin();
            }
            Step::Committed(n) if !self.under_way.is_empty() => {
                self.committed(n % self.under_way.len());
            }
            Step::Failed(n) if !self.under_way.is_empty() => {
                let commit = self.under_way.swap_remove(n % self.under_way.len());
                self.log.failed(commit);
                self.start_all_ready();
            }
            Step::Tick(time) => self.now += time,
            Step::Cool => {
                self.cool();
            }
            Step::EndCooling(ok) => self.end_cooling(ok),
            Step::Drain(on) => self.log.drain(on),
            Step::Crash(choice) => self.crash(choice),
            Step::Leave(_) | Step::Committed(_) | Step::Failed(_) => {}
        }
        self.check();
    }

    fn check(&self) {
        let mut shown = 0;
        for page in 0..2 {
            for (_, _, bits) in self.loads(page) {
                shown |= bits;
                let needed = self.needed & mask(page);
                assert_eq!(needed & !bits, 0, "a crash would forget extents");
                assert!(
                    !self.log.is_cold() || bits == 0,
                    "cold, but not on the disk"
                );
            }
        }
        let waiting = self.requests.iter().any(|request| !request.started);
        assert!(!waiting || self.log.anyone_waits());
        let figures = self.log.figures();
        assert!(
            figures.hot >= shown.count_ones(),
            "an extent that may be hot on the disk counts as cold"
        );
        assert_eq!(self.log.is_cold(), figures.hot == 0);
    }

    /// Faults stop: everybody gets through, and everything gets cold.
    fn settle(mut self) {
        while !self.under_way.is_empty() {
            self.committed(0);
        }
        for _ in 0..2 {
            if self.begin() {
                self.committed(0);
            }
        }
        assert!(
            self.requests.iter().all(|request| request.started),
            "a request waits for more than the next commit of its pages"
        );
        assert!(!self.log.anyone_waits());
        self.end_cooling(true);
        while !self.requests.is_empty() {
            self.leave(0);
        }
        self.log.drain(true);
        if self.cool() {
            self.end_cooling(true);
        }
        while self.begin() {
            self.committed(0);
        }
        self.check();
        assert!(self.log.is_cold() && self.needed == 0);
        assert_eq!(self.log.next_due(), None);
    }
}

proptest! {
    #[test]
    fn a_crash_at_any_moment_finds_every_extent_in_doubt(
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
    }

    /// Without a hand on the clock or on the cooling: the log asks for both itself.
    #[test]
    fn left_alone_a_log_gets_cold(
        writes in proptest::collection::vec((0..WINDOW, 0u64..3_000_000), 1..60),
    ) {
        let mut world = World::new();
        for (extent, pause) in writes {
            world.step(Step::Enter(extent, 1));
            while world.begin() {
                world.committed(0);
            }
            prop_assert!(world.requests[0].started);
            world.step(Step::Leave(0));
            world.step(Step::Tick(pause));
        }
        let end = world.now + 20_000_000;
        // A sweep every five seconds, and a cooling of what each finds.
        for _ in 0..20 {
            let Some(due) = world.log.next_due() else {
                break;
            };
            world.now = world.now.max(due);
            if world.cool() {
                world.end_cooling(true);
            }
            while world.begin() {
                world.committed(0);
            }
            world.check();
        }
        prop_assert!(world.log.is_cold());
        prop_assert!(world.now <= end);
    }
}
