#![forbid(unsafe_code)]
//! `palisadectl`: Palisade's nodes from the command line, over their serial consoles or their web servers.

mod config;
mod error;
mod events;
mod line;
mod node;
mod status;
mod top;
mod verbs;
mod web;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use error::{EXIT_USAGE, Error};
use node::Places;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const AFTER_HELP: &str = "\
Nodes are found in the directory of a pair of run-qemu.sh (--dir, or ./run) and, under systemd, in /run/palisade-NODE. \
A path with a slash is a console's socket; http://HOST:PORT is a node's web server, \
anywhere: there 'events' and 'top' need nothing else, and the other verbs the token of the node's configuration.

Exit status: 0 done; 1 the node refused, its reason is on stderr; 2 no node, or no answer: if the command was sent it may have been \
carried out; 3 the output could not be written; 64 wrong usage.";

/// The subcommands that are not verbs of a node.
const WATCH: &str = "watch";
/// The verb that is followed here, as a script's command on the console ends with what is known.
const EVENTS: &str = "events";
const TOP: &str = "top";
const COMPLETIONS: &str = "completions";
const MAN: &str = "man";
const CHECK: &str = "check-config";

fn command() -> Command {
    let seconds = |name, value: &'static str, help| {
        Arg::new(name)
            .long(name)
            .value_name("SECONDS")
            .default_value(value)
            .value_parser(seconds)
            .help(help)
    };
    Command::new("palisadectl")
        .version(clap::crate_version!())
        .about("Palisade's nodes from the host's command line")
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("node")
                .short('n')
                .long("node")
                .value_name("NODE")
                .env("PALISADE_NODE")
                .action(ArgAction::Append)
                .help("The node to talk to: a name, the path of its console's socket, or http://HOST:PORT; not needed if there is one only. For top: several times"),
        )
        .arg(
            Arg::new("dir")
                .short('d')
                .long("dir")
                .value_name("DIR")
                .env("PALISADE_DIR")
                .value_parser(value_parser!(PathBuf))
                .help("The directory of a pair that run-qemu.sh has booted"),
        )
        .arg(
            Arg::new("token-file")
                .long("token-file")
                .value_name("FILE")
                .env("PALISADE_TOKEN_FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The file with the token for commands by the web; without it the variable PALISADE_TOKEN has it"),
        )
        .arg(seconds("timeout", "60", "How long to wait for an answer"))
        .subcommands(verbs::verbs().map(verbs::command))
        .subcommand(
            Command::new(WATCH)
                .about("show what a verb prints, again and again, until Ctrl-C")
                .arg(seconds("interval", "2", "The pause in between"))
                .arg(
                    Arg::new("count")
                        .long("count")
                        .value_name("N")
                        .value_parser(value_parser!(u64).range(1..))
                        .help("End after so many times"),
                )
                .arg(
                    Arg::new("words")
                        .value_name("VERB")
                        .action(ArgAction::Append)
                        .trailing_var_arg(true)
                        .allow_hyphen_values(true)
                        .required(true)
                        .help("The verb with its options, such as: status"),
                ),
        )
        .subcommand(
            Command::new(TOP)
                .about("a live view of all nodes of this host, or of those named with --node")
                .arg(seconds("interval", "1", "The time between two looks")),
        )
        .subcommand(
            Command::new(CHECK)
                .about("check a node's configuration, or those of both nodes against each other, before they are booted")
                .arg(
                    Arg::new("files")
                        .value_name("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .num_args(1..=2)
                        .required(true),
                ),
        )
        .subcommand(
            Command::new(COMPLETIONS)
                .about("print the completion script of a shell")
                .arg(
                    Arg::new("shell")
                        .value_name("SHELL")
                        .required(true)
                        .value_parser(value_parser!(Shell)),
                ),
        )
        .subcommand(Command::new(MAN).about("print the manual page, in roff"))
}

/// A time in seconds, from a tenth to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=86400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be from 0.1 to 86400 seconds".into())
    }
}

fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are no mistakes. If even stderr is closed there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::Refused) {
                eprintln!("palisadectl: {error}");
            }
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(matches: &ArgMatches) -> Result<(), Error> {
    let places = Places {
        dir: matches.get_one::<PathBuf>("dir").cloned(),
        token_file: matches.get_one::<PathBuf>("token-file").cloned(),
    };
    let named = matches.get_many::<String>("node").unwrap_or_default();
    let named: Vec<&str> = named.map(String::as_str).collect();
    let timeout = duration(matches, "timeout");
    match matches.subcommand() {
        Some((COMPLETIONS, sub)) => {
            let shell = sub
                .get_one::<Shell>("shell")
                .copied()
                .unwrap_or(Shell::Bash);
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "palisadectl", &mut script);
            print(&script)
        }
        Some((MAN, _)) => {
            let mut page = Vec::new();
            manual(&mut page).map_err(Error::Output)?;
            print(&page)
        }
        Some((CHECK, sub)) => {
            let files = sub.get_many::<PathBuf>("files").into_iter().flatten();
            let files: Vec<PathBuf> = files.cloned().collect();
            print(config::check(&files)?.as_bytes())
        }
        Some((TOP, sub)) => {
            let nodes = places.some(&named)?;
            if nodes.is_empty() {
                return Err(Error::WhichNode(Vec::new()));
            }
            top::run(&nodes, duration(sub, "interval"))
        }
        Some((WATCH, sub)) => {
            let words: Vec<&str> = sub
                .get_many::<String>("words")
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            let count = sub.get_one::<u64>("count").copied().unwrap_or(u64::MAX);
            let node = places.one(&named)?;
            for round in 0..count {
                if round > 0 {
                    std::thread::sleep(duration(sub, "interval"));
                }
                // The console is free in between: others want it, too.
                let answer = node.run(&words.join(" "), timeout)?;
                if std::io::stdout().is_terminal() {
                    // Home, and clear to the end.
                    print(b"\x1b[H\x1b[J")?;
                }
                deliver(&answer)?;
            }
            Ok(())
        }
        Some((EVENTS, sub)) if !sub.get_flag("now") => {
            events::follow(&places.one(&named)?, sub, timeout)
        }
        Some((name, sub)) => {
            let Some(spec) = verbs::verbs().find(|spec| spec.name == name) else {
                unreachable!("clap lets only subcommands through, and those are the verbs")
            };
            let command = verbs::line(spec, sub);
            deliver(&places.one(&named)?.run(&command, timeout)?)
        }
        None => unreachable!("a subcommand is required"),
    }
}

/// The answer of a node: its output on stdout, a refusal on stderr.
fn deliver(answer: &line::Answer) -> Result<(), Error> {
    if answer.done {
        print(answer.output.as_bytes())
    } else {
        eprint!("{}", answer.output);
        Err(Error::Refused)
    }
}

fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    match written {
        // The reader, such as `head`, has seen enough.
        Err(why) if why.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::Output),
    }
}

/// The manual: the page of the command itself, then a section for each verb.
fn manual(page: &mut Vec<u8>) -> std::io::Result<()> {
    let command = command();
    let man = clap_mangen::Man::new(command.clone());
    man.render(page)?;
    for verb in command.get_subcommands() {
        let man = clap_mangen::Man::new(verb.clone());
        writeln!(page, ".SH \"{}\"", verb.get_name().to_uppercase())?;
        man.render_description_section(page)?;
        man.render_options_section(page)?;
    }
    Ok(())
}

fn duration(matches: &ArgMatches, name: &str) -> Duration {
    matches
        .get_one(name)
        .copied()
        .unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn seconds_have_limits() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e9", "x", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_manual_has_every_verb() {
        let mut page = Vec::new();
        assert!(manual(&mut page).is_ok());
        let page = String::from_utf8_lossy(&page);
        for spec in verbs::verbs() {
            assert!(
                page.contains(&format!("\"{}\"", spec.name.to_uppercase())),
                "{}",
                spec.name
            );
        }
    }
}
