//! `palisadectl check-config`: a node's TOML, or those of both nodes, checked before they are booted.

use crate::error::Error;
use admin::config::Config;
use admin::config::live::Written;
use admin::units::ExactSize;
use std::path::{Path, PathBuf};

/// Checks one configuration by itself, or two also against each other. Answers what is sound in them, in words.
///
/// # Errors
/// [`Error::Unread`]; [`Error::Mistakes`] with every mistake of both files, or with what does not fit.
pub fn check(files: &[PathBuf]) -> Result<String, Error> {
    let mut configs = Vec::new();
    let mut mistakes = String::new();
    for file in files {
        match Config::parse(&read(file)?) {
            Ok(config) => configs.push(config),
            Err(errors) => mistakes += &format!("{}: {errors}\n", file.display()),
        }
    }
    if !mistakes.is_empty() {
        return Err(Error::Mistakes(mistakes));
    }
    let mut said = String::new();
    for (file, config) in files.iter().zip(&configs) {
        said += &format!(
            "{}: sound: node {} of resource {}, {} volume(s)\n",
            file.display(),
            config.node.name,
            config.resource.name,
            config.volumes.len()
        );
    }
    if let [a, b] = configs.as_slice() {
        let found = mismatches(a, b);
        if !found.is_empty() {
            return Err(Error::Mistakes(found.join("\n") + "\n"));
        }
        said += "both fit together\n";
    }
    Ok(said)
}

/// One byte more than a configuration may have: the parser then says what is wrong with it.
fn read(file: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let unread = |why| Error::Unread {
        path: file.into(),
        why,
    };
    let mut text = Vec::new();
    let limit = admin::config::TEXT_BYTES_MAX as u64 + 1;
    let file = std::fs::File::open(file).map_err(unread)?;
    file.take(limit).read_to_end(&mut text).map_err(unread)?;
    Ok(text)
}

/// Keys that must be the same on both nodes, with the secrets and what belongs to volumes.
const SAME: [&str; 10] = [
    "resource.name",
    "resource.protocol",
    "resource.fencing",
    "resource.after-sb-0pri",
    "resource.after-sb-1pri",
    "resource.after-sb-2pri",
    "resource.always-asbp",
    "resource.rr-conflict",
    "peer.integrity",
    "export.floating-address",
];

/// What docs/CONFIG.md says must be the same on both nodes and is not, or must lead to the other one and does not.
fn mismatches(a: &Config, b: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let names = (a.node.name.as_str(), b.node.name.as_str());
    let mut same = |key: &str, mine: String, theirs: String| {
        if mine != theirs {
            let (a, b) = names;
            found.push(format!(
                "{key} must be the same: {a} has {mine}, {b} has {theirs}"
            ));
        }
    };
    let written = [Written::of(a), Written::of(b)];
    for key in SAME {
        let [mine, theirs] =
            [&written[0], &written[1]].map(|w| w.get(key).unwrap_or("none").to_owned());
        same(key, mine, theirs);
    }
    let indices = |config: &Config| {
        let indices = config.volumes.iter().map(|v| v.index.to_string());
        indices.collect::<Vec<_>>().join(", ")
    };
    same("the volumes' indices", indices(a), indices(b));
    for (mine, theirs) in a.volumes.iter().zip(&b.volumes) {
        if mine.index == theirs.index {
            let name = mine.export_name();
            let size = |size: Option<u64>| {
                size.map_or_else(
                    || "the whole disk".into(),
                    |s| format!("\"{}\"", ExactSize(s)),
                )
            };
            same(&format!("{name}: size"), size(mine.size), size(theirs.size));
            let [mine, theirs] = [mine, theirs].map(|v| v.block_size.to_string());
            same(&format!("{name}: block-size"), mine, theirs);
        }
    }
    // Secrets are compared, never shown.
    if a.peer.secret.as_ref().map(|s| s.as_bytes()) != b.peer.secret.as_ref().map(|s| s.as_bytes())
    {
        found.push("peer.secret must be the same on both".into());
    }
    if let (Some(mine), Some(theirs)) = (&a.management, &b.management)
        && mine.secret.as_bytes() != theirs.secret.as_bytes()
    {
        found.push("management.secret must be the same on both".into());
    }
    for (one, other) in [(a, b), (b, a)] {
        found.extend(misses(one, other));
    }
    found
}

/// What of `one`'s words about its peer is not so at `other`.
fn misses(one: &Config, other: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let name = &one.node.name;
    if one.peer.name != other.node.name {
        found.push(format!(
            "{name}: peer.name is {}, the other node is called {}",
            one.peer.name, other.node.name
        ));
    }
    if one.peer.address != other.replication_listen() {
        found.push(format!(
            "{name}: peer.address is {}, the other node listens on {}",
            one.peer.address,
            other.replication_listen()
        ));
    }
    let asked = one.management.as_ref().and_then(|m| m.peer);
    let card = other.nics.iter().find(|nic| nic.roles.management);
    if let Some(asked) = asked {
        match (&other.management, card) {
            (Some(management), Some(nic))
                if (nic.address.address, management.port) == (*asked.ip(), asked.port()) => {}
            (Some(management), Some(nic)) => found.push(format!(
                "{name}: management.peer is {asked}, the other node is asked on {}:{}",
                nic.address.address, management.port
            )),
            _ => found.push(format!(
                "{name}: management.peer is {asked}, the other node has no [management] or no card for it"
            )),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn example(node: &str) -> String {
        let path = format!("{}/../examples/{node}.toml", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    fn checked(a: &str, b: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a.toml"), dir.path().join("b.toml")];
        std::fs::write(&files[0], a).unwrap();
        std::fs::write(&files[1], b).unwrap();
        check(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn the_examples_fit_together() {
        let said = checked(&example("a"), &example("b")).unwrap();
        assert!(said.ends_with("both fit together\n"), "{said}");
    }

    #[test]
    fn every_mistake_of_both_files_is_told() {
        let a = example("a").replace("[peer]", "[pear]");
        let said = checked(&a, "nonsense").unwrap_err();
        assert!(said.contains("a.toml: the configuration has"), "{said}");
        assert!(said.contains("b.toml: the configuration has"), "{said}");
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_values_but_no_secret() {
        let a = example("a");
        let twice = checked(&a, &a).unwrap_err();
        assert!(twice.contains("peer.name is"), "{twice}");
        let b = example("b");
        let name = b
            .lines()
            .find(|line| line.starts_with("name = \"r0\""))
            .unwrap();
        let other = checked(&a, &b.replace(name, "name = \"r1\"")).unwrap_err();
        assert!(other.contains("resource.name must be the same"), "{other}");
        // Values as in the files.
        let sized = |text: &str, size: &str| {
            text.replace("index = 0\nserial", &format!("index = 0\n{size}\nserial"))
        };
        let volume = |text: &str| text.contains("[[volume]]\nindex = 0\nserial");
        assert!(
            volume(&a) && volume(&b),
            "the examples are what this test takes them for"
        );
        let told = checked(
            &sized(&a, "size = \"1536MiB\""),
            &b.replace("[resource]", "[resource]\nrr-conflict = \"violently\""),
        );
        let told = told.unwrap_err();
        for line in [
            "vol0: size must be the same: a has \"1536MiB\", b has the whole disk",
            "resource.rr-conflict must be the same: a has \"disconnect\", b has \"violently\"",
        ] {
            assert!(told.contains(line), "no '{line}' in: {told}");
        }
        assert!(!told.contains("Some("), "{told}");
        let secret = |text: &str, secret: &str| {
            text.replace("[peer]", &format!("[peer]\nsecret = \"{secret}\""))
        };
        let told = checked(
            &secret(&a, "correct horse battery"),
            &secret(&b, "wrong horse battery!"),
        );
        let told = told.unwrap_err();
        assert!(told.contains("peer.secret must be the same"), "{told}");
        assert!(!told.contains("horse"), "{told}");
    }

    #[test]
    fn a_file_that_is_not_there_or_endless_is_refused() {
        let missing = check(&["/nonexistent/a.toml".into()]);
        assert!(matches!(missing, Err(Error::Unread { .. })));
        let endless = check(&["/dev/zero".into()]);
        assert!(matches!(endless, Err(Error::Mistakes(_))));
    }
}
