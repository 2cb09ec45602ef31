//! The configuration: a TOML file.

use fencing::Name;
use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Shorter secrets are guessed.
const SECRET_MIN: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    listen: SocketAddr,
    store: PathBuf,
    #[serde(default)]
    resource: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Resource {
    name: String,
    nodes: [String; 2],
    secret: String,
}

/// A pair that is served.
pub struct Pair {
    pub resource: Name,
    pub nodes: [Name; 2],
    pub secret: String,
}

/// What the daemon serves, where, and where it keeps it.
pub struct Config {
    pub listen: SocketAddr,
    /// The database; the socket for the administrator lies beside it.
    pub store: PathBuf,
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
        let mut pairs: Vec<Pair> = Vec::new();
        for resource in file.resource {
            let pair = Pair {
                resource: name(&resource.name)?,
                nodes: [name(&resource.nodes[0])?, name(&resource.nodes[1])?],
                secret: resource.secret,
            };
            let what = &pair.resource;
            if pair.nodes[0] == pair.nodes[1] || pair.nodes.iter().any(|n| n == "arbiter") {
                return Err(Refused(format!(
                    "resource {what}: its nodes need two names, and neither is \"arbiter\""
                )));
            }
            if pair.secret.len() < SECRET_MIN {
                return Err(Refused(format!(
                    "resource {what}: a secret has at least {SECRET_MIN} characters"
                )));
            }
            if pairs.iter().any(|other| other.resource == pair.resource) {
                return Err(Refused(format!(
                    "resource {what} is there twice: give one of them another name, on its nodes too"
                )));
            }
            pairs.push(pair);
        }
        if pairs.is_empty() {
            return Err(Refused("no [[resource]]: nobody would be served".into()));
        }
        Ok(Self {
            listen: file.listen,
            store: file.store,
            pairs,
        })
    }

    /// Where the administrator's commands arrive.
    pub fn socket(&self) -> PathBuf {
        self.store.with_extension("socket")
    }
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
            ("7790", "77900", "line 1"),
        ] {
            let refused = Config::parse(&GOOD.replace(from, to)).err().unwrap();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        let twice = format!("{GOOD}{}", &GOOD[GOOD.find("[[").unwrap()..]);
        assert!(Config::parse(&twice).is_err());
    }
}
