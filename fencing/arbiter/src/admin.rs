//! The administrator's commands, over a Unix socket beside the store: one line of JSON there; back come `out` or `err`, the exit
//! status, and a text for that stream.

use crate::config::Config;
use crate::log;
use crate::promote;
use crate::server::Server;
use crate::store::{Entry, Error, Version};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread::Scope;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
/// How long a command may take: a store that is away takes its time to say so.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// Longest command, in bytes.
const COMMAND_MAX: u64 = 4096;

/// The command-line side.
pub fn ask(config: &Config, command: &[String]) -> Result<ExitCode, Error> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let takes = match words.split_first() {
        Some((&"promote", rest)) => match promote::Wish::parse(rest) {
            Ok(wish) => wish.timeout(),
            Err(error) => {
                eprintln!("palisade-arbiter: {error}");
                return Ok(ExitCode::from(64));
            }
        },
        _ => Duration::ZERO,
    };
    let socket = &config.socket;
    let mut stream = UnixStream::connect(socket)
        .map_err(|error| format!("no arbiter answers at {}: {error}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE + takes))?;
    writeln!(stream, "{}", serde_json::to_string(command)?)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let (head, text) = said.split_once('\n').ok_or("the arbiter went away")?;
    let (stream, code) = head.split_once(' ').unwrap_or((head, ""));
    let code: u8 = code
        .parse()
        .map_err(|_| format!("the arbiter answers {head:?}: is it of another release?"))?;
    match stream {
        "out" => print!("{text}"),
        _ => eprintln!("palisade-arbiter: {}", text.trim_end()),
    }
    Ok(ExitCode::from(code))
}

/// The daemon's side. Whoever is too slow is not waited for. What takes its time gets a thread: one for each node at most.
pub fn answer<'scope>(
    server: &'scope Server<'scope>,
    stream: UnixStream,
    scope: &'scope Scope<'scope, '_>,
) {
    let mut line = String::new();
    let ready = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    let read = BufReader::new((&stream).take(COMMAND_MAX)).read_line(&mut line);
    if ready.is_err() || read.is_err() {
        return;
    }
    let words: Vec<String> = serde_json::from_str(&line).unwrap_or_default();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = match words.split_first() {
        Some((&"promote", rest)) => match promote::Wish::parse(rest) {
            Ok(wish) => {
                let run = move || reply(&stream, &promoted(server, &wish));
                let thread = std::thread::Builder::new().name("promote".into());
                // The stream is dropped with the closure: the command hears that the arbiter went away.
                if let Err(error) = thread.spawn_scoped(scope, run) {
                    log!("promote: no thread: {error}");
                }
                return;
            }
            Err(error) => format!("err 1\n{error}\n"),
        },
        _ => match run(server, &words) {
            Ok(text) => format!("out 0\n{text}"),
            Err(error) => format!("err 1\n{error}\n"),
        },
    };
    reply(&stream, &said);
}

fn reply(mut stream: &UnixStream, said: &str) {
    // Whoever hung up does not want it.
    let _ = stream.write_all(said.as_bytes());
}

fn promoted(server: &Server<'_>, wish: &promote::Wish) -> String {
    match promote::promote(server, wish) {
        Ok(report) => {
            let stream = if report.code == 0 || wish.json() {
                "out"
            } else {
                "err"
            };
            format!("{stream} {}\n{}", report.code, report.text)
        }
        Err(error) => format!("err 1\n{error}\n"),
    }
}

fn entries(server: &Server<'_>) -> Result<Vec<(String, Entry)>, Error> {
    let pairs = server.config.pairs.iter();
    pairs
        .map(|pair| {
            let name = pair.resource.as_str();
            Ok((name.to_owned(), server.store.load(name)?.0))
        })
        .collect()
}

/// Changes an entry and says so in the journal.
fn change(
    server: &Server<'_>,
    resource: &str,
    read: &Version,
    next: &Entry,
    line: &str,
) -> Result<(), Error> {
    if !server.store.swap(resource, read, next, line, None)? {
        return Err(format!("{resource} changed in this moment; see 'list', and try again").into());
    }
    log!("resource {resource}: {line}");
    Ok(())
}

fn run(server: &Server<'_>, words: &[&str]) -> Result<String, Error> {
    let mut out = String::new();
    match words {
        ["list"] => {
            writeln!(
                out,
                "{:<32} {:<32} {:>9} {:>9}",
                "resource", "holder", "episode", "highest"
            )?;
            for (name, entry) in entries(server)? {
                let (holder, episode) = match &entry.holder {
                    Some((holder, episode)) => (holder.as_str(), episode.to_string()),
                    None => ("-", "-".to_owned()),
                };
                writeln!(
                    out,
                    "{name:<32} {holder:<32} {episode:>9} {:>9}",
                    entry.last
                )?;
            }
        }
        ["list", "--json"] => {
            let entries: Vec<_> = entries(server)?
                .into_iter()
                .map(|(name, entry)| {
                    serde_json::json!({
                        "resource": name,
                        "holder": entry.holder.as_ref().map(|(node, _)| node),
                        "episode": entry.holder.as_ref().map(|(_, episode)| episode),
                        "highest": entry.last,
                        "identity": format!("{:016x}", entry.identity),
                    })
                })
                .collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&entries)?)?;
        }
        ["journal"] => {
            for line in server.store.journal()? {
                writeln!(out, "{line}")?;
            }
        }
        ["release", resource, node, episode, rest @ ..] => {
            server.served(resource)?;
            let (entry, read) = server.store.load(resource)?;
            let mut arbiter = entry.arbiter()?;
            let number = episode
                .parse()
                .map_err(|_| format!("{episode:?} is no episode"))?;
            let name =
                fencing::Name::try_from(*node).map_err(|_| format!("{node:?} is no node"))?;
            if !arbiter.release_by_hand(&name, number) {
                return Err(format!(
                    "{node} does not hold {resource} by episode {episode}; see 'list'"
                )
                .into());
            }
            if rest != ["--yes"] {
                return Err(format!(
                    "{node} may be answering clients by this fence, and the other node could then become Primary with older data. \
                     If {node} is off, or Secondary: release {resource} {node} {episode} --yes"
                )
                .into());
            }
            let line = format!("RELEASED-BY-HAND {node} {episode}");
            let next = Entry::new(entry.identity, &arbiter);
            change(server, resource, &read, &next, &line)?;
            writeln!(out, "released")?;
        }
        ["forget", resource, rest @ ..] => {
            server.served(resource)?;
            let (entry, read) = server.store.load(resource)?;
            if rest != ["--yes"] {
                return Err(format!(
                    "this is for a resource that was made anew under the same name; a pair that still runs would lose its fence. forget {resource} --yes"
                )
                .into());
            }
            // Numbers go on from where they were: what is under way of the old one stays harmless.
            let next = Entry {
                last: entry.last,
                ..Entry::default()
            };
            change(server, resource, &read, &next, "FORGOTTEN")?;
            writeln!(out, "forgotten")?;
        }
        _ => {
            return Err(
                "unknown command: list, list --json, journal, release, forget, promote".into(),
            );
        }
    }
    Ok(out)
}
