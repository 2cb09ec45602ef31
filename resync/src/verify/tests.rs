use super::*;
use alloc::{vec, vec::Vec};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn options(start: u64, stop: u64, repair: bool) -> VerifyOptions {
    VerifyOptions {
        start,
        stop,
        repair,
    }
}

#[test]
fn start_and_stop_are_extended_to_whole_blocks_and_kept_to_the_volume() {
    let verify = Verify::new(10 * BLOCK + 512, options(BLOCK + 1, 3 * BLOCK + 1, false));
    assert_eq!(
        (verify.position(), verify.total_bytes()),
        (BLOCK, 3 * BLOCK)
    );
    let verify = Verify::new(10 * BLOCK + 512, options(9 * BLOCK, u64::MAX, false));
    assert_eq!(verify.total_bytes(), BLOCK + 512);
    // A start behind the end of a volume whose last block is partial leaves nothing, whole or partial.
    let verify = Verify::new(10 * BLOCK + 512, options(12 * BLOCK, 1, false));
    assert_eq!((verify.total_bytes(), verify.left_bytes()), (0, 0));
    let mut verify = Verify::new(10 * BLOCK, options(11 * BLOCK, 5 * BLOCK, false));
    assert!(verify.is_done() && verify.next(MAX_RUN).is_none());
}

#[test]
fn only_the_differing_blocks_are_reported_and_marked() {
    for repair in [false, true] {
        let mut dirty = Bitmap::new(MIB);
        let mut verify = Verify::new(MIB, options(0, MIB, repair));
        let first = verify.next(MAX_RUN).unwrap();
        let second = verify.next(MAX_RUN).unwrap();
        verify.compared(second, 1, &mut dirty);
        verify.compared(first, 1 << 31 | 1, &mut dirty);
        let edge = u64::from(MAX_RUN);
        assert_eq!(
            verify.differing().listed(),
            [0..BLOCK, edge - BLOCK..edge + BLOCK]
        );
        assert_eq!(verify.differing_blocks(), 3);
        assert_eq!(dirty.count(), if repair { 3 } else { 0 });
        verify.compared(first, u32::MAX, &mut dirty);
        assert_eq!(
            verify.differing_blocks(),
            3,
            "an answer that nobody waits for"
        );
    }
}

#[test]
fn what_cannot_be_read_is_named_apart() {
    let mut verify = Verify::new(MIB, VerifyOptions::default());
    let run = verify.next(MAX_RUN).unwrap();
    verify.unreadable(run, Side::Peer);
    verify.unreadable(run, Side::Here);
    assert_eq!(verify.unreadable_ranges(Side::Peer).bytes(), 128 << 10);
    assert_eq!(verify.unreadable_ranges(Side::Here).bytes(), 0);
    assert_eq!(verify.differing().bytes(), 0);
    assert_eq!(verify.left_bytes(), MIB - (128 << 10));
}

#[test]
fn the_window_is_bounded() {
    let mut verify = Verify::new(64 * MIB, VerifyOptions::default());
    let given = core::iter::from_fn(|| verify.next(MAX_RUN)).count();
    assert_eq!(given, VERIFY_IN_FLIGHT);
    assert_eq!(verify.in_flight(), VERIFY_IN_FLIGHT);
}

proptest! {
    /// Whatever order answers come in, however often the link breaks: every block is compared once, the
    /// position never passes one that was not, and differences are counted once.
    #[test]
    fn every_block_is_compared_exactly_once(
        size in 1u64..8_000_000,
        start in 0u64..9_000_000, stop in 0u64..9_000_000,
        steps in proptest::collection::vec((0u8..8, any::<prop::sample::Index>(), 1u32..200_000), 1..400),
        differs in any::<u32>(),
    ) {
        let mut verify = Verify::new(size, options(start, stop, true));
        let total = verify.total_bytes();
        let begin = verify.position();
        let mut seen = vec![0u32; size.div_ceil(BLOCK) as usize];
        let mut expected = Bitmap::new(size);
        let mut dirty = Bitmap::new(size);
        let mut flying: Vec<Run> = Vec::new();
        let finish = |verify: &mut Verify, dirty: &mut Bitmap, expected: &mut Bitmap,
                      seen: &mut Vec<u32>, run: Run| {
            for part in run.select(differs) {
                expected.set_range(part.offset, u64::from(part.len));
            }
            for block in run.offset / BLOCK..(run.offset + u64::from(run.len)).div_ceil(BLOCK) {
                seen[block as usize] += 1;
            }
            verify.compared(run, differs, dirty);
        };
        for (kind, pick, max) in steps {
            match kind {
                0..4 => flying.extend(verify.next(max)),
                4..7 if !flying.is_empty() => {
                    let run = flying.swap_remove(pick.index(flying.len()));
                    finish(&mut verify, &mut dirty, &mut expected, &mut seen, run);
                }
                7 => {
                    verify.link_lost();
                    flying.clear();
                }
                _ => {}
            }
            let before = begin / BLOCK..verify.position() / BLOCK;
            prop_assert!(before.clone().all(|block| seen[block as usize] == 1));
            prop_assert_eq!(verify.in_flight(), flying.len());
        }
        for _ in 0..10_000 {
            flying.extend(verify.next(MAX_RUN));
            let Some(run) = flying.pop() else { break };
            finish(&mut verify, &mut dirty, &mut expected, &mut seen, run);
        }
        prop_assert!(verify.is_done());
        prop_assert_eq!(verify.left_bytes(), 0);
        prop_assert_eq!(seen.iter().map(|n| u64::from(*n)).sum::<u64>(), total.div_ceil(BLOCK));
        prop_assert!(seen.iter().all(|n| *n <= 1));
        prop_assert_eq!(dirty.words(), expected.words());
        prop_assert_eq!(verify.differing_blocks(), expected.count());
        prop_assert_eq!(verify.differing().bytes(), expected.dirty_bytes());
    }
}

/// A pair under load: writes reach the two disks at different times, runs are read from them at
/// different times, and the range lock is kept, or not.
struct Pair {
    random: u64,
    disks: [Vec<u64>; 2],
    /// First block, blocks, value, and on which disks it is already.
    writes: Vec<(u64, u64, u64, [bool; 2])>,
    /// A run and what was read of it.
    runs: Vec<(Run, [Option<Vec<u64>>; 2])>,
    obeys: bool,
}

impl Pair {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn overlaps(&self, first: u64, count: u64, runs: bool) -> bool {
        let hits = |other: u64, len: u64| first < other + len && other < first + count;
        self.writes.iter().any(|w| hits(w.0, w.1))
            || runs
                && self
                    .runs
                    .iter()
                    .any(|(r, _)| hits(r.offset / BLOCK, u64::from(r.len) / BLOCK))
    }

    fn step(&mut self, verify: &mut Verify, waiting: &mut Option<Run>, dirty: &mut Bitmap) {
        match self.draw(4) {
            0 => {
                let (first, count) = (self.draw(250), self.draw(6) + 1);
                let waits = waiting.is_some_and(|run| {
                    let (other, len) = (run.offset / BLOCK, u64::from(run.len) / BLOCK);
                    self.obeys && first < other + len && other < first + count
                });
                if !waits && !self.overlaps(first, count, self.obeys) {
                    let value = self.draw(u64::MAX);
                    self.writes.push((first, count, value, [false; 2]));
                }
            }
            1 if !self.writes.is_empty() => {
                let (at, disk) = (self.draw(self.writes.len() as u64), self.draw(2));
                let (first, count, value, done) = &mut self.writes[at as usize];
                done[disk as usize] = true;
                let blocks = *first as usize..(*first + *count) as usize;
                self.disks[disk as usize][blocks].fill(*value);
                if *done == [true; 2] {
                    self.writes.swap_remove(at as usize);
                }
            }
            2 => {
                *waiting = waiting.take().or_else(|| verify.next(MAX_RUN));
                if let Some(run) = *waiting {
                    let (first, count) = (run.offset / BLOCK, u64::from(run.len) / BLOCK);
                    if !(self.obeys && self.overlaps(first, count, false)) {
                        self.runs.push((run, [None, None]));
                        *waiting = None;
                    }
                }
            }
            3 if !self.runs.is_empty() => {
                let (at, disk) = (self.draw(self.runs.len() as u64), self.draw(2));
                let (run, read) = &mut self.runs[at as usize];
                let blocks = (run.offset / BLOCK) as usize;
                let bytes = &self.disks[disk as usize][blocks..blocks + run.len as usize / 4096];
                read[disk as usize].get_or_insert_with(|| bytes.to_vec());
                if let [Some(a), Some(b)] = read {
                    let differs = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
                    let mask = differs.fold(0, |mask, (i, _)| mask | 1 << i);
                    verify.compared(*run, mask, dirty);
                    self.runs.swap_remove(at as usize);
                }
            }
            _ => {}
        }
    }
}

/// Verifies 260 blocks of which number 258, which nobody writes to, differs from the beginning.
fn differing_under_load(seed: u64, obeys: bool) -> Vec<(u64, u64)> {
    let size = 260 * BLOCK;
    let mut pair = Pair {
        random: seed,
        disks: [vec![0; 260], vec![0; 260]],
        writes: Vec::new(),
        runs: Vec::new(),
        obeys,
    };
    pair.disks[1][258] = 1;
    let mut dirty = Bitmap::new(size);
    let mut verify = Verify::new(size, VerifyOptions::default());
    let mut waiting = None;
    let mut steps = 0;
    while !verify.is_done() {
        pair.step(&mut verify, &mut waiting, &mut dirty);
        steps += 1;
        assert!(steps < 100_000, "the verify never ends");
    }
    let listed = verify.differing().listed().iter();
    listed.map(|range| (range.start, range.end)).collect()
}

#[test]
fn under_load_only_what_differs_is_reported() {
    let mut false_positives = 0;
    for seed in 1..300 {
        assert_eq!(
            differing_under_load(seed, true),
            vec![(258 * BLOCK, 259 * BLOCK)],
            "seed {seed}"
        );
        false_positives += usize::from(differing_under_load(seed, false).len() > 1);
    }
    // The test bites: without the lock nearly every verify reports what is not so.
    assert!(false_positives > 200, "{false_positives}");
}

#[test]
fn a_run_that_found_no_memory_comes_again() {
    let mut verify = Verify::new(MIB, VerifyOptions::default());
    let run = verify.next(MAX_RUN).unwrap();
    verify.next(MAX_RUN).unwrap();
    verify.again(run);
    assert_eq!((verify.in_flight(), verify.position()), (1, 0));
    verify.compared(run, 1, &mut Bitmap::new(MIB));
    assert_eq!(verify.differing_blocks(), 0, "it is not in flight");
    assert_eq!(verify.next(MAX_RUN), Some(run));
}

#[test]
fn another_verify_forgets_the_one_before() {
    let mut verify = Verify::new(MIB, VerifyOptions::default());
    let run = verify.next(MAX_RUN).unwrap();
    verify.compared(run, 3, &mut Bitmap::new(MIB));
    let run = verify.next(MAX_RUN).unwrap();
    verify.unreadable(run, Side::Peer);
    verify.next(MAX_RUN);
    verify.restart(2 * MIB, options(MIB, u64::MAX, false));
    assert_eq!((verify.position(), verify.left_bytes()), (MIB, MIB));
    assert_eq!((verify.differing_blocks(), verify.in_flight()), (0, 0));
    assert_eq!(verify.differing().bytes(), 0);
    assert_eq!(verify.unreadable_ranges(Side::Peer).bytes(), 0);
}
