//! Every saved input of every target again, on the stable toolchain and without a fuzzer.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use fuzz::{TARGETS, Target};
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in a directory, in order; none if it does not exist.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

/// Runs every input and names all that fail.
fn replay(target: &Target, inputs: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let failed: Vec<String> = inputs
        .into_iter()
        .filter(|(_, data)| catch_unwind(|| (target.run)(data)).is_err())
        .map(|(name, _)| name)
        .collect();
    assert!(failed.is_empty(), "{}: {failed:#?}", target.name);
}

#[test]
fn corpora_are_clean() {
    for target in TARGETS {
        let corpus = files(&root().join("corpus").join(target.name));
        assert!(
            !corpus.is_empty(),
            "{} has no corpus: ./fuzz.sh",
            target.name
        );
        let read = |path: PathBuf| {
            let data = fs::read(&path).expect("a file");
            (path.display().to_string(), data)
        };
        replay(target, corpus.into_iter().map(read));
    }
}

/// Inputs that once found a bug.
#[test]
fn crashes_stay_mended() {
    for target in TARGETS {
        let read = |path: PathBuf| {
            let data = fs::read(&path).expect("a file");
            (path.display().to_string(), data)
        };
        replay(
            target,
            files(&root().join("crashes").join(target.name))
                .into_iter()
                .map(read),
        );
    }
}

#[test]
fn seeds_are_clean() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty());
        assert!(
            seeds.iter().all(|seed| seed.len() <= target.max_len),
            "{}",
            target.name
        );
        let named = seeds.into_iter().enumerate();
        replay(
            target,
            named.map(|(number, data)| (format!("seed {number}"), data)),
        );
    }
}

/// No directory is left behind by a target that was renamed, and what is saved stays small.
#[test]
fn every_saved_input_has_its_target() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    let mut bytes = 0;
    for kind in ["corpus", "crashes"] {
        for dir in files(&root().join(kind)) {
            let name = dir.file_name().expect("a name").to_string_lossy();
            assert!(known.contains(&*name), "{kind}/{name} has no target");
            for file in files(&dir) {
                bytes += file.metadata().expect("a file").len();
            }
        }
    }
    assert!(bytes < 2 << 20, "{bytes} bytes of saved inputs");
}
