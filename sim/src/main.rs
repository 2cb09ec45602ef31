#![forbid(unsafe_code)]
//! Runs seeds: `sim --seeds A..B [--jobs N] [--steps N] [--mutation NAME]`, or one: `sim --seed N --trace`.

use sim::stats::{Kind, LONG_RUN, Stats};
use sim::{MUTATIONS, Options, run_seed};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    static SEED: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

const USAGE: &str = "usage: sim --seeds A..B [--jobs N] [--steps N] [--mutation NAME]\n       \
                     sim --seed N [--trace] [--steps N] [--mutation NAME]";

struct Arguments {
    seeds: std::ops::Range<u64>,
    jobs: usize,
    keep_going: bool,
    options: Options,
    mutation: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut all = std::env::args().skip(1);
    let mut parsed = Arguments {
        seeds: 0..0,
        jobs: 1,
        keep_going: false,
        options: Options::default(),
        mutation: None,
    };
    while let Some(word) = all.next() {
        let mut value = || all.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("--seeds wants A..B")?;
                parsed.seeds = number(from.into())?..number(to.into())?;
            }
            "--seed" => {
                let seed = number(value()?)?;
                parsed.seeds = seed..seed + 1;
            }
            "--jobs" => parsed.jobs = number(value()?)?.max(1) as usize,
            "--steps" => parsed.options.steps = number(value()?)?,
            "--trace" => parsed.options.trace = true,
            "--keep-going" => parsed.keep_going = true,
            "--mutation" => {
                let name = value()?;
                let found = MUTATIONS.iter().find(|(n, _)| *n == name);
                parsed.options.mutation = Some(found.ok_or(format!("no mutation {name}"))?.1);
                parsed.mutation = Some(name);
            }
            other => return Err(format!("what is {other}?")),
        }
    }
    if parsed.seeds.is_empty() {
        return Err("no seeds".into());
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    name_the_seed_of_a_panic(&arguments);
    let began = Instant::now();
    let next = AtomicU64::new(arguments.seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Stats::default(), 0_u64));
    let work = || {
        let mut stats = Stats::default();
        let mut failures = 0;
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end {
                break;
            }
            SEED.set(Some(seed));
            let run = || run_seed(seed, &arguments.options);
            // A panic was reported by the hook; in a build that aborts nothing comes back.
            let Ok(outcome) = std::panic::catch_unwind(run) else {
                failures += 1;
                if !arguments.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
                continue;
            };
            stats.add(&outcome.stats);
            if let Some(violation) = outcome.violation {
                failures += 1;
                report(seed, &arguments, violation.rule, &violation.detail);
                if !arguments.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        if let Ok(mut total) = total.lock() {
            total.0.add(&stats);
            total.1 += failures;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(work);
        }
    });
    let Ok((stats, failures)) = total.into_inner() else {
        return ExitCode::FAILURE;
    };
    let seconds = began.elapsed().as_secs_f64();
    let count = arguments.seeds.end - arguments.seeds.start;
    print!("{}", stats.table());
    println!(
        "{count} seeds, {failures} failed, {seconds:.1} s, {} events",
        stats.get(Kind::Steps)
    );
    let missing = stats.missing();
    if failures == 0 && count >= LONG_RUN && !missing.is_empty() {
        println!("FAILED: never drawn in a long run: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Panics (broken invariants of the engine) end the process at once in release builds; the seed
/// is told before.
fn name_the_seed_of_a_panic(arguments: &Arguments) {
    let options = replay_options(arguments);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        if let Some(seed) = SEED.get() {
            println!(
                "FAILED: seed {seed}\n  rule:   no invariant of the engine breaks (see above)"
            );
            println!("  replay: {}", replay(seed, &options));
        }
    }));
}

fn replay_options(arguments: &Arguments) -> String {
    let mut text = String::new();
    if arguments.options.steps != sim::STEPS {
        text += &format!(" --steps {}", arguments.options.steps);
    }
    if let Some(name) = &arguments.mutation {
        text += &format!(" --mutation {name}");
    }
    text
}

fn replay(seed: u64, options: &str) -> String {
    format!("cargo run -p sim --release -- --seed {seed} --trace{options}")
}

fn report(seed: u64, arguments: &Arguments, rule: &str, detail: &str) {
    let replay = replay(seed, &replay_options(arguments));
    println!("FAILED: seed {seed}\n  rule:   {rule}\n  seen:   {detail}\n  replay: {replay}");
}
