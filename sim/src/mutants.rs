//! `sim mutations`: deliberate defects of the product, each of which the oracle must notice.

use crate::Arguments;
use sim::MUTATIONS;
use sim::drill::DRILLS;
use std::ops::Range;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Seeds within which a defect must show.
pub(crate) const SEEDS: std::ops::Range<u64> = 0..8000;

/// How the names of defects of fencing begin: they show only with it.
pub(crate) const FENCING: &str = "fence-";
/// Defects of snapshots: they show only with those.
const OF_SNAPSHOTS: &[&str] = &["overwrite-before-copy"];

/// What a defect needs in order to show.
fn option(name: &str) -> Option<&'static str> {
    if name.starts_with(FENCING) {
        Some("--fencing")
    } else {
        OF_SNAPSHOTS.contains(&name).then_some("--snapshots")
    }
}

/// Makes a defect of the engine active; `false` if there is none of that name in this build.
pub(crate) fn select(name: &str) -> bool {
    replication::mutation::select(name)
}

/// What became of a defect.
struct Hunted {
    name: &'static str,
    meaning: &'static str,
    /// The seed that noticed, and the rule that it says is broken.
    found: Option<(u64, String)>,
    seconds: f64,
}

/// Runs every defect in a process of its own, until it is noticed; answers whether all were.
pub(crate) fn run(names: &[String], arguments: &Arguments) -> bool {
    let began = Instant::now();
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
    let defects: Vec<_> = all.filter(|(name, _)| wanted(name)).collect();
    let (next, hunted) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((name, meaning)) = defects.get(next.fetch_add(1, Ordering::Relaxed)) {
            let began = Instant::now();
            let one = Hunted {
                name,
                meaning,
                found: hunt(name, arguments),
                seconds: began.elapsed().as_secs_f64(),
            };
            one.print();
            if let Ok(mut hunted) = hunted.lock() {
                hunted.push(one);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(work);
        }
    });
    let Ok(hunted) = hunted.into_inner() else {
        return false;
    };
    let missed: Vec<_> = hunted.iter().filter(|one| one.found.is_none()).collect();
    println!(
        "{} of {} caught within seeds {:?}, {:.0} s",
        hunted.len() - missed.len(),
        defects.len(),
        arguments.seeds,
        began.elapsed().as_secs_f64()
    );
    for kind in [None, Some("--fencing"), Some("--snapshots")] {
        let of_kind = hunted.iter().filter(|one| option(one.name) == kind);
        let (caught, of) = of_kind.fold((0, 0), |(caught, of), one| {
            (caught + usize::from(one.found.is_some()), of + 1)
        });
        println!("  {caught} of {of} {}", kind.unwrap_or("with neither"));
    }
    for one in &missed {
        println!("FAILED: {} was not noticed: {}", one.name, one.meaning);
    }
    missed.is_empty() && !hunted.is_empty() && replication::mutation::ENABLED
}

impl Hunted {
    fn print(&self) {
        let Self { name, seconds, .. } = self;
        match &self.found {
            Some((seed, rule)) => {
                println!("caught  {name:<30} {seconds:>5.1} s  seed {seed:<5} {rule}")
            }
            None => println!("MISSED  {name:<30} {seconds:>5.1} s  {}", self.meaning),
        }
    }
}

/// The first seed that notices, and the rule that it says is broken; the seed must pass without the defect.
fn hunt(name: &str, arguments: &Arguments) -> Option<(u64, String)> {
    // The scripted runs are short.
    [DRILLS, arguments.seeds.clone()]
        .into_iter()
        .find_map(|seeds| hunt_in(seeds, name))
}

fn hunt_in(seeds: Range<u64>, name: &str) -> Option<(u64, String)> {
    let mut from = seeds.start;
    while from < seeds.end {
        let output = output(from..seeds.end, name, true);
        let after = |key: &str| output.lines().find_map(|l| l.trim().strip_prefix(key));
        let seed = after("FAILED: seed ")?.trim().parse().ok()?;
        let rule = after("rule:")?.trim().to_owned();
        if !self::output(seed..seed + 1, name, false).contains("FAILED: seed") {
            return Some((seed, rule));
        }
        from = seed + 1;
    }
    None
}

/// What a run of these seeds says, with the defect or without, but with what it needs.
fn output(seeds: std::ops::Range<u64>, name: &str, defect: bool) -> String {
    let Ok(program) = std::env::current_exe() else {
        return String::new();
    };
    let mut command = Command::new(program);
    command.args(["--seeds", &format!("{}..{}", seeds.start, seeds.end)]);
    command.arg("--no-shrink");
    command.args(option(name));
    if defect {
        command.args(["--mutation", name]);
    }
    let output = command.output();
    output.map_or(String::new(), |o| {
        String::from_utf8_lossy(&o.stdout).into_owned()
    })
}
