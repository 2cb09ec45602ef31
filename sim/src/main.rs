#![forbid(unsafe_code)]
//! The simulator's command line; see `USAGE` and docs/SIMULATOR.md.

mod campaign;
mod mutants;
mod report;

use sim::record;
use sim::{MUTATIONS, Options};
use std::process::ExitCode;

const USAGE: &str = "usage: sim --seeds A..B [--jobs N] [--keep-going] [OPTIONS]   many runs; stops at the first failure
       sim --seed N [--trace] [--only LIST] [OPTIONS]         one run
       sim mutations [NAME...] [--seeds A..B]                 proves that the oracle notices deliberate defects
OPTIONS: --steps N        events before faults end
         --mutation NAME  with a deliberate defect
         --fencing        with a fencing policy, an arbiter and a management network
         --snapshots      with snapshots before resyncs, and rollbacks
         --no-shrink      does not look for the smallest schedule that fails
         --only LIST      of what the seed draws, only this (as a shrunk failure prints it; none for nothing)";

/// What was asked for.
#[derive(Debug)]
struct Arguments {
    seeds: std::ops::Range<u64>,
    jobs: usize,
    keep_going: bool,
    shrink: bool,
    options: Options,
    mutation: Option<String>,
    /// `mutations`, with the names wanted (none: all).
    mutants: Option<Vec<String>>,
}

impl Arguments {
    fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words.peekable();
        let mut parsed = Self {
            seeds: 0..0,
            jobs: 1,
            keep_going: false,
            shrink: true,
            options: Options::default(),
            mutation: None,
            mutants: None,
        };
        if words.next_if(|w| w == "mutations").is_some() {
            parsed.seeds = mutants::SEEDS;
            parsed.mutants = Some(Vec::new());
        }
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
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
                "--fencing" => parsed.options.fencing = true,
                "--snapshots" => parsed.options.snapshots = true,
                "--keep-going" => parsed.keep_going = true,
                "--no-shrink" => parsed.shrink = false,
                "--only" => parsed.options.only = Some(record::parse(&value()?)?),
                "--mutation" => parsed.mutate(value()?)?,
                name => match &mut parsed.mutants {
                    Some(names) if !name.starts_with('-') => names.push(name.into()),
                    _ => return Err(format!("what is {name}?")),
                },
            }
        }
        if parsed.seeds.is_empty() {
            return Err("no seeds".into());
        }
        Ok(parsed)
    }

    fn mutate(&mut self, name: String) -> Result<(), String> {
        if let Some((_, mutation)) = MUTATIONS.iter().find(|(n, _)| *n == name) {
            self.options.mutation = Some(*mutation);
        } else if !mutants::select(&name) {
            return Err(format!(
                "no mutation {name} (those of the engine need --features mutations)"
            ));
        }
        // Defects of fencing show only with it.
        self.options.fencing |= name.starts_with(mutants::FENCING);
        self.mutation = Some(name);
        Ok(())
    }

    /// The options that a replay needs, as words.
    fn replay_options(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.options.steps != sim::STEPS {
            words.extend(["--steps".into(), self.options.steps.to_string()]);
        }
        if self.options.fencing {
            words.push("--fencing".into());
        }
        if self.options.snapshots {
            words.push("--snapshots".into());
        }
        if let Some(name) = &self.mutation {
            words.extend(["--mutation".into(), name.clone()]);
        }
        words
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let fine = match &arguments.mutants {
        Some(names) => mutants::run(names, &arguments),
        None => campaign::run(&arguments),
    };
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
