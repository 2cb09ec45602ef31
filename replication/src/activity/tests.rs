mod load;
mod model;

use super::*;
use core::iter;
use std::vec::Vec;

const SECOND: u64 = 1_000_000;

/// Ends every commit that is due.
fn commit_all(log: &mut ActivityLog) -> u32 {
    let mut commits = 0;
    while let Some(commit) = log.next_commit() {
        log.committed(commit);
        commits += 1;
    }
    commits
}

#[test]
fn a_first_write_waits_for_its_extent_and_a_second_does_not() {
    let mut log = ActivityLog::new(100 * EXTENT, 10);
    assert!(!log.enter(0, EXTENT - 512, 1024));
    assert!(log.anyone_waits() && !log.ready(EXTENT - 512, 1024));
    let commit = log.next_commit().unwrap();
    assert_eq!(
        (commit.page, commit.copy, commit.sequence),
        (0, PageCopy::A, 1)
    );
    assert_eq!(log.next_commit(), None, "one at a time");
    let mut words = [7; PAGE_WORDS];
    log.fill(commit, &mut words);
    assert_eq!((words[0], words[1]), (0b11, 0));
    assert!(!log.ready(EXTENT - 512, 1024));
    log.committed(commit);
    assert!(log.ready(EXTENT - 512, 1024) && !log.anyone_waits());
    assert!(log.enter(0, 0, 512));
    log.leave(0, 512);
    log.leave(EXTENT - 512, 1024);
    assert_eq!(log.figures().hot, 2);
}

#[test]
fn those_who_come_while_a_commit_is_under_way_share_the_next() {
    let mut log = ActivityLog::new(1000 * EXTENT, 10);
    assert!(!log.enter(0, 0, 1));
    let first = log.next_commit().unwrap();
    for n in 1..1000 {
        assert!(!log.enter(0, n * EXTENT, 1));
    }
    log.committed(first);
    assert!(log.ready(0, 1) && !log.ready(EXTENT, 1));
    let second = log.next_commit().unwrap();
    assert_eq!((second.copy, second.sequence), (PageCopy::B, 2));
    log.committed(second);
    assert!((0..1000).all(|n| log.ready(n * EXTENT, 1)));
}

#[test]
fn idle_extents_cool_after_ten_seconds() {
    let mut log = ActivityLog::new(100 * EXTENT, 10);
    log.enter(0, 0, 1);
    commit_all(&mut log);
    assert_eq!(log.next_due(), None, "a request is in");
    log.leave(0, 1);
    let (mut now, mut tries) = (0, 1);
    while log.begin_cooling(now).is_none() {
        now = log.next_due().unwrap();
        tries += 1;
        assert!(tries < 5, "asked for in vain");
    }
    assert!((10 * SECOND..17 * SECOND).contains(&now), "{now}");
    assert!(log.cooling().eq(iter::once(0..EXTENT)));
    log.end_cooling(true);
    assert!(!log.is_cold());
    assert_eq!(commit_all(&mut log), 1);
    assert!(log.is_cold() && log.next_due().is_none());
}

#[test]
fn a_write_cancels_the_cooling_of_its_extent_and_of_no_other() {
    let mut log = ActivityLog::new(100 * EXTENT, 10);
    log.enter(0, 0, 2 * EXTENT);
    commit_all(&mut log);
    log.leave(0, 2 * EXTENT);
    log.drain(true);
    assert_eq!(log.begin_cooling(0), Some(2));
    assert!(log.enter(0, 0, 1), "still hot");
    log.leave(0, 1);
    assert!(log.cooling().eq(iter::once(EXTENT..2 * EXTENT)));
    log.end_cooling(true);
    commit_all(&mut log);
    assert!(log.ready(0, 1) && !log.ready(EXTENT, 1));
    assert_eq!(log.begin_cooling(0), Some(1));
    log.end_cooling(true);
    assert!(log.enter(0, 0, 1), "cooled but not yet removed");
    assert_eq!(log.next_commit(), None);
    log.leave(0, 1);
}

#[test]
fn a_failed_cooling_is_tried_again_in_a_second_with_the_oldest_first() {
    let mut log = ActivityLog::new(100 * EXTENT, 4);
    for n in 0..5 {
        log.enter(0, n * EXTENT, 1);
        commit_all(&mut log);
        log.leave(n * EXTENT, 1);
    }
    assert_eq!(log.begin_cooling(0), Some(2), "to three quarters");
    assert!(log.cooling().eq([0..EXTENT, EXTENT..2 * EXTENT]));
    assert_eq!(log.begin_cooling(0), None, "one at a time");
    log.end_cooling(false);
    assert_eq!(commit_all(&mut log), 0);
    assert_eq!(log.next_due(), Some(SECOND));
    assert_eq!(log.begin_cooling(SECOND - 1), None);
    assert_eq!(log.begin_cooling(SECOND), Some(2));
    assert!(log.cooling().eq([0..EXTENT, EXTENT..2 * EXTENT]));
    log.end_cooling(true);
    assert_eq!(commit_all(&mut log), 1);
    let figures = log.figures();
    assert_eq!((figures.hot, figures.cooled, figures.waits), (3, 2, 5));
}

#[test]
fn a_write_into_an_extent_that_is_being_removed_waits_until_it_is_back() {
    let mut log = ActivityLog::new(100 * EXTENT, 10);
    log.enter(0, 0, 1);
    commit_all(&mut log);
    log.leave(0, 1);
    log.drain(true);
    log.begin_cooling(0);
    log.end_cooling(true);
    let removal = log.next_commit().unwrap();
    assert!(!log.enter(0, 0, 1));
    log.committed(removal);
    assert!(!log.ready(0, 1));
    commit_all(&mut log);
    assert!(log.ready(0, 1));
}

#[test]
fn a_failed_commit_comes_again_to_the_same_place() {
    let mut log = ActivityLog::new(100 * EXTENT, 10);
    log.enter(0, 0, 1);
    commit_all(&mut log);
    log.enter(0, EXTENT, 1);
    let failing = log.next_commit().unwrap();
    log.failed(failing);
    assert!(log.ready(0, 1) && !log.ready(EXTENT, 1));
    let again = log.next_commit().unwrap();
    assert_eq!(again.copy, failing.copy);
    assert!(again.sequence > failing.sequence);
    log.committed(again);
    assert!(log.ready(0, 2 * EXTENT));
}

#[test]
fn a_loaded_log_shows_its_ranges_and_cools() {
    let size = PAGE_EXTENTS * EXTENT + 3 * EXTENT + 512;
    let mut log = ActivityLog::new(size, 10);
    assert_eq!(log.pages(), 2);
    let mut words = [0; PAGE_WORDS];
    words[0] = 0b0110;
    words[PAGE_WORDS - 1] = 1 << 63;
    log.load(0, PageCopy::A, 8, &words);
    log.load_damaged(1, 0);
    log.load(2, PageCopy::A, 8, &words);
    let last = (PAGE_EXTENTS - 1) * EXTENT;
    let ranges: Vec<_> = log.hot_ranges().collect();
    assert_eq!(ranges, [EXTENT..3 * EXTENT, last..size]);
    assert!(log.enter(0, EXTENT, 512));
    log.leave(EXTENT, 512);
    assert_eq!(log.begin_cooling(SECOND), Some(6));
    log.end_cooling(true);
    let commit = log.next_commit().unwrap();
    assert_eq!((commit.copy, commit.sequence), (PageCopy::B, 9));
    log.committed(commit);
    commit_all(&mut log);
    assert!(log.hot_ranges().eq(iter::once(EXTENT..2 * EXTENT)));
}

#[test]
fn the_limit_follows_disk_and_memory() {
    assert_eq!(limit_for(512, 0), 1);
    assert_eq!(limit_for(1 << 30, 64 << 20), 256);
    assert_eq!(limit_for(8 << 30, 64 << 20), 1024);
    assert_eq!(limit_for(100 << 30, 64 << 20), 3200);
    assert_eq!(limit_for(16 << 40, 64 << 20), 8192);
    assert_eq!(limit_for(16 << 40, 1 << 40), 8192);
    assert_eq!(limit_for(8 << 30, 1 << 40), 2048);
}
