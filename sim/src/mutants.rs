//! `sim mutations`: deliberate defects of the product, each of which the oracle must notice.

use crate::Arguments;
use sim::MUTATIONS;
use std::process::Command;

/// Seeds within which a defect must show.
pub(crate) const SEEDS: std::ops::Range<u64> = 0..3000;

/// Makes a defect of the engine active; `false` if there is none of that name in this build.
pub(crate) fn select(name: &str) -> bool {
    replication::mutation::select(name)
}

/// Runs every defect in a process of its own, until it is noticed; answers whether all were.
pub(crate) fn run(names: &[String], arguments: &Arguments) -> bool {
    let pump = MUTATIONS
        .iter()
        .map(|(name, _)| (*name, "made in the pump"));
    let engine = replication::mutation::ALL;
    if !replication::mutation::ENABLED {
        println!("the engine's own mutations are not in this build: add --features mutations");
    }
    let engine = engine.iter().map(|m| (m.name(), m.meaning()));
    let all = pump.chain(engine.filter(|_| replication::mutation::ENABLED));
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let (mut caught, mut missed) = (0, Vec::new());
    for (name, meaning) in all.filter(|(name, _)| wanted(name)) {
        match hunt(name, arguments) {
            Some((seed, rule)) => {
                caught += 1;
                println!("caught  {name:<34} seed {seed:<5} {rule}");
            }
            None => {
                println!("MISSED  {name:<34} {meaning}");
                missed.push(name);
            }
        }
    }
    println!("{caught} caught, {} missed", missed.len());
    missed.is_empty() && caught > 0 && replication::mutation::ENABLED
}

/// The first seed that notices, and the rule that it says is broken; the seed must pass without the defect.
fn hunt(name: &str, arguments: &Arguments) -> Option<(u64, String)> {
    let mut from = arguments.seeds.start;
    while from < arguments.seeds.end {
        let output = output(from..arguments.seeds.end, Some(name));
        let after = |key: &str| output.lines().find_map(|l| l.trim().strip_prefix(key));
        let seed = after("FAILED: seed ")?.trim().parse().ok()?;
        let rule = after("rule:")?.trim().to_owned();
        if !self::output(seed..seed + 1, None).contains("FAILED: seed") {
            return Some((seed, rule));
        }
        from = seed + 1;
    }
    None
}

fn output(seeds: std::ops::Range<u64>, mutation: Option<&str>) -> String {
    let Ok(program) = std::env::current_exe() else {
        return String::new();
    };
    let mut command = Command::new(program);
    command.args(["--seeds", &format!("{}..{}", seeds.start, seeds.end)]);
    command.arg("--no-shrink");
    if let Some(name) = mutation {
        command.args(["--mutation", name]);
    }
    let output = command.output();
    output.map_or(String::new(), |o| {
        String::from_utf8_lossy(&o.stdout).into_owned()
    })
}
