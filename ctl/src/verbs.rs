//! The nodes' verbs as commands of clap, made from the console's own table: so they cannot disagree.

use admin::verbs::{Spec, VERBS};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// The name of the argument that is no option.
const OPERAND: &str = "OPERAND";

/// The console's verbs that are of no use to a command: clap has its own help, there is no screen to clear, and `watch` is done here.
const NOT_HERE: &[&str] = &["help", "clear", "watch"];

/// Every verb of the console that makes sense here.
pub fn verbs() -> impl Iterator<Item = &'static Spec> {
    VERBS.iter().filter(|spec| !NOT_HERE.contains(&spec.name))
}

/// A verb as a subcommand.
pub fn command(spec: &'static Spec) -> Command {
    let mut command = Command::new(spec.name)
        .about(spec.summary)
        .override_usage(format!("palisadectl [OPTIONS] {}", spec.usage));
    if !spec.details.is_empty() {
        command = command.after_help(spec.details);
    }
    let word = spec.operand().trim_matches(['[', ']']);
    if !word.is_empty() {
        // Whether it may be left out, or is one at all, the node knows best.
        command = command.arg(Arg::new(OPERAND).value_name(word));
    }
    for (name, alias, takes_value) in spec.options() {
        let long = name.trim_start_matches('-');
        let action = if takes_value {
            ArgAction::Set
        } else {
            ArgAction::SetTrue
        };
        let mut arg = Arg::new(long).long(long).action(action);
        if let Some(alias) = alias {
            arg = arg.alias(alias.trim_start_matches('-'));
        }
        command = command.arg(arg);
    }
    command
}

/// The line for the console that says what was parsed.
pub fn line(spec: &Spec, matches: &ArgMatches) -> String {
    let mut line = spec.name.to_owned();
    if !spec.operand().is_empty()
        && let Some(operand) = matches.get_one::<String>(OPERAND)
    {
        line += &format!(" {operand}");
    }
    for (name, _, takes_value) in spec.options() {
        let long = name.trim_start_matches('-');
        if !takes_value {
            if matches.get_flag(long) {
                line += &format!(" {name}");
            }
        } else if let Some(value) = matches.get_one::<String>(long) {
            line += &format!(" {name} {value}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What the console would get.
    fn sent(words: &[&str]) -> String {
        let spec = verbs().find(|spec| spec.name == words[0]).unwrap();
        line(spec, &command(spec).get_matches_from(words))
    }

    #[test]
    fn lines_are_what_was_typed() {
        assert_eq!(sent(&["status"]), "status");
        assert_eq!(sent(&["status", "--json"]), "status --json");
        assert_eq!(sent(&["config", "show"]), "config show");
        assert_eq!(sent(&["connect", "--tentative"]), "connect --dry-run");
        assert_eq!(
            sent(&["verify", "--repair", "vol1", "--start=10GiB"]),
            "verify vol1 --start 10GiB --repair"
        );
        assert_eq!(sent(&["unfence", "7", "--yes"]), "unfence 7 --yes");
    }

    #[test]
    fn the_console_understands_every_verb_with_each_of_its_options() {
        for spec in verbs() {
            let word = match spec.operand().trim_matches(['[', ']']) {
                "VOL" => Some("vol0"),
                "N" | "EPISODE" => Some("5"),
                "KEY=VALUE" => Some("net.timeout=4s"),
                "" => None,
                fixed => fixed.split('|').next(),
            };
            // One at a time: some exclude one another, and one is required.
            let mut options: Vec<Vec<&str>> = Vec::new();
            for (name, _, takes_value) in spec.options() {
                let value = takes_value.then_some(if name == "--level" { "warn" } else { "4096" });
                options.push([name].into_iter().chain(value).collect());
            }
            if options.is_empty() {
                options.push(Vec::new());
            }
            for option in options {
                let words = [spec.name].into_iter().chain(word).chain(option);
                let line = sent(&words.collect::<Vec<_>>());
                let understood = admin::verbs::parse(&line, &[0]);
                assert!(matches!(understood, Ok(Some(_))), "{line}: {understood:?}");
            }
        }
    }

    #[test]
    fn what_clap_does_not_know_is_refused_here() {
        let spec = verbs().find(|spec| spec.name == "primary").unwrap();
        assert!(
            command(spec)
                .try_get_matches_from(["primary", "--farce"])
                .is_err()
        );
        assert!(
            command(spec)
                .try_get_matches_from(["primary", "vol0"])
                .is_err()
        );
    }
}
