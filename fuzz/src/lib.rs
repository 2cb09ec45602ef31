#![forbid(unsafe_code)]
//! Fuzz targets: everything that decodes what a wire, a disk or a person brings.
//!
//! A target is a plain function of bytes that panics when something is wrong, so the same code runs
//! in three ways: under libFuzzer with coverage (`./fuzz.sh`), over the saved corpora on the stable
//! toolchain (`cargo test -p fuzz`), and over one file by hand (`./fuzz.sh TARGET FILE`).
//! docs/TESTING.md says what each target asserts.

#![allow(clippy::expect_used, reason = "a failed expectation is a finding")]

mod bitmap;
mod config;
mod console;
mod engine;
mod foreign;
mod frames;
mod input;
mod link;
mod management;
mod metadata;
mod nbd;
mod pages;
mod pipe;
mod secure;
mod superblock;
mod wire;

/// One thing to be fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the directory of its corpus, and on the command line.
    pub name: &'static str,
    /// Longest input that is worth trying, in bytes; the fuzzer keeps none that is longer.
    pub max_len: usize,
    /// Runs one input. Panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made by the real encoders, so that they follow the formats.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    wire::TARGET,
    link::TARGET,
    secure::TARGET,
    engine::TARGET,
    superblock::TARGET,
    metadata::TARGET,
    foreign::TARGET,
    bitmap::TARGET,
    nbd::TARGET,
    config::TARGET,
    console::TARGET,
    management::TARGET,
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
