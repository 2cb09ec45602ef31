#![forbid(unsafe_code)]
//! `palisade-md`: prints, checks and creates Palisade's metadata (docs/ONDISK.md) on raw images
//! and block devices, while no node uses them.

mod create;
mod disk;
mod error;
mod json;
mod locate;

use clap::{Parser, Subcommand};
use create::CreateOptions;
use error::Error;
use replication::ondisk::{Depth, Verdict};
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints, checks and creates Palisade's metadata on raw images and block devices.
///
/// IMAGE is the disk that holds the metadata: the data disk itself (metadata at its end) or a disk of its own. No node
/// may use it at the same time.
///
/// Exit status: 0 good or done; 1 problems that a node repairs by itself; 2 not usable, or
/// refused; 3 the disk could not be read or written; 64 wrong usage.
#[derive(Parser)]
#[command(name = "palisade-md", version)]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print everything that the metadata says.
    Inspect {
        /// Raw image or block device that holds the metadata.
        image: PathBuf,
        /// One JSON object on one line.
        #[arg(long)]
        json: bool,
    },
    /// Print only what is wrong or noteworthy; the exit status tells how bad it is.
    Check {
        /// Raw image or block device that holds the metadata.
        image: PathBuf,
    },
    /// Write new metadata: everything out of sync, no generation. Refused on a disk that holds
    /// anything, unless forced.
    Create(CreateOptions),
}

const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version are no mistakes. If even stderr is closed there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let done = match options.verb {
        Verb::Inspect { image, json } => inspect(&image, json),
        Verb::Check { image } => check(&image),
        Verb::Create(options) => create::create(&options).map(|text| (text, Verdict::Good)),
    };
    match done {
        Ok((text, verdict)) => {
            print(&text);
            ExitCode::from(match verdict {
                Verdict::Good => 0,
                Verdict::Problems => 1,
                Verdict::Unusable => 2,
            })
        }
        Err(error) => {
            eprintln!("palisade-md: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// Not `println!`, which panics when the reader of a pipe has gone.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn inspect(image: &std::path::Path, json: bool) -> Result<(String, Verdict), Error> {
    let disk = disk::Disk::open(image)?;
    let mut survey = locate::locate(&disk, Depth::All);
    let found_at = survey.found_at();
    let inspection = locate::inspect(&disk, &mut survey);
    let text = match json {
        true => format!("{}\n", json::report(image, &disk, found_at, inspection)),
        false => inspection.to_string(),
    };
    // To have printed what there is, is success; `check` judges.
    let verdict = match inspection.verdict() {
        Verdict::Unusable => Verdict::Unusable,
        _ => Verdict::Good,
    };
    Ok((text, verdict))
}

fn check(image: &std::path::Path) -> Result<(String, Verdict), Error> {
    let disk = disk::Disk::open(image)?;
    let mut survey = locate::locate(&disk, Depth::All);
    let inspection = locate::inspect(&disk, &mut survey);
    let mut text = String::new();
    for finding in inspection.findings() {
        let kind = finding.kind();
        text.push_str(&format!("{}: {kind}: {finding}\n", image.display()));
    }
    if text.is_empty() {
        text = format!("{}: good\n", image.display());
    }
    Ok((text, inspection.verdict()))
}
