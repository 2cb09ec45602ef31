//! Which nodes there are on this host, and where their consoles are.

use crate::error::Error;
use std::path::{Path, PathBuf};

/// A node's console on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What the user calls it.
    pub name: String,
    /// QEMU's unix socket of its first serial port.
    pub socket: PathBuf,
}

impl Node {
    /// The file whose lock says that somebody uses the console: `NODE.lock` beside `NODE.console`, as `run-qemu.sh` has it, or
    /// `console.lock` beside `console`.
    pub fn lock(&self) -> PathBuf {
        self.socket.with_extension("lock")
    }

    fn under_systemd(name: &str) -> Self {
        Self {
            name: name.into(),
            socket: Path::new("/run")
                .join(format!("palisade-{name}"))
                .join("console"),
        }
    }

    fn of_pair(dir: &Path, name: &str) -> Self {
        Self {
            name: name.into(),
            socket: dir.join(format!("{name}.console")),
        }
    }
}

/// Where to look for nodes.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The directory of a pair of `run-qemu.sh`; only there, if it is given.
    pub dir: Option<PathBuf>,
}

impl Places {
    /// The node that a user means: a path is a socket's, a name is a node's in the directory, in `./run`, or under systemd.
    pub fn node(&self, name: &str) -> Node {
        if name.contains('/') {
            return Node {
                name: name.into(),
                socket: name.into(),
            };
        }
        if let Some(dir) = &self.dir {
            return Node::of_pair(dir, name);
        }
        let here = Node::of_pair(Path::new("run"), name);
        if here.socket.exists() {
            here
        } else {
            Node::under_systemd(name)
        }
    }

    /// All nodes that are to be found, by name.
    pub fn all(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        let dir = self.dir.as_deref().unwrap_or(Path::new("run"));
        for name in names_in(dir, |file| file.strip_suffix(".console")) {
            nodes.push(Node::of_pair(dir, &name));
        }
        if self.dir.is_none() {
            for name in names_in(Path::new("/run"), |file| file.strip_prefix("palisade-")) {
                let node = Node::under_systemd(&name);
                if node.socket.exists() {
                    nodes.push(node);
                }
            }
        }
        nodes
    }

    /// The node to send a command to: the named one, or the only one.
    ///
    /// # Errors
    /// [`Error::WhichNode`].
    pub fn one(&self, named: Option<&str>) -> Result<Node, Error> {
        if let Some(name) = named {
            return Ok(self.node(name));
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

    #[test]
    fn a_pairs_directory_is_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            dir: Some(dir.path().to_owned()),
        };
        assert!(matches!(places.one(None), Err(Error::WhichNode(found)) if found.is_empty()));
        std::fs::write(dir.path().join("b.console"), "").unwrap();
        std::fs::write(dir.path().join("b.log"), "").unwrap();
        let only = places.one(None).unwrap();
        assert_eq!(only.name, "b");
        assert_eq!(only.lock(), dir.path().join("b.lock"));
        std::fs::write(dir.path().join("a.console"), "").unwrap();
        assert!(matches!(places.one(None), Err(Error::WhichNode(found)) if found == ["a", "b"]));
        assert_eq!(
            places.one(Some("a")).unwrap().socket,
            dir.path().join("a.console")
        );
    }

    #[test]
    fn a_path_is_a_socket() {
        let node = Places::default().node("/srv/x/console");
        assert_eq!(node.socket, Path::new("/srv/x/console"));
        assert_eq!(node.lock(), Path::new("/srv/x/console.lock"));
        assert_eq!(
            Places::default().node("nowhere").socket,
            Path::new("/run/palisade-nowhere/console")
        );
    }
}
