//! The commands: their grammar, help and completion.
//!
//! One table describes every verb; the parser, `help`, and the completion read it, so they cannot
//! disagree. A command is words separated by blanks; there is no quoting.

use crate::console::Completer;
use crate::log::{LEVELS, level_of};
use crate::nearest::nearest;
use crate::text::{is_printable, shortened};
use alloc::string::String;
use core::fmt;
use replication::api::{Command, Level};

/// Entries that `log` shows unless told otherwise.
pub const LOG_LINES_DEFAULT: u16 = 20;

/// A command that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `help`: all verbs, or one ([`help`] writes it). Also what `VERB --help` gives.
    Help {
        /// The verb asked about.
        about: Option<&'static Spec>,
    },
    /// `status`.
    Status {
        /// As one line of JSON.
        json: bool,
    },
    /// `primary`.
    Primary {
        /// The operator vouches for this node's data.
        force: bool,
    },
    /// `secondary`.
    Secondary {
        /// Drop the clients.
        force: bool,
    },
    /// `connect`.
    Connect {
        /// Give up this node's changes after a split brain.
        discard_my_data: bool,
    },
    /// `disconnect`.
    Disconnect,
    /// `new-current-uuid --clear-bitmap`.
    NewCurrentUuid,
    /// `disks`.
    Disks,
    /// `net`.
    Net,
    /// `log`.
    Log {
        /// Newest entries to show.
        lines: u16,
        /// The least grave ones to show.
        level: Level,
    },
    /// `config show`.
    ConfigShow,
    /// `version`.
    Version,
    /// `reboot`.
    Reboot {
        /// Although clients are served.
        force: bool,
    },
    /// `poweroff`.
    Poweroff {
        /// Although clients are served.
        force: bool,
    },
    /// `clear`: the screen.
    Clear,
}

impl Verb {
    /// The engine's command behind a verb; `None` for those that the console answers itself.
    pub fn engine_command(self) -> Option<Command> {
        match self {
            Self::Primary { force } => Some(Command::Primary { force }),
            Self::Secondary { force } => Some(Command::Secondary { force }),
            Self::Connect { discard_my_data } => Some(Command::Connect { discard_my_data }),
            Self::Disconnect => Some(Command::Disconnect),
            Self::NewCurrentUuid => Some(Command::NewCurrentUuid),
            Self::Help { .. }
            | Self::Status { .. }
            | Self::Disks
            | Self::Net
            | Self::Log { .. }
            | Self::ConfigShow
            | Self::Version
            | Self::Reboot { .. }
            | Self::Poweroff { .. }
            | Self::Clear => None,
        }
    }
}

/// A verb's line in the table of verbs.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The word itself.
    pub name: &'static str,
    /// How it is written, options included.
    pub usage: &'static str,
    /// One line for the list.
    pub summary: &'static str,
    /// What `help VERB` says beyond the usage; lines of at most 78 characters.
    pub details: &'static str,
    /// The options it knows.
    options: &'static [&'static str],
}

/// Every verb, in the order of the list that `help` prints.
pub const VERBS: &[Spec] = &[
    Spec {
        name: "help",
        usage: "help [VERB]",
        summary: "list the verbs, or explain one",
        details: "VERB --help does the same as help VERB.",
        options: &[],
    },
    Spec {
        name: "status",
        usage: "status [--json]",
        summary: "roles, connection, disk states, resync, clients",
        details: "Shows this node first, then the peer as far as it is known.\n\
                  --json   one line of JSON; docs/CONSOLE.md lists its fields",
        options: &["--json"],
    },
    Spec {
        name: "primary",
        usage: "primary [--force]",
        summary: "become Primary and serve clients",
        details: "Without --force only next to a connected Secondary and on UpToDate disks.\n\
                  --force  you vouch that this node's data is the one to go on with and that\n\
                  \x20        no other node serves clients; refused on a disk that is known\n\
                  \x20        to be Inconsistent, and next to a connected Primary",
        options: &["--force"],
    },
    Spec {
        name: "secondary",
        usage: "secondary [--force]",
        summary: "stop serving clients",
        details: "Refused while clients have a volume open.\n\
                  --force  drop their connections; they reconnect when a node is Primary",
        options: &["--force"],
    },
    Spec {
        name: "connect",
        usage: "connect [--discard-my-data]",
        summary: "look for the peer (again)",
        details: "--discard-my-data  after a split brain: give up what this node wrote since;\n\
                  \x20                  it becomes the target of a resync from the peer",
        options: &["--discard-my-data"],
    },
    Spec {
        name: "disconnect",
        usage: "disconnect",
        summary: "leave the peer and do not look for it",
        details: "A Primary goes on alone and notes what it writes. 'connect' ends this.",
        options: &[],
    },
    Spec {
        name: "new-current-uuid",
        usage: "new-current-uuid --clear-bitmap",
        summary: "state that both nodes' disks are identical",
        details: "Skips the initial resync: both nodes become UpToDate as they are. Only for\n\
                  disks known to be identical (fresh and blank, or compared), on one of two\n\
                  connected Secondary nodes. If they differ, clients will read wrong data.\n\
                  --clear-bitmap  required: it says that nothing needs to be copied",
        options: &["--clear-bitmap"],
    },
    Spec {
        name: "disks",
        usage: "disks",
        summary: "the disks that were found, and what uses them",
        details: "One line per disk: serial, volume, size, block size, features, traffic.",
        options: &[],
    },
    Spec {
        name: "net",
        usage: "net",
        summary: "the network cards, their addresses and traffic",
        details: "Three lines per card: address, link and MTU; roles; the counters.",
        options: &[],
    },
    Spec {
        name: "log",
        usage: "log [N] [--level LEVEL]",
        summary: "the newest log lines",
        details: "N        how many, 1 to 1000; 20 if left out\n\
                  --level  error, warn, info or debug: that and everything graver",
        options: &["--level"],
    },
    Spec {
        name: "config",
        usage: "config show",
        summary: "the configuration in effect, as TOML",
        details: "What was left out is shown with its default and marked so. If the\n\
                  configuration was refused, its mistakes are shown instead.",
        options: &["show"],
    },
    Spec {
        name: "version",
        usage: "version",
        summary: "version of the appliance and its peer protocol",
        details: "",
        options: &[],
    },
    Spec {
        name: "reboot",
        usage: "reboot [--force]",
        summary: "start the node again",
        details: "Refused while this node is Primary and clients have a volume open.\n\
                  --force  drop them",
        options: &["--force"],
    },
    Spec {
        name: "poweroff",
        usage: "poweroff [--force]",
        summary: "switch the node off",
        details: "Refused while this node is Primary and clients have a volume open.\n\
                  --force  drop them",
        options: &["--force"],
    },
    Spec {
        name: "clear",
        usage: "clear",
        summary: "clear the screen (also Ctrl-L)",
        details: "",
        options: &[],
    },
];

/// The table's line of a verb.
pub fn spec(name: &str) -> Option<&'static Spec> {
    VERBS.iter().find(|spec| spec.name == name)
}

/// Why a command was not understood. The `Display` form is one or two lines for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerbError {
    /// The line has bytes that are not printable ASCII.
    NotPrintable,
    /// There is no such verb.
    UnknownVerb {
        /// What was typed.
        word: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// The verb does not know the word.
    UnknownWord {
        /// The verb.
        spec: &'static Spec,
        /// What was typed.
        word: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// A word is given twice.
    Twice {
        /// The verb.
        spec: &'static Spec,
        /// The word.
        word: String,
    },
    /// Something that the verb needs is not there, or has no such value.
    Expected {
        /// The verb.
        spec: &'static Spec,
        /// What.
        what: &'static str,
    },
}

impl fmt::Display for VerbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suggestion = |near: &Option<&str>| match near {
            Some(near) => alloc::format!("; did you mean '{near}'?"),
            None => String::new(),
        };
        match self {
            Self::NotPrintable => f.write_str("the command has characters other than ASCII text"),
            Self::UnknownVerb { word, near: None } => {
                write!(f, "there is no verb '{word}'; 'help' lists them")
            }
            Self::UnknownVerb { word, near } => {
                write!(f, "there is no verb '{word}'{}", suggestion(near))
            }
            Self::UnknownWord { spec, word, near } => write!(
                f,
                "{} does not know '{word}'{}\nusage: {}",
                spec.name,
                suggestion(near),
                spec.usage
            ),
            Self::Twice { spec, word } => {
                write!(f, "'{word}' is given twice\nusage: {}", spec.usage)
            }
            Self::Expected { spec, what } => {
                write!(f, "{}: expected {what}\nusage: {}", spec.name, spec.usage)
            }
        }
    }
}

impl core::error::Error for VerbError {}

/// Understands a line; an empty one is no command.
///
/// # Errors
/// The first thing in the line that makes no sense.
pub fn parse(line: &str) -> Result<Option<Verb>, VerbError> {
    if !line.bytes().all(|b| is_printable(b) || b == b'\t') {
        return Err(VerbError::NotPrintable);
    }
    let mut words = line.split_ascii_whitespace();
    let Some(word) = words.next() else {
        return Ok(None);
    };
    let Some(spec) = spec(word) else {
        return Err(VerbError::UnknownVerb {
            word: shortened(word, 40),
            near: nearest(word, VERBS.iter().map(|spec| spec.name)),
        });
    };
    if words.clone().any(|word| word == "--help") {
        return Ok(Some(Verb::Help { about: Some(spec) }));
    }
    let verb = match spec.name {
        "help" => parse_help(spec, words)?,
        "log" => parse_log(spec, words)?,
        _ => parse_simple(spec, words)?,
    };
    Ok(Some(verb))
}

fn parse_help<'w>(
    spec: &'static Spec,
    mut words: impl Iterator<Item = &'w str>,
) -> Result<Verb, VerbError> {
    let Some(word) = words.next() else {
        return Ok(Verb::Help { about: None });
    };
    let about = VERBS.iter().find(|spec| spec.name == word);
    if about.is_none() {
        return Err(VerbError::UnknownVerb {
            word: shortened(word, 40),
            near: nearest(word, VERBS.iter().map(|spec| spec.name)),
        });
    }
    match words.next() {
        // `help config show` is what one would type.
        Some(word) if !about.is_some_and(|about| about.options.contains(&word)) => {
            Err(unknown(spec, word))
        }
        _ => Ok(Verb::Help { about }),
    }
}

fn parse_log<'w>(
    spec: &'static Spec,
    mut words: impl Iterator<Item = &'w str>,
) -> Result<Verb, VerbError> {
    let (mut lines, mut level) = (None, None);
    while let Some(word) = words.next() {
        let twice = |is_second: bool| match is_second {
            true => Err(VerbError::Twice {
                spec,
                word: shortened(word, 40),
            }),
            false => Ok(()),
        };
        if word == "--level" {
            twice(level.is_some())?;
            let what = "error, warn, info or debug after --level";
            let named = words.next().and_then(level_of);
            level = Some(named.ok_or(VerbError::Expected { spec, what })?);
        } else if word.bytes().all(|b| b.is_ascii_digit()) {
            twice(lines.is_some())?;
            let what = "a number of lines from 1 to 1000";
            let number = word.parse().ok().filter(|n| (1..=1000).contains(n));
            lines = Some(number.ok_or(VerbError::Expected { spec, what })?);
        } else {
            return Err(unknown(spec, word));
        }
    }
    Ok(Verb::Log {
        lines: lines.unwrap_or(LOG_LINES_DEFAULT),
        level: level.unwrap_or(Level::Debug),
    })
}

/// Verbs that have at most one option, without a value.
fn parse_simple<'w>(
    spec: &'static Spec,
    words: impl Iterator<Item = &'w str>,
) -> Result<Verb, VerbError> {
    let mut given = false;
    for word in words {
        if !spec.options.contains(&word) {
            return Err(unknown(spec, word));
        }
        if core::mem::replace(&mut given, true) {
            return Err(VerbError::Twice {
                spec,
                word: word.into(),
            });
        }
    }
    Ok(match spec.name {
        "status" => Verb::Status { json: given },
        "primary" => Verb::Primary { force: given },
        "secondary" => Verb::Secondary { force: given },
        "connect" => Verb::Connect {
            discard_my_data: given,
        },
        "disconnect" => Verb::Disconnect,
        "new-current-uuid" if given => Verb::NewCurrentUuid,
        "new-current-uuid" => {
            let what = "--clear-bitmap: only its use without a resync is there";
            return Err(VerbError::Expected { spec, what });
        }
        "disks" => Verb::Disks,
        "net" => Verb::Net,
        "config" if given => Verb::ConfigShow,
        "config" => {
            let what = "'show'";
            return Err(VerbError::Expected { spec, what });
        }
        "version" => Verb::Version,
        "reboot" => Verb::Reboot { force: given },
        "poweroff" => Verb::Poweroff { force: given },
        "clear" => Verb::Clear,
        other => unreachable!("the verb {other} of the table has no parser"),
    })
}

fn unknown(spec: &'static Spec, word: &str) -> VerbError {
    VerbError::UnknownWord {
        spec,
        word: shortened(word, 40),
        near: nearest(word, spec.options.iter().copied()),
    }
}

/// Writes the answer to [`Verb::Help`].
///
/// # Errors
/// Those of `out`.
pub fn help(about: Option<&Spec>, out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(spec) = about else {
        for spec in VERBS {
            writeln!(out, "{:<31} {}", spec.usage, spec.summary)?;
        }
        return writeln!(out, "\n'help VERB' explains one. Tab completes.");
    };
    writeln!(out, "usage: {}\n{}.", spec.usage, Capital(spec.summary))?;
    if !spec.details.is_empty() {
        writeln!(out, "\n{}", spec.details)?;
    }
    Ok(())
}

/// Text with its first letter in upper case.
struct Capital(&'static str);

impl fmt::Display for Capital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, rest) = self.0.split_at(self.0.len().min(1));
        write!(f, "{}{rest}", first.to_ascii_uppercase())
    }
}

/// Completes verbs and their options.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerbCompleter;

impl Completer for VerbCompleter {
    fn candidates(&self, before: &str, offer: &mut dyn FnMut(&str)) {
        let mut words = before.split_ascii_whitespace();
        let first = words.next();
        let typing_first = !before.ends_with(' ') && words.clone().next().is_none();
        match first {
            Some(first) if !typing_first => {
                let is_after = |word| {
                    let typed = if before.ends_with(' ') { 0 } else { 1 };
                    before.split_ascii_whitespace().rev().nth(typed) == Some(word)
                };
                if first == "help" {
                    VERBS.iter().for_each(|spec| offer(spec.name));
                } else if first == "log" && is_after("--level") {
                    LEVELS.iter().for_each(|(level, _)| offer(level));
                } else if let Some(spec) = spec(first) {
                    let given = |option| before.split_ascii_whitespace().any(|w| w == option);
                    let fresh = spec.options.iter().filter(|option| !given(**option));
                    fresh.for_each(|option| offer(option));
                }
            }
            _ => VERBS.iter().for_each(|spec| offer(spec.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    fn ok(line: &str) -> Verb {
        parse(line).unwrap().unwrap()
    }

    fn err(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn every_verb_of_the_table_parses() {
        for spec in VERBS {
            let required = match spec.name {
                "config" => "config show",
                "new-current-uuid" => "new-current-uuid --clear-bitmap",
                name => name,
            };
            assert!(
                parse(required).is_ok_and(|verb| verb.is_some()),
                "{required}"
            );
            let about = Some(spec);
            assert_eq!(
                ok(&std::format!("help {}", spec.name)),
                Verb::Help { about }
            );
            assert_eq!(
                ok(&std::format!("{} --help", spec.name)),
                Verb::Help { about }
            );
        }
    }

    #[test]
    fn verbs_and_options() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse(" \t "), Ok(None));
        assert_eq!(ok("help"), Verb::Help { about: None });
        assert_eq!(
            ok("help config show"),
            Verb::Help {
                about: spec("config")
            }
        );
        assert_eq!(ok(" status\t--json "), Verb::Status { json: true });
        assert_eq!(ok("status"), Verb::Status { json: false });
        assert_eq!(ok("primary --force"), Verb::Primary { force: true });
        assert_eq!(ok("secondary"), Verb::Secondary { force: false });
        assert_eq!(
            ok("connect --discard-my-data"),
            Verb::Connect {
                discard_my_data: true
            }
        );
        assert_eq!(ok("disconnect"), Verb::Disconnect);
        assert_eq!(ok("new-current-uuid --clear-bitmap"), Verb::NewCurrentUuid);
        assert_eq!(ok("disks"), Verb::Disks);
        assert_eq!(ok("net"), Verb::Net);
        assert_eq!(
            ok("log"),
            Verb::Log {
                lines: 20,
                level: Level::Debug
            }
        );
        assert_eq!(
            ok("log 7 --level warn"),
            Verb::Log {
                lines: 7,
                level: Level::Warn
            }
        );
        assert_eq!(
            ok("log --level error 1000"),
            Verb::Log {
                lines: 1000,
                level: Level::Error
            }
        );
        assert_eq!(ok("config show"), Verb::ConfigShow);
        assert_eq!(ok("version"), Verb::Version);
        assert_eq!(ok("reboot --force"), Verb::Reboot { force: true });
        assert_eq!(ok("poweroff"), Verb::Poweroff { force: false });
        assert_eq!(ok("clear"), Verb::Clear);
    }

    #[test]
    fn engine_commands() {
        let command = |line| ok(line).engine_command();
        assert_eq!(
            command("primary --force"),
            Some(Command::Primary { force: true })
        );
        assert_eq!(
            command("secondary"),
            Some(Command::Secondary { force: false })
        );
        assert_eq!(command("disconnect"), Some(Command::Disconnect));
        assert_eq!(
            command("new-current-uuid --clear-bitmap"),
            Some(Command::NewCurrentUuid)
        );
        let discard_my_data = true;
        assert_eq!(
            command("connect --discard-my-data"),
            Some(Command::Connect { discard_my_data })
        );
        assert_eq!(command("status"), None);
    }

    #[test]
    fn mistakes_are_explained() {
        assert_eq!(
            err("statsu"),
            "there is no verb 'statsu'; did you mean 'status'?"
        );
        assert_eq!(
            err("frobnicate"),
            "there is no verb 'frobnicate'; 'help' lists them"
        );
        assert_eq!(
            err("help primry"),
            "there is no verb 'primry'; did you mean 'primary'?"
        );
        assert_eq!(
            err("primary --froce"),
            "primary does not know '--froce'; did you mean '--force'?\nusage: primary [--force]"
        );
        assert_eq!(err("disks all"), "disks does not know 'all'\nusage: disks");
        assert_eq!(
            err("reboot --force --force"),
            "'--force' is given twice\nusage: reboot [--force]"
        );
        assert_eq!(err("config"), "config: expected 'show'\nusage: config show");
        assert!(err("new-current-uuid").starts_with("new-current-uuid: expected --clear-bitmap"));
        assert!(err("log 0").starts_with("log: expected a number of lines from 1 to 1000"));
        assert!(err("log 1001").starts_with("log: expected a number of lines"));
        assert!(err("log 1 2").starts_with("'2' is given twice"));
        assert!(err("log --level loud").starts_with("log: expected error, warn, info or debug"));
        assert!(err("log --level").starts_with("log: expected error, warn, info or debug"));
        assert!(err("help help help").starts_with("help does not know 'help'"));
        assert_eq!(
            err("status\u{1b}[2J"),
            "the command has characters other than ASCII text"
        );
    }

    #[test]
    fn help_fits_the_screen() {
        let mut all = String::new();
        help(None, &mut all).unwrap();
        for spec in VERBS {
            assert!(all.contains(spec.usage));
            let mut one = String::new();
            help(Some(spec), &mut one).unwrap();
            assert!(
                one.starts_with(&std::format!("usage: {}\n", spec.usage)),
                "{one}"
            );
            all.push_str(&one);
        }
        for line in all.lines() {
            assert!(line.len() < 80, "{} {line}", line.len());
        }
    }

    #[test]
    fn every_verb_is_in_the_manual() {
        let manual = include_str!("../../docs/CONSOLE.md");
        let headings: String = manual.lines().filter(|l| l.starts_with("### ")).collect();
        for spec in VERBS.iter().filter(|spec| spec.name != "help") {
            assert!(
                headings.contains(spec.usage),
                "{} is not in docs/CONSOLE.md",
                spec.usage
            );
        }
    }

    #[test]
    fn completion_offers_what_fits_the_place() {
        let offered = |before: &str| {
            let mut words = Vec::new();
            VerbCompleter.candidates(before, &mut |word| words.push(word.to_string()));
            words
        };
        assert_eq!(offered("").len(), VERBS.len());
        assert_eq!(offered("st").len(), VERBS.len());
        assert_eq!(offered("status "), ["--json"]);
        assert_eq!(offered("status --json "), Vec::<&str>::new());
        assert_eq!(offered("log --level "), ["error", "warn", "info", "debug"]);
        assert_eq!(offered("log --level w"), ["error", "warn", "info", "debug"]);
        assert_eq!(offered("help pri").len(), VERBS.len());
        assert_eq!(offered("nonsense "), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(line in "\\PC{0,80}") {
            if let Err(error) = parse(&line) {
                prop_assert!(error.to_string().bytes().all(|b| is_printable(b) || b == b'\n'));
            }
        }
    }
}
