//! Which nodes there are, and which way leads to them.

use crate::error::Error;
use crate::line::{Answer, Line};
use crate::status::Status;
use crate::web::Web;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// What the user calls it.
    pub name: String,
    /// How it is talked to.
    pub way: Way,
}

/// How a node is talked to.
#[derive(Debug, Clone)]
pub enum Way {
    /// By its serial console, on this host.
    Console(Socket),
    /// By its web server.
    Web(Web),
}

impl Node {
    /// Has it carry out a command, which must be printable ASCII, and waits for the whole answer.
    ///
    /// # Errors
    /// Those of the way: no node, no answer within `patience`, or none that is understood.
    pub fn run(&self, command: &str, patience: Duration) -> Result<Answer, Error> {
        match &self.way {
            Way::Console(socket) => Line::open(socket, patience)?.run(command, patience),
            Way::Web(web) => web.run(command, patience),
        }
    }

    /// Its status. By the web that needs no token.
    ///
    /// # Errors
    /// As [`Node::run`]; [`Error::Status`].
    pub fn status(&self, patience: Duration) -> Result<Status, Error> {
        let text = match &self.way {
            Way::Console(_) => self.run("status --json", patience)?.output,
            Way::Web(web) => web.document("/status", patience)?,
        };
        Status::read(&text)
    }
}

/// QEMU's unix socket of a node's first serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket(pub PathBuf);

impl Socket {
    /// The file whose lock says that somebody uses the console: `NODE.lock` beside `NODE.console`, as `run-qemu.sh` has it, or
    /// `console.lock` beside `console`.
    pub fn lock(&self) -> PathBuf {
        self.0.with_extension("lock")
    }

    fn under_systemd(name: &str) -> Self {
        let dir = Path::new("/run").join(format!("palisade-{name}"));
        Self(dir.join("console"))
    }

    fn of_pair(dir: &Path, name: &str) -> Self {
        Self(dir.join(format!("{name}.console")))
    }

    fn of_node(self, name: &str) -> Node {
        Node {
            name: name.into(),
            way: Way::Console(self),
        }
    }
}

/// Where to look for nodes.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The directory of a pair of `run-qemu.sh`; only there, if it is given.
    pub dir: Option<PathBuf>,
    /// The file with the token for web servers; else it is in the environment.
    pub token_file: Option<PathBuf>,
}

impl Places {
    /// The node that a user means: an address is a web server's, a path is a socket's, a name is a node's in the directory, in `./run`, or under
    /// systemd.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Token`].
    pub fn node(&self, name: &str) -> Result<Node, Error> {
        if name.contains("://") {
            let web = Web::new(name, self.token_file.as_deref())?;
            return Ok(Node {
                name: web.address().into(),
                way: Way::Web(web),
            });
        }
        let here = Socket::of_pair(Path::new("run"), name);
        let socket = if name.contains('/') {
            Socket(name.into())
        } else if let Some(dir) = &self.dir {
            Socket::of_pair(dir, name)
        } else if here.0.exists() {
            here
        } else {
            Socket::under_systemd(name)
        };
        Ok(socket.of_node(name))
    }

    /// All nodes of this host that are to be found, by name.
    pub fn all(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        let dir = self.dir.as_deref().unwrap_or(Path::new("run"));
        for name in names_in(dir, |file| file.strip_suffix(".console")) {
            nodes.push(Socket::of_pair(dir, &name).of_node(&name));
        }
        if self.dir.is_none() {
            for name in names_in(Path::new("/run"), |file| file.strip_prefix("palisade-")) {
                let socket = Socket::under_systemd(&name);
                if socket.0.exists() {
                    nodes.push(socket.of_node(&name));
                }
            }
        }
        nodes
    }

    /// The nodes that are named, or else all.
    ///
    /// # Errors
    /// Those of [`Places::node`].
    pub fn some(&self, named: &[&str]) -> Result<Vec<Node>, Error> {
        if named.is_empty() {
            return Ok(self.all());
        }
        named.iter().map(|name| self.node(name)).collect()
    }

    /// The node to send a command to: the named one, or the only one.
    ///
    /// # Errors
    /// [`Error::WhichNode`], and those of [`Places::node`].
    pub fn one(&self, named: &[&str]) -> Result<Node, Error> {
        match named {
            [] => {}
            [name] => return self.node(name),
            more => {
                let names = more.iter().map(|name| (*name).to_owned());
                return Err(Error::WhichNode(names.collect()));
            }
        }
        let mut nodes = self.all();
        match (nodes.pop(), nodes.is_empty()) {
            (Some(only), true) => Ok(only),
            (last, _) => {
                nodes.extend(last);
                Err(Error::WhichNode(
                    nodes.into_iter().map(|node| node.name).collect(),
                ))
            }
        }
    }
}

fn names_in(dir: &Path, name: impl Fn(&str) -> Option<&str>) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| name(entry.file_name().to_str()?).map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn socket(node: Node) -> Socket {
        match node.way {
            Way::Console(socket) => socket,
            Way::Web(web) => panic!("{web:?}"),
        }
    }

    #[test]
    fn a_pairs_directory_is_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            dir: Some(dir.path().to_owned()),
            token_file: None,
        };
        assert!(matches!(places.one(&[]), Err(Error::WhichNode(found)) if found.is_empty()));
        std::fs::write(dir.path().join("b.console"), "").unwrap();
        std::fs::write(dir.path().join("b.log"), "").unwrap();
        let only = places.one(&[]).unwrap();
        assert_eq!(only.name, "b");
        assert_eq!(socket(only).lock(), dir.path().join("b.lock"));
        std::fs::write(dir.path().join("a.console"), "").unwrap();
        assert!(matches!(places.one(&[]), Err(Error::WhichNode(found)) if found == ["a", "b"]));
        assert!(
            matches!(places.one(&["b", "a"]), Err(Error::WhichNode(found)) if found == ["b", "a"])
        );
        assert_eq!(places.some(&[]).unwrap().len(), 2);
        assert_eq!(places.some(&["x", "y", "z"]).unwrap().len(), 3);
        assert_eq!(
            socket(places.one(&["a"]).unwrap()).0,
            dir.path().join("a.console")
        );
    }

    #[test]
    fn a_path_is_a_socket() {
        let places = Places::default();
        let named = socket(places.node("/srv/x/console").unwrap());
        assert_eq!(named.0, Path::new("/srv/x/console"));
        assert_eq!(named.lock(), Path::new("/srv/x/console.lock"));
        let nowhere = socket(places.node("nowhere").unwrap());
        assert_eq!(nowhere.0, Path::new("/run/palisade-nowhere/console"));
        let web = places.node("http://10.0.0.1:7791/").unwrap();
        assert!(matches!(web.way, Way::Web(_)));
        assert_eq!(web.name, "http://10.0.0.1:7791");
    }
}
