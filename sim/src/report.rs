//! What is printed of a failing seed: the rule, what was seen, the smallest schedule that still fails, and
//! the command that replays it.

use crate::Arguments;
use sim::record::{self, Entry, Id};
use std::process::Command;
use std::sync::Arc;

/// Runs that shrinking one failure may take.
const ATTEMPTS: usize = 400;

/// How failures of one campaign are reported.
#[derive(Debug, Clone)]
pub(crate) struct Report(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Vec<String>,
    shrink: bool,
    /// What was kept of what the seed draws, as the command line had it.
    only: Option<Vec<Id>>,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let only = arguments.options.only.as_ref();
        Self(Arc::new(Inner {
            options: arguments.replay_options(),
            shrink: arguments.shrink && !arguments.options.trace,
            only: only.map(|ids| ids.iter().copied().collect()),
        }))
    }

    /// A seed failed on this thread, just now.
    pub(crate) fn failed(&self, seed: u64, rule: &str, detail: &str) {
        let entries = record::entries();
        println!("FAILED: seed {seed}\n  rule:   {rule}\n  seen:   {detail}");
        if let Some(only) = &self.0.only {
            for entry in &entries {
                println!("  drawn:  {entry}");
            }
            println!("  replay: {}", self.replay(seed, Some(only)));
            return;
        }
        println!("  replay: {}", self.replay(seed, None));
        if self.0.shrink {
            self.shrink(seed, rule, &entries);
        }
        if cfg!(panic = "abort") && std::thread::panicking() {
            println!(
                "  this build ends at a panic; one by --profile sim goes on with --keep-going"
            );
        }
    }

    fn replay(&self, seed: u64, only: Option<&[Id]>) -> String {
        let mut text = format!("cargo run -p sim --profile sim -- --seed {seed}");
        if let Some(only) = only {
            text += &format!(" --only {}", record::list(only));
        }
        for word in &self.0.options {
            text += &format!(" {word}");
        }
        text + " --trace"
    }

    fn shrink(&self, seed: u64, rule: &str, entries: &[Entry]) {
        let all: Vec<Id> = entries.iter().map(|e| e.id).collect();
        let mut attempts = 0;
        let small = minimal(all.clone(), |ids| {
            attempts += 1;
            attempts <= ATTEMPTS
                && self
                    .output(seed, ids)
                    .contains(&format!("rule:   {rule}\n"))
        });
        println!(
            "  shrunk: {} of {} drawn events break the same rule ({attempts} runs):",
            small.len(),
            all.len()
        );
        let output = self.output(seed, &small);
        let found = output.find("FAILED: seed");
        print!("{}", found.map_or("  (not again)\n", |at| &output[at..]));
    }

    /// Runs a part of a seed in a process of its own, since a panic ends it.
    fn output(&self, seed: u64, only: &[Id]) -> String {
        let Ok(program) = std::env::current_exe() else {
            return String::new();
        };
        let output = Command::new(program)
            .args(["--seed", &seed.to_string(), "--only", &record::list(only)])
            .arg("--no-shrink")
            .args(&self.0.options)
            .output();
        output.map_or(String::new(), |o| {
            String::from_utf8_lossy(&o.stdout).into_owned()
        })
    }
}

/// Delta debugging: a small part of `all` for which `fails` still holds (it may not hold for all, since
/// leaving something out changes what comes after).
fn minimal(all: Vec<Id>, mut fails: impl FnMut(&[Id]) -> bool) -> Vec<Id> {
    let mut kept = all;
    let mut parts = 2;
    if !kept.is_empty() && fails(&[]) {
        return Vec::new();
    }
    while kept.len() > 1 {
        let size = kept.len().div_ceil(parts);
        let without = (0..kept.len()).step_by(size).map(|at| {
            let mut rest = kept.clone();
            rest.drain(at..(at + size).min(kept.len()));
            rest
        });
        let candidates: Vec<Vec<Id>> = without.collect();
        match candidates.into_iter().find(|rest| fails(rest)) {
            Some(rest) => {
                kept = rest;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let all: Vec<Id> = (0..100).map(Id::Fault).collect();
        let needed = [Id::Fault(17), Id::Fault(18), Id::Fault(90)];
        let mut runs = 0;
        let small = minimal(all, |ids| {
            runs += 1;
            needed.iter().all(|id| ids.contains(id))
        });
        assert_eq!(small, needed);
        assert!(runs < 200, "{runs}");
    }

    #[test]
    fn nothing_may_be_enough() {
        let all: Vec<Id> = (0..9).map(Id::Whim).collect();
        assert_eq!(minimal(all, |_| true), []);
    }
}
