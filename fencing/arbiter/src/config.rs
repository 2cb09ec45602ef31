//! The configuration: a TOML file.

use fencing::{Event, Name};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shorter secrets are guessed.
const SECRET_MIN: usize = 16;
/// What a handler may take, in seconds, unless said otherwise: DRBD's scripts for Pacemaker wait up to 90 s.
const HANDLER_TIMEOUT: u64 = 120;
const HANDLER_TIMEOUT_MAX: u64 = 3600;
/// What one server of etcd may take for one answer, in milliseconds.
const ETCD_TIMEOUT: u64 = 2000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    listen: SocketAddr,
    store: Option<PathBuf>,
    etcd: Option<EtcdTable>,
    socket: Option<PathBuf>,
    #[serde(default)]
    resource: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EtcdTable {
    endpoints: Vec<String>,
    #[serde(default = "prefix")]
    prefix: String,
    #[serde(default = "etcd_timeout")]
    timeout_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Resource {
    name: String,
    nodes: [String; 2],
    secret: String,
    #[serde(default = "volumes")]
    volumes: Vec<u8>,
    addresses: Option<[String; 2]>,
    #[serde(default = "handler_timeout")]
    handler_timeout: u64,
    #[serde(default)]
    handlers: BTreeMap<String, String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

fn prefix() -> String {
    "palisade/".into()
}

const fn etcd_timeout() -> u64 {
    ETCD_TIMEOUT
}

const fn handler_timeout() -> u64 {
    HANDLER_TIMEOUT
}

fn volumes() -> Vec<u8> {
    vec![0]
}

/// A pair that is served.
pub struct Pair {
    pub resource: Name,
    pub nodes: [Name; 2],
    pub secret: String,
    /// For the handlers' environment.
    pub volumes: Vec<u8>,
    /// The nodes' addresses on the replication link, for the same.
    pub addresses: Option<[String; 2]>,
    pub handler_timeout: Duration,
    /// Commands for the shell, by DRBD's names.
    pub handlers: BTreeMap<String, String>,
    /// What the handlers find in their environment beside DRBD's variables.
    pub environment: BTreeMap<String, String>,
}

/// Where decisions are kept.
pub enum Keeping {
    /// In a database of this arbiter alone.
    File(PathBuf),
    Etcd(EtcdAt),
}

pub struct EtcdAt {
    /// `http://HOST:PORT` each; tried in turn.
    pub endpoints: Vec<String>,
    /// In front of all keys.
    pub prefix: String,
    pub timeout: Duration,
}

/// What the daemon serves, where, and where it keeps it.
pub struct Config {
    pub listen: SocketAddr,
    pub keeping: Keeping,
    /// For the administrator's commands; the handlers' locks lie beside it.
    pub socket: PathBuf,
    pub pairs: Vec<Pair>,
}

/// Why a configuration is refused, in words.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn name(text: &str) -> Result<Name, Refused> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match Name::try_from(text) {
        Ok(name) if !text.is_empty() && text.chars().all(good) => Ok(name),
        _ => Err(Refused(format!(
            "{text:?} is no name: 1 to 32 ASCII letters, digits, '-', '_', '.'"
        ))),
    }
}

impl Config {
    /// Reads and checks it.
    ///
    /// # Errors
    ///
    /// What is wrong, with its line.
    pub fn read(path: &Path) -> Result<Self, Refused> {
        let text = std::fs::read_to_string(path).map_err(|error| Refused(error.to_string()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Refused> {
        let file: File = toml::from_str(text).map_err(|error| Refused(error.to_string()))?;
        let (keeping, socket) = keeping(file.store, file.etcd, file.socket)?;
        let mut pairs: Vec<Pair> = Vec::new();
        for resource in file.resource {
            let pair = pair(resource)?;
            if pairs.iter().any(|other| other.resource == pair.resource) {
                return Err(Refused(format!(
                    "resource {} is there twice: give one of them another name, on its nodes too",
                    pair.resource
                )));
            }
            pairs.push(pair);
        }
        if pairs.is_empty() {
            return Err(Refused("no [[resource]]: nobody would be served".into()));
        }
        Ok(Self {
            listen: file.listen,
            keeping,
            socket,
            pairs,
        })
    }

    /// The lock that the handlers of one resource hold while they run.
    pub fn lock(&self, resource: &str) -> PathBuf {
        self.socket.with_extension(format!("{resource}.lock"))
    }
}

fn keeping(
    store: Option<PathBuf>,
    etcd: Option<EtcdTable>,
    socket: Option<PathBuf>,
) -> Result<(Keeping, PathBuf), Refused> {
    let (keeping, beside) = match (store, etcd) {
        (Some(store), None) => {
            let beside = store.with_extension("socket");
            (Keeping::File(store), Some(beside))
        }
        (None, Some(etcd)) => (Keeping::Etcd(etcd_at(etcd)?), None),
        (None, None) => {
            return Err(Refused(
                "neither store nor [etcd]: give store = \"FILE\", or [etcd] if several arbiters share what they decide".into(),
            ));
        }
        (Some(_), Some(_)) => {
            return Err(Refused(
                "both store and [etcd]: what is decided is kept in one of them".into(),
            ));
        }
    };
    let socket = socket.or(beside).ok_or_else(|| {
        Refused(
            "with [etcd], socket = \"FILE\" says where the administrator's commands arrive".into(),
        )
    })?;
    Ok((keeping, socket))
}

fn etcd_at(table: EtcdTable) -> Result<EtcdAt, Refused> {
    if table.endpoints.is_empty() {
        return Err(Refused("etcd: no endpoints".into()));
    }
    for endpoint in &table.endpoints {
        let host = endpoint.strip_prefix("http://");
        if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
            return Err(Refused(format!(
                "etcd: {endpoint:?} is no endpoint: \"http://HOST:PORT\". For etcd with TLS, run `etcd grpc-proxy` or a member of the cluster on this machine"
            )));
        }
    }
    let sound = |c: char| c.is_ascii_graphic();
    if table.prefix.is_empty() || !table.prefix.chars().all(sound) {
        return Err(Refused(format!("etcd: {:?} is no prefix", table.prefix)));
    }
    if !(100..=60_000).contains(&table.timeout_ms) {
        return Err(Refused("etcd: timeout-ms is 100 to 60000".into()));
    }
    Ok(EtcdAt {
        endpoints: table.endpoints,
        prefix: table.prefix,
        timeout: Duration::from_millis(table.timeout_ms),
    })
}

fn pair(resource: Resource) -> Result<Pair, Refused> {
    let pair = Pair {
        resource: name(&resource.name)?,
        nodes: [name(&resource.nodes[0])?, name(&resource.nodes[1])?],
        secret: resource.secret,
        volumes: resource.volumes,
        addresses: resource.addresses,
        handler_timeout: Duration::from_secs(resource.handler_timeout),
        handlers: resource.handlers,
        environment: resource.environment,
    };
    let refused = |what: String| Err(Refused(format!("resource {}: {what}", pair.resource)));
    if pair.nodes[0] == pair.nodes[1] || pair.nodes.iter().any(|n| n == "arbiter") {
        return refused("its nodes need two names, and neither is \"arbiter\"".into());
    }
    if pair.secret.len() < SECRET_MIN {
        return refused(format!("a secret has at least {SECRET_MIN} characters"));
    }
    if !(1..=HANDLER_TIMEOUT_MAX).contains(&resource.handler_timeout) {
        return refused(format!(
            "handler-timeout is 1 to {HANDLER_TIMEOUT_MAX} seconds"
        ));
    }
    let known: Vec<&str> = ["fence-peer", "unfence-peer"]
        .into_iter()
        .chain(Event::ALL.map(Event::name))
        .collect();
    for (handler, command) in &pair.handlers {
        if !known.contains(&handler.as_str()) {
            return refused(format!(
                "there is no handler {handler:?}; there are {}",
                known.join(", ")
            ));
        }
        if command.trim().is_empty() {
            return refused(format!("the handler {handler} is empty; leave it out"));
        }
    }
    for variable in pair.environment.keys() {
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let digit = |c: char| c.is_ascii_digit();
        if variable.is_empty() || variable.starts_with(digit) || !variable.chars().all(sound) {
            return refused(format!("{variable:?} is no environment variable"));
        }
    }
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "listen = \"127.0.0.1:7790\"\nstore = \"x.redb\"\n[[resource]]\nname = \"r0\"\nnodes = [\"a\", \"b\"]\nsecret = \"0123456789abcdef\"\n";

    #[test]
    fn mistakes_are_told_in_words() {
        assert!(Config::parse(GOOD).is_ok());
        for (from, to, said) in [
            ("r0", "r 0", "is no name"),
            ("\"b\"", "\"a\"", "two names"),
            ("\"b\"", "\"arbiter\"", "two names"),
            ("0123456789abcdef", "short", "at least 16"),
            ("store", "stoer", "unknown field"),
            ("store = \"x.redb\"", "", "neither store nor"),
            (
                "[[",
                "[etcd]\nendpoints = [\"http://[::1]:2379\"]\n[[",
                "both store",
            ),
            ("7790", "77900", "line 1"),
        ] {
            let refused = Config::parse(&GOOD.replace(from, to)).err().unwrap();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        for (more, said) in [
            ("handler-timeout = 0", "1 to 3600"),
            (
                "handlers = { fence-pear = \"x\" }",
                "no handler \"fence-pear\"; there are fence-peer",
            ),
            ("handlers = { fence-peer = \" \" }", "is empty"),
            (
                "environment = { \"A=B\" = \"x\" }",
                "is no environment variable",
            ),
        ] {
            let refused = Config::parse(&format!("{GOOD}{more}\n")).err().unwrap();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        let twice = format!("{GOOD}{}", &GOOD[GOOD.find("[[").unwrap()..]);
        assert!(Config::parse(&twice).is_err());
    }

    #[test]
    fn the_example_is_sound() {
        let example = include_str!("../../../examples/arbiter/arbiter.toml");
        let config = Config::parse(example).unwrap();
        assert!(config.pairs[0].handlers.contains_key("fence-peer"));
    }

    #[test]
    fn etcd_takes_the_place_of_a_store() {
        let etcd = |table: &str| {
            GOOD.replace("store = \"x.redb\"", "socket = \"/run/x.socket\"")
                .replace("[[", &format!("[etcd]\n{table}\n[["))
        };
        let good = "endpoints = [\"http://127.0.0.1:2379\"]";
        let config = Config::parse(&etcd(good)).unwrap();
        assert!(matches!(config.keeping, Keeping::Etcd(_)));
        assert_eq!(config.lock("r0"), Path::new("/run/x.r0.lock"));
        let without = etcd(good).replace("socket = ", "# ");
        let refused = Config::parse(&without).err().unwrap();
        assert!(refused.to_string().contains("socket ="), "{refused}");
        for (table, said) in [
            ("endpoints = []", "no endpoints"),
            ("endpoints = [\"https://x:1\"]", "is no endpoint"),
            ("endpoints = [\"127.0.0.1:2379\"]", "is no endpoint"),
            (
                "endpoints = [\"http://x:1\"]\ntimeout-ms = 1",
                "100 to 60000",
            ),
            (
                "endpoints = [\"http://x:1\"]\nprefix = \"\"",
                "is no prefix",
            ),
        ] {
            let refused = Config::parse(&etcd(table)).err().unwrap();
            assert!(refused.to_string().contains(said), "{refused}");
        }
    }
}
