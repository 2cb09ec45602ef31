//! Many runs on several threads.

use crate::Arguments;
use crate::report::Report;
use sim::run_seed;
use sim::stats::{Kind, LONG_RUN, Stats};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs the seeds; answers whether all is well.
pub(crate) fn run(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let report = Report::new(arguments);
    report_panics(report.clone());
    let next = AtomicU64::new(arguments.seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Stats::default(), 0_u64, 0_u64));
    let work = || {
        let mut stats = Stats::default();
        let (mut failures, mut runs) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end {
                break;
            }
            SEED.set(Some(seed));
            let outcome = run_seed(seed, &arguments.options);
            runs += 1;
            stats.add(&outcome.stats);
            if let Some(violation) = outcome.violation {
                failures += 1;
                // Before it prints: no other thread begins a new seed meanwhile.
                stop.fetch_or(!arguments.keep_going, Ordering::Relaxed);
                report.failed(seed, violation.rule, &violation.detail);
            }
        }
        if let Ok(mut total) = total.lock() {
            total.0.add(&stats);
            total.1 += failures;
            total.2 += runs;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(work);
        }
    });
    let Ok((stats, failures, runs)) = total.into_inner() else {
        return false;
    };
    if arguments.shrink {
        let seconds = began.elapsed().as_secs_f64();
        let rate = runs as f64 * 60.0 / seconds / arguments.jobs as f64;
        print!("{}", stats.table());
        println!(
            "{runs} seeds, {failures} failed, {seconds:.1} s ({rate:.0} a minute and job), {} events",
            stats.get(Kind::Steps)
        );
    }
    let missing = stats.missing();
    if failures == 0 && runs >= LONG_RUN && arguments.mutation.is_none() && !missing.is_empty() {
        println!("FAILED: never drawn in a long run: {}", missing.join(", "));
        return false;
    }
    failures == 0
}

/// Panics (broken invariants of the engine) end the process at once in release builds; the seed
/// is told before.
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
