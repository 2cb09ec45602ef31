//! docs/OPERATIONS.md and docs/QUICKSTART.md as tests: their commands are run in their order, and what they show must come.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::Pair;
use e2e::tools::{checkout, text};
use std::process::Output;
use std::time::{Duration, Instant};

/// What the page shows: a command, and lines of its output.
#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The steps of all `console` blocks of a page.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            steps.push(Step {
                command: command.into(),
                shown: Vec::new(),
            });
        } else if inside && line != "..." {
            let step = steps.last_mut().expect("a block begins with a command");
            step.shown.push(line.into());
        }
    }
    steps
}

/// Whether the lines occur in the output, in their order.
fn comes(output: &str, shown: &[String]) -> bool {
    let mut rest = output;
    shown.iter().all(|line| match rest.find(line.as_str()) {
        Some(place) => {
            rest = &rest[place + line.len()..];
            true
        }
        None => false,
    })
}

fn run(pair: &Pair, command: &str) -> Output {
    let Some(arguments) = command.strip_prefix("./run-qemu.sh ") else {
        return std::process::Command::new("sh")
            .args(["-ec", command])
            .env("RUN", pair.dir())
            .output()
            .expect("sh");
    };
    // The only quotes of the page are around a console's command.
    let mut words: Vec<&str> = Vec::new();
    for (place, part) in arguments.split('\'').enumerate() {
        match place % 2 {
            0 => words.extend(part.split_whitespace()),
            _ => words.push(part),
        }
    }
    if words[0] == "up" {
        return pair.up(&words[2..]);
    }
    pair.script(&words)
}

#[test]
fn the_operations_page_does_what_it_says() {
    follow("docs/OPERATIONS.md", 30);
}

#[test]
fn the_quick_start_does_what_it_says() {
    follow("docs/QUICKSTART.md", 12);
}

/// Does what a page says, which has at least so many steps.
fn follow(page: &str, least: usize) {
    let page = std::fs::read_to_string(checkout().join(page)).expect("the page");
    let steps = steps(&page);
    assert!(steps.len() >= least, "{}", steps.len());
    let pair = Pair::prepare();
    for step in steps {
        let refused = step.shown.iter().any(|line| line.starts_with("error:"));
        // What only looks is repeated until it shows what is written: a node comes up, a resync ends. So is a start, since
        // the QEMU of a node that powers off takes a moment to end.
        let looks = ["status", "explain", "log", "version", " start "]
            .iter()
            .any(|verb| step.command.contains(verb));
        let end = Instant::now() + Duration::from_secs(if looks { 90 } else { 0 });
        loop {
            let output = run(&pair, &step.command);
            let all = text(&output.stdout) + &text(&output.stderr);
            if output.status.success() != refused && comes(&all, &step.shown) {
                break;
            }
            assert!(Instant::now() < end, "{step:?} came to\n{all}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
