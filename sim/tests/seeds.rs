//! Seeds that once failed stay fixed, the same seed gives the same run, and a few hundred fresh
//! ones pass.

use sim::drill::DRILLS;
use sim::{Options, run_seed};

#[test]
fn saved_seeds_pass() {
    let saved = include_str!("../seeds.txt");
    for line in saved.lines() {
        let Some(word) = line
            .split('#')
            .next()
            .and_then(|l| l.split_whitespace().next())
        else {
            continue;
        };
        let seed = word.parse().expect("a seed per line");
        let outcome = run_seed(seed, &Options::default());
        assert_eq!(outcome.violation, None, "saved seed {seed}: {line}");
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..5 {
        let table = || run_seed(seed, &Options::default()).stats.table();
        assert_eq!(table(), table(), "seed {seed}");
    }
}

#[test]
fn drills_pass() {
    for seed in DRILLS {
        let outcome = run_seed(seed, &Options::default());
        assert_eq!(outcome.violation, None, "drill {seed}");
    }
}

#[test]
fn fresh_seeds_pass() {
    for seed in 0..200 {
        let outcome = run_seed(seed, &Options::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}
