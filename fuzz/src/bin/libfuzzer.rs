#![no_main]
//! All targets in one libFuzzer binary. `FUZZ_TARGET` names the one to run; with `FUZZ_SEEDS` set it
//! first writes the target's seeds into that directory. `../fuzz.sh` sets both.
#![allow(clippy::expect_used, reason = "a wrong environment ends the run")]

use fuzz::Target;
use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::OnceLock;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn init() {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let target = fuzz::target(&name).expect("FUZZ_TARGET names a target");
    if let Ok(dir) = std::env::var("FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let path = std::path::Path::new(&dir).join(format!("seed-{number:03}"));
            std::fs::write(path, seed).expect("the directory of seeds can be written");
        }
    }
    TARGET.get_or_init(|| target);
}

fuzz_target!(
    init: init(),
    |data: &[u8]| -> Corpus {
        match TARGET.get() {
            Some(target) if data.len() <= target.max_len => (target.run)(data),
            _ => return Corpus::Reject,
        }
        Corpus::Keep
    }
);
