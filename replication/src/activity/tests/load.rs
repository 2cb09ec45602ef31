//! The log under load: what waits, what it costs, and that it never stands still.

use super::super::*;
use super::commit_all;
use std::collections::VecDeque;

/// A generator of numbers that is good enough to scatter writes (xorshift).
struct Scatter(u64);

impl Scatter {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[derive(Debug)]
struct Outcome {
    commits: u64,
    coolings: u64,
    waits: u64,
    /// The most extents that were hot at once.
    peak: u32,
}

/// `writes` random writes of 4 KiB over a cold volume, `depth` at once. A write takes 100 us,
/// a commit 1 ms, a cooling 20 ms.
fn scatter(volume: u64, limit: u32, depth: usize, writes: u64) -> Outcome {
    let mut log = ActivityLog::new(volume, limit);
    let mut random = Scatter(1);
    let mut waiting: VecDeque<u64> = VecDeque::new();
    let mut running: VecDeque<(u64, u64)> = VecDeque::new();
    let mut commits: VecDeque<(u64, Commit)> = VecDeque::new();
    let mut cooling_until = None;
    let (mut now, mut started, mut ended) = (0, 0, 0);
    let mut outcome = Outcome {
        commits: 0,
        coolings: 0,
        waits: 0,
        peak: 0,
    };
    while ended < writes {
        now += 100;
        assert!(now < writes * 2_000, "no progress: {ended} of {writes}");
        while running.front().is_some_and(|(at, _)| *at <= now) {
            let (_, offset) = running.pop_front().unwrap();
            log.leave(offset, 4096);
            ended += 1;
        }
        while started < writes && running.len() + waiting.len() < depth {
            let offset = random.next() % (volume / 4096) * 4096;
            started += 1;
            if log.enter(now, offset, 4096) {
                running.push_back((now + 100, offset));
            } else {
                waiting.push_back(offset);
            }
        }
        while commits.front().is_some_and(|(at, _)| *at <= now) {
            let (_, commit) = commits.pop_front().unwrap();
            log.committed(commit);
            waiting.retain(|&offset| {
                let ready = log.ready(offset, 4096);
                if ready {
                    running.push_back((now + 100, offset));
                }
                !ready
            });
        }
        while let Some(commit) = log.next_commit() {
            commits.push_back((now + 1_000, commit));
        }
        if cooling_until.is_some_and(|at| at <= now) {
            log.end_cooling(true);
            cooling_until = None;
        }
        if log.begin_cooling(now).is_some() {
            cooling_until = Some(now + 20_000);
            outcome.coolings += 1;
        }
        outcome.peak = outcome.peak.max(log.figures().hot);
    }
    let figures = log.figures();
    (outcome.commits, outcome.waits) = (figures.commits, figures.waits);
    outcome
}

#[test]
fn random_writes_over_a_cold_disk_share_their_commits() {
    let outcome = scatter(100 << 30, 1024, 64, 50_000);
    assert!(outcome.waits > 40_000, "the disk stays cold: {outcome:?}");
    assert!(outcome.commits < 50_000 / 20, "{outcome:?}");
    // One in 120 ms, a commit with 64 writes in 1.1 ms.
    assert!(outcome.coolings < 20, "{outcome:?}");
    // 120 ms of at most 64 new extents a commit.
    assert!(outcome.peak < 1024 + 120 * 64, "{outcome:?}");
}

#[test]
fn more_requests_than_the_limit_go_on() {
    let outcome = scatter(100 << 30, 1, 256, 50_000);
    assert!(outcome.commits < 50_000 / 60, "{outcome:?}");
}

#[test]
fn a_working_set_below_the_limit_waits_once_an_extent() {
    let outcome = scatter(1 << 30, 256, 16, 50_000);
    assert!(outcome.waits < 16 * 256, "{outcome:?}");
    assert!(outcome.commits <= 256, "{outcome:?}");
    assert_eq!(outcome.coolings, 0, "{outcome:?}");
}

#[test]
fn a_discard_of_more_than_the_limit_is_let_in_with_one_commit_a_page() {
    let size = 2 * PAGE_EXTENTS * EXTENT + 512;
    let mut log = ActivityLog::new(size, 4);
    assert!(!log.enter(0, 0, size));
    assert_eq!(
        log.begin_cooling(1 << 40),
        None,
        "a request is in all of it"
    );
    assert_eq!(commit_all(&mut log), 3);
    assert!(log.ready(0, size));
    log.leave(0, size);
    let hot = log.figures().hot;
    assert_eq!(u64::from(hot), 2 * PAGE_EXTENTS + 1);
    assert_eq!(log.begin_cooling(1 << 40), Some(hot - 3));
    log.end_cooling(true);
    commit_all(&mut log);
    assert_eq!(log.figures().hot, 3);
}

/// Others heat and cool all they can while a wide request waits for its pages, one after the other.
#[test]
fn a_wide_request_is_not_starved() {
    let mut log = ActivityLog::new(2 * PAGE_EXTENTS * EXTENT, 1);
    let edge = PAGE_EXTENTS * EXTENT;
    assert!(!log.enter(0, edge - EXTENT, 2 * EXTENT));
    for now in 0..2 {
        log.enter(now * 1_000_000, edge - EXTENT, 512);
        log.leave(edge - EXTENT, 512);
        if log.begin_cooling(now * 1_000_000).is_some() {
            log.end_cooling(true);
        }
        let commit = log.next_commit().unwrap();
        log.committed(commit);
    }
    assert!(log.ready(edge - EXTENT, 2 * EXTENT));
}

#[test]
fn nothing_is_allocated_after_construction() {
    let mut log = ActivityLog::new(100 << 30, 64);
    let mut unflushed = Unflushed::new(100 << 30);
    let mut random = Scatter(1);
    let info = allocation_counter::measure(|| {
        for now in 0..10_000 {
            let offset = random.next() % (99 << 30);
            log.enter(now * 1000, offset, 8 << 20);
            unflushed.mark(offset, 8 << 20);
            commit_all(&mut log);
            log.leave(offset, 8 << 20);
            if log.begin_cooling(now * 1000).is_some() {
                log.end_cooling(now % 3 != 0);
                unflushed.begin_flush();
            }
            if unflushed.is_flushing() && now % 5 == 0 {
                unflushed.flushed();
            }
        }
        log.reset();
        unflushed.lost();
        unflushed.clear();
    });
    assert_eq!(info.count_total, 0);
}

/// Sequential writes with a commit that ends a few writes after it began.
fn stream(log: &mut ActivityLog, from: u64, bytes: u64) -> u64 {
    const LEN: u64 = 128 << 10;
    let waits = log.figures().waits;
    let mut under_way = None;
    for n in 0..bytes / LEN {
        let offset = from + n * LEN;
        if !log.enter(n * 400, offset, LEN) || n % 8 == 0 {
            if let Some(commit) = under_way.take() {
                log.committed(commit);
            }
            if !log.ready(offset, LEN) {
                commit_all(log);
            }
            under_way = log.next_commit();
        }
        log.leave(offset, LEN);
    }
    if let Some(commit) = under_way.take() {
        log.committed(commit);
    }
    log.figures().waits - waits
}

#[test]
fn a_sequential_writer_finds_its_extents_hot() {
    let mut log = ActivityLog::new(4 << 30, 512);
    assert_eq!(stream(&mut log, 0, 1 << 30), 2, "the first two");
    let figures = log.figures();
    assert!(figures.commits < 256 / 3, "{figures:?}");
    assert!(figures.hot <= 256 + 8, "{figures:?}");
    let end = (4 << 30) - (64 << 20);
    assert_eq!(stream(&mut log, end, 64 << 20), 2, "the volume ends");
    assert_eq!(log.figures().hot, figures.hot + 16);
    let mut narrow = ActivityLog::new(4 << 30, 3);
    assert_eq!(
        stream(&mut narrow, 0, 1 << 30),
        256,
        "no room to look ahead"
    );
}

#[test]
fn a_stream_that_stays_in_its_extent_heats_no_other() {
    let mut log = ActivityLog::new(4 << 30, 512);
    for _ in 0..10 {
        stream(&mut log, EXTENT, EXTENT);
    }
    assert_eq!(log.figures().hot, 1);
}

#[test]
fn nothing_is_heated_ahead_while_draining() {
    let mut log = ActivityLog::new(4 << 30, 512);
    log.drain(true);
    assert_eq!(stream(&mut log, 0, 64 << 20), 16);
    assert_eq!(log.figures().hot, 16);
}
