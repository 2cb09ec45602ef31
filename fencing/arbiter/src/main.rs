#![forbid(unsafe_code)]
//! `palisade-arbiter`: the third vote of Palisade pairs (docs/FENCING.md, docs/ARBITER.md).
//!
//! A datagram is looked at, what it changes is carried out by a handler if there is one, stored and synced, and then it is
//! answered. Each resource has a thread that does so, one question after the other.

mod admin;
mod config;
mod desk;
mod environment;
mod handler;
mod log;
mod promote;
mod server;
mod store;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: palisade-arbiter CONFIG                                  serve
       palisade-arbiter CONFIG list [--json]                   who holds what
       palisade-arbiter CONFIG journal                         what was changed, oldest first
       palisade-arbiter CONFIG release RESOURCE NODE EPISODE --yes
                                                               take a fence from its holder
       palisade-arbiter CONFIG forget RESOURCE --yes           make room for another resource of that name
       palisade-arbiter CONFIG promote RESOURCE NODE [--timeout SECONDS] [--address IP:PORT] [--json]
                                                               have a node become Primary, if its rules allow it";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((path, command)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    if path.starts_with('-') {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    }
    let config = match config::Config::read(&PathBuf::from(path)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("palisade-arbiter: {path}: {error}");
            return ExitCode::from(2);
        }
    };
    let done = if command.is_empty() {
        server::serve(&config).map(|()| ExitCode::SUCCESS)
    } else {
        admin::ask(&config, command)
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("palisade-arbiter: {error}");
            ExitCode::FAILURE
        }
    }
}
