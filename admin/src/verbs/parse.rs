//! From a line to a verb.

use super::arguments::{Arguments, WORD_COLUMNS, twice, unknown};
use super::error::VerbError;
use super::table::{OTHER_NAMES, Spec, VERBS, spec};
use super::{LOG_LINES_DEFAULT, Verb};
use crate::config::live;
use crate::nearest::nearest;
use crate::text::{is_printable, shortened};
use replication::api::Level;

/// Understands a line; an empty one is no command. `volumes` are the indices of the volumes there
/// are; with none of them known any index is let through.
///
/// # Errors
/// The first thing in the line that makes no sense.
pub fn parse(line: &str, volumes: &[u16]) -> Result<Option<Verb>, VerbError> {
    if !line.bytes().all(|b| is_printable(b) || b == b'\t') {
        return Err(VerbError::NotPrintable);
    }
    let mut words = line.split_ascii_whitespace();
    let Some(word) = words.next() else {
        return Ok(None);
    };
    let Some(spec) = spec(word) else {
        return Err(no_verb(word));
    };
    if words.clone().any(|word| word == "--help") {
        return Ok(Some(Verb::Help { about: Some(spec) }));
    }
    if spec.name == "help" {
        return parse_help(spec, words).map(Some);
    }
    if spec.name == "watch" {
        return watch(spec, line, word, volumes).map(Some);
    }
    if spec.name == "set" {
        return set(spec, line, words).map(Some);
    }
    let given = Arguments::read(spec, words, volumes)?;
    let verb = verb(spec, &given)?;
    // `connect` and `rollback` have dry runs of their own, which find out more than is known beforehand.
    Ok(Some(match verb.act() {
        Some(act)
            if given.has("--dry-run")
                && !matches!(verb, Verb::Connect { .. } | Verb::Rollback { .. }) =>
        {
            Verb::DryRun { act }
        }
        _ => verb,
    }))
}

/// `line` without the blanks in front of it begins with `word`, which is `watch`.
fn watch(watch: &'static Spec, line: &str, word: &str, volumes: &[u16]) -> Result<Verb, VerbError> {
    let at = line.len() - line.trim_ascii_start().len() + word.len();
    let what = "a verb that only looks, such as 'watch status'";
    match parse(&line[at..], volumes)? {
        Some(verb) if verb.only_looks() => Ok(Verb::Watch { at }),
        _ => Err(VerbError::Expected { spec: watch, what }),
    }
}

/// `words` are those of `line` behind `set`.
fn set<'w>(
    set: &'static Spec,
    line: &'w str,
    words: impl Iterator<Item = &'w str>,
) -> Result<Verb, VerbError> {
    let (mut key, mut value, mut dry_run) = (None, None, false);
    for word in words {
        if word == "--dry-run" {
            if core::mem::replace(&mut dry_run, true) {
                return Err(twice(set, word));
            }
        } else if key.is_none() {
            let (name, behind) = match word.split_once('=') {
                Some((name, behind)) => (name, Some(behind)),
                None => (word, None),
            };
            if name.starts_with('-') {
                return Err(unknown(set, word));
            }
            key = Some(live::key(name).ok_or_else(|| VerbError::NoKey {
                spec: set,
                word: shortened(name, WORD_COLUMNS),
                near: live::near(name),
            })?);
            value = behind;
        } else if value.replace(word).is_some() {
            return Err(unknown(set, word));
        }
    }
    let what = "a value behind the key, as in 'set resync.c-max-rate=50MiB'";
    match (key, value) {
        (None, _) => Ok(Verb::SetShow),
        (Some(_), None) => Err(VerbError::Expected { spec: set, what }),
        (Some(key), Some(value)) => Ok(Verb::Set {
            key,
            // It is a part of the line.
            at: value.as_ptr() as usize - line.as_ptr() as usize,
            bytes: value.len(),
            dry_run,
        }),
    }
}

fn no_verb(word: &str) -> VerbError {
    if let Some((word, instead)) = OTHER_NAMES.iter().find(|(name, _)| *name == word) {
        return VerbError::OtherName { word, instead };
    }
    VerbError::UnknownVerb {
        word: shortened(word, WORD_COLUMNS),
        near: nearest(word, VERBS.iter().map(|spec| spec.name)),
    }
}

fn parse_help<'w>(
    help: &'static Spec,
    mut words: impl Iterator<Item = &'w str>,
) -> Result<Verb, VerbError> {
    let Some(word) = words.next() else {
        return Ok(Verb::Help { about: None });
    };
    let about = spec(word).ok_or_else(|| no_verb(word))?;
    match words.next() {
        // `help config show` is what one would type.
        Some(word) if !about.knows(word) => Err(unknown(help, word)),
        _ => Ok(Verb::Help { about: Some(about) }),
    }
}

fn verb(spec: &'static Spec, given: &Arguments) -> Result<Verb, VerbError> {
    let force = given.has("--force");
    Ok(match spec.name {
        "status" => Verb::Status {
            json: given.has("--json"),
        },
        "events" => Verb::Events {
            json: given.has("--json"),
            now: given.has("--now"),
            since: given.event("--since"),
        },
        "explain" => Verb::Explain,
        "fence" => Verb::Fence,
        "primary" => Verb::Primary { force },
        "secondary" => Verb::Secondary { force },
        "suspend-io" => Verb::SuspendIo,
        "resume-io" => Verb::ResumeIo,
        "unfence" => Verb::Unfence {
            episode: given.episode()?,
            yes: given.has("--yes"),
        },
        "connect" => Verb::Connect {
            discard_my_data: given.has("--discard-my-data"),
            dry_run: given.has("--dry-run"),
        },
        "disconnect" => Verb::Disconnect,
        "create-md" => Verb::CreateMd {
            volume: given.volume()?,
            force,
        },
        "attach" => Verb::Attach {
            volume: given.volume()?,
        },
        "detach" => Verb::Detach {
            volume: given.volume()?,
            force,
        },
        "inspect" => Verb::Inspect {
            volume: given.optional_volume(),
        },
        "resize" => Verb::Resize {
            volume: given.volume()?,
            size: given.offset("--size"),
            assume_clean: given.has("--assume-clean"),
        },
        "outdate" => Verb::Outdate,
        "invalidate" => Verb::Invalidate {
            volume: given.volume()?,
        },
        "invalidate-remote" => Verb::InvalidateRemote {
            volume: given.volume()?,
        },
        "rollback" => rollback(spec, given)?,
        "drop-snapshot" => Verb::DropSnapshot {
            volume: given.volume()?,
        },
        "new-current-uuid" if given.has("--clear-bitmap") || given.has("--dry-run") => {
            Verb::NewCurrentUuid
        }
        "new-current-uuid" => {
            let what = "--clear-bitmap: only its use without a resync is there";
            return Err(VerbError::Expected { spec, what });
        }
        "pause-sync" => Verb::PauseSync {
            volume: given.optional_volume(),
        },
        "resume-sync" => Verb::ResumeSync {
            volume: given.optional_volume(),
        },
        "verify" => verify(spec, given)?,
        "disks" => Verb::Disks,
        "net" => Verb::Net,
        "log" => Verb::Log {
            lines: given.lines().unwrap_or(LOG_LINES_DEFAULT),
            level: given.level("--level").unwrap_or(Level::Debug),
        },
        "config" => match given.word("'show' or 'check'")? {
            "check" => Verb::ConfigCheck,
            _ => Verb::ConfigShow,
        },
        "crash" => match given.word("'show' or 'clear'")? {
            "clear" if given.has("--json") => return Err(unknown(spec, "--json")),
            "clear" => Verb::CrashClear,
            _ => Verb::CrashShow {
                json: given.has("--json"),
            },
        },
        "adjust" => Verb::Adjust {
            dry_run: given.has("--dry-run"),
        },
        "version" => Verb::Version,
        "reboot" => Verb::Reboot { force },
        "poweroff" => Verb::Poweroff { force },
        "clear" => Verb::Clear,
        other => unreachable!("the verb {other} of the table has no parser"),
    })
}

fn rollback(spec: &'static Spec, given: &Arguments) -> Result<Verb, VerbError> {
    let (yes, dry_run) = ("--yes", "--dry-run");
    if given.has(yes) && given.has(dry_run) {
        return Err(VerbError::Together {
            spec,
            one: yes,
            other: dry_run,
        });
    }
    Ok(Verb::Rollback {
        volume: given.volume()?,
        yes: given.has(yes),
    })
}

fn verify(spec: &'static Spec, given: &Arguments) -> Result<Verb, VerbError> {
    let volume = given.volume()?;
    let abort = "--abort";
    if given.has(abort) {
        return match given.other_than(abort) {
            Some(other) => Err(VerbError::Together {
                spec,
                one: abort,
                other,
            }),
            None => Ok(Verb::VerifyAbort { volume }),
        };
    }
    let (start, stop) = (given.offset("--start"), given.offset("--stop"));
    if stop.is_some_and(|stop| stop <= start.unwrap_or(0)) {
        let what = "a place after --stop that lies above that after --start";
        return Err(VerbError::Expected { spec, what });
    }
    Ok(Verb::Verify {
        volume,
        start,
        stop,
        repair: given.has("--repair"),
    })
}
