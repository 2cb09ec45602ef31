//! Many runs on several threads.

use crate::Arguments;
use crate::report::Report;
use sim::stats::{Kind, LONG_RUN, Stats};
use sim::{Outcome, run_seed};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// What came of a campaign.
#[derive(Debug, Default)]
struct Totals {
    stats: Stats,
    runs: u64,
    failures: u64,
}

/// Runs the seeds; answers whether all is well.
pub(crate) fn run(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let report = Report::new(arguments);
    report_panics(report.clone());
    let totals = run_all(arguments, &report, |seed| {
        run_seed(seed, &arguments.options)
    });
    let Some(Totals {
        stats,
        runs,
        failures,
    }) = totals
    else {
        return false;
    };
    let seconds = began.elapsed().as_secs_f64();
    let rate = runs as f64 * 60.0 / seconds / arguments.jobs as f64;
    if arguments.shrink {
        print!("{}", stats.table());
    }
    println!(
        "{runs} seeds, {failures} failed, {seconds:.1} s ({rate:.0} a minute and job), {} events",
        stats.get(Kind::Steps)
    );
    let missing = stats.missing();
    if failures == 0 && runs >= LONG_RUN && arguments.mutation.is_none() && !missing.is_empty() {
        println!("FAILED: never drawn in a long run: {}", missing.join(", "));
        return false;
    }
    failures == 0
}

/// Runs each seed by `run`; a panic fails its seed and no other one. `None`: a thread ended early.
fn run_all(
    arguments: &Arguments,
    report: &Report,
    run: impl Fn(u64) -> Outcome + Sync,
) -> Option<Totals> {
    let next = AtomicU64::new(arguments.seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Totals::default());
    let work = || {
        let mut mine = Totals::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end {
                break;
            }
            SEED.set(Some(seed));
            // Nothing of a run outlives it, so nothing half changed is seen afterwards.
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
            mine.runs += 1;
            let violation = match outcome {
                Ok(outcome) => {
                    mine.stats.add(&outcome.stats);
                    outcome.violation
                }
                Err(_) => {
                    // The hook has told of it.
                    mine.failures += 1;
                    stop.fetch_or(!arguments.keep_going, Ordering::Relaxed);
                    continue;
                }
            };
            if let Some(violation) = violation {
                mine.failures += 1;
                // Before it prints: no other thread begins a new seed meanwhile.
                stop.fetch_or(!arguments.keep_going, Ordering::Relaxed);
                report.failed(seed, violation.rule, &violation.detail);
            }
        }
        if let Ok(mut total) = total.lock() {
            total.stats.add(&mine.stats);
            total.failures += mine.failures;
            total.runs += mine.runs;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(work);
        }
    });
    total.into_inner().ok()
}

/// Panics (broken invariants of the engine) are reported where they happen: a build that aborts at a panic
/// (`--release`) ends with it.
fn report_panics(report: Report) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        if let Some(seed) = SEED.get() {
            let detail = info.to_string().replace('\n', " ");
            report.failed(seed, "no invariant of the engine breaks", &detail);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &str) -> Arguments {
        let words = words.split(' ').map(String::from);
        Arguments::read(words).expect("good arguments")
    }

    fn broken_at(seed: u64, arguments: &Arguments) -> Totals {
        let run = |s| {
            assert_ne!(s, seed, "an invariant that is broken");
            Outcome {
                stats: Stats::default(),
                violation: None,
            }
        };
        run_all(arguments, &Report::new(arguments), run).expect("threads end by themselves")
    }

    #[test]
    fn a_panic_fails_its_seed_and_no_other() {
        let totals = broken_at(3, &arguments("--seeds 0..9 --keep-going --no-shrink"));
        assert_eq!((totals.runs, totals.failures), (9, 1));
    }

    #[test]
    fn a_panic_ends_the_run_like_any_failure() {
        let totals = broken_at(3, &arguments("--seeds 0..9 --no-shrink"));
        assert_eq!((totals.runs, totals.failures), (4, 1));
    }
}
