//! The administrator's commands, over a Unix socket beside the store: one line of JSON there, text back.

use crate::config::Config;
use crate::log;
use crate::server::Server;
use crate::store::{Entry, Error, Version};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
/// How long a command may take: a store that is away takes its time to say so.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// Longest command, in bytes.
const COMMAND_MAX: u64 = 4096;

/// The command-line side.
pub fn ask(config: &Config, command: &[String]) -> Result<(), Error> {
    let socket = &config.socket;
    let mut stream = UnixStream::connect(socket)
        .map_err(|error| format!("no arbiter answers at {}: {error}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    writeln!(stream, "{}", serde_json::to_string(command)?)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    match said.split_once('\n') {
        Some(("ok", text)) => {
            print!("{text}");
            Ok(())
        }
        Some((_, text)) => Err(text.trim_end().into()),
        None => Err("the arbiter went away".into()),
    }
}

/// The daemon's side. Whoever is too slow is not waited for.
pub fn answer(server: &Server<'_>, stream: UnixStream) {
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
    let said = match run(server, &words) {
        Ok(text) => format!("ok\n{text}"),
        Err(error) => format!("error\n{error}\n"),
    };
    // Whoever hung up does not want it.
    let _ = (&stream).write_all(said.as_bytes());
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
    let configured = |server: &Server<'_>, resource: &str| {
        let mut pairs = server.config.pairs.iter();
        match pairs.any(|pair| pair.resource == resource) {
            true => Ok(()),
            false => Err(format!("no resource {resource} is configured; see 'list'")),
        }
    };
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
            configured(server, resource)?;
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
            configured(server, resource)?;
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
        _ => return Err("unknown command: list, list --json, journal, release, forget".into()),
    }
    Ok(out)
}
