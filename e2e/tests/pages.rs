//! The documentation agrees with what is there: links lead somewhere, and messages that are quoted exist.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::checkout;
use std::fs;
use std::path::{Path, PathBuf};

/// All files below a folder that end so.
fn files(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "tests" && name != "target" {
            files(&path, end, found);
        } else if name.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
}

/// The text of all of a node's sources, with string literals that go over several lines made one.
fn sources() -> String {
    let mut found = Vec::new();
    for folder in ["replication", "admin", "kernel", "net", "resync", "fencing"] {
        files(&checkout().join(folder).join("src"), ".rs", &mut found);
    }
    let mut all = String::new();
    for path in found {
        let text = fs::read_to_string(path).expect("UTF-8");
        let mut pieces = text.split("\\\n");
        all += pieces.next().unwrap_or_default();
        for piece in pieces {
            all += piece.trim_start();
        }
    }
    all
}

#[test]
fn the_troubleshooting_page_quotes_what_nodes_say() {
    let page = checkout().join("docs/TROUBLESHOOTING.md");
    let page = fs::read_to_string(page).expect("the page");
    let sources = sources();
    let mut quotes = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let words = row.split('|').nth(1).expect("a first column");
        for quote in words.split('`').skip(1).step_by(2) {
            quotes += 1;
            assert!(sources.contains(quote), "no node says \"{quote}\"");
        }
    }
    assert!(quotes > 20, "{quotes}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec![checkout().join("README.md")];
    files(&checkout().join("docs"), ".md", &mut pages);
    let mut links = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("UTF-8");
        for target in text.split("](").skip(1) {
            let target = target.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            let path = page.parent().expect("a folder").join(target);
            assert!(path.exists(), "{}: {target}", page.display());
        }
    }
    assert!(links > 50, "{links}");
}
