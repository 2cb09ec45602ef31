//! The program on image files.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_palisade-md"))
        .args(args)
        .output()
        .unwrap()
}

/// Exit status, stdout, stderr.
fn result(args: &[&str]) -> (i32, String, String) {
    let output = run(args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap();
    (status, text(output.stdout), text(output.stderr))
}

struct Image {
    _dir: TempDir,
    path: PathBuf,
}

impl Image {
    fn blank(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        File::create(&path).unwrap().set_len(bytes).unwrap();
        Self { _dir: dir, path }
    }

    /// With metadata of vol1 of r0 on a.
    fn created(bytes: u64, more: &[&str]) -> Self {
        let image = Self::blank(bytes);
        let (status, out, err) = image.create(more);
        assert_eq!((status, err.as_str()), (0, ""), "{out}");
        image
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn create(&self, more: &[&str]) -> (i32, String, String) {
        let mut args = vec!["create", self.path(), "--resource", "r0"];
        args.extend(["--node", "a", "--volume", "1"]);
        args.extend(more);
        result(&args)
    }

    fn check(&self) -> (i32, String) {
        let (status, out, err) = result(&["check", self.path()]);
        assert_eq!(err, "");
        (status, out)
    }

    fn json(&self) -> Value {
        let (_, out, _) = result(&["inspect", self.path(), "--json"]);
        serde_json::from_str(&out).unwrap()
    }

    fn file(&self) -> File {
        OpenOptions::new().write(true).open(&self.path).unwrap()
    }

    fn spoil(&self, at: u64) {
        self.file().write_all_at(b"spoilt", at).unwrap();
    }

    fn place(&self, name: &str) -> u64 {
        self.json()["superblock"]["layout"][name].as_u64().unwrap()
    }
}

#[test]
fn new_metadata_is_good_and_says_what_it_is() {
    let image = Image::created(64 * MIB, &[]);
    let (status, text) = image.check();
    assert_eq!(status, 0);
    assert!(
        text.ends_with("note: new: never in sync with a peer\n"),
        "{text}"
    );
    let (status, text, _) = result(&["inspect", image.path()]);
    assert_eq!(status, 0);
    assert!(
        text.contains("vol1 of resource r0 on node a: 63 MiB"),
        "{text}"
    );
    assert!(text.contains("bitmap        63 MiB dirty"), "{text}");
    let json = image.json();
    assert_eq!(json["verdict"], "good");
    assert_eq!(json["found_at"], 64 * MIB - 4096);
    assert_eq!(json["superblock"]["disk"], "Inconsistent");
    assert_eq!(json["superblock"]["current"], "0000000000000000");
    assert_eq!(json["bitmap"]["dirty_blocks"], 63 * MIB / 4096);
    // Every creation draws an id of its own.
    let id = json["superblock"]["device_id"].clone();
    assert_eq!(image.create(&["--force"]).0, 0);
    assert_ne!(image.json()["superblock"]["device_id"], id);
}

#[test]
fn size_and_block_size_are_taken_over() {
    let image = Image::created(64 * MIB, &["--size", "10MiB", "--block-size", "4096"]);
    let superblock = &image.json()["superblock"];
    assert_eq!(superblock["volume_bytes"], 10 * MIB);
    assert_eq!(superblock["block_size"], 4096);
    let (status, _, err) = Image::blank(64 * MIB).create(&["--size", "64MiB"]);
    assert_eq!(status, 2);
    assert!(
        err.contains("has room for a volume of 66060288 bytes"),
        "{err}"
    );
    // 513 sectors are not a whole number of 4 KiB blocks.
    let odd = ["--size", "262656", "--block-size", "4096"];
    let (status, _, err) = Image::blank(64 * MIB).create(&odd);
    assert_eq!(status, 2);
    assert!(err.contains("BlockSize"), "{err}");
    let (status, _, err) = Image::blank(8192).create(&[]);
    assert_eq!(status, 2);
    assert!(err.contains("at least 24576 bytes are needed"), "{err}");
}

#[test]
fn a_disk_that_holds_something_is_refused_unless_forced() {
    let image = Image::created(64 * MIB, &[]);
    let (status, _, err) = image.create(&[]);
    assert_eq!(status, 2);
    assert!(
        err.contains("holds Palisade metadata of vol1 of r0 on a; with --force"),
        "{err}"
    );
    let image = Image::blank(64 * MIB);
    image.file().write_all_at(b"XFSB", 0).unwrap();
    let (status, _, err) = image.create(&[]);
    assert_eq!(status, 2);
    assert!(err.contains("holds an XFS filesystem"), "{err}");
    assert_eq!(
        image.json()["superblock"],
        Value::Null,
        "nothing was written"
    );
    assert_eq!(image.create(&["--force"]).0, 0);
    assert_eq!(image.check().0, 0);
}

#[test]
fn what_is_on_the_volume_stays() {
    let image = Image::blank(64 * MIB);
    image.file().write_all_at(b"precious", 1000).unwrap();
    assert_eq!(image.create(&["--force"]).0, 0);
    let bytes = std::fs::read(&image.path).unwrap();
    assert_eq!(&bytes[1000..1008], b"precious");
    let rest = bytes[..63 * MIB as usize].iter().filter(|byte| **byte != 0);
    assert_eq!(rest.count(), 8);
}

#[test]
fn damage_is_found_and_graded() {
    let image = Image::created(64 * MIB, &[]);
    image.spoil(image.place("superblock_b") + 100);
    let (status, text) = image.check();
    assert_eq!(status, 1);
    assert!(
        text.contains("problem: superblock copy B: damaged (wrong checksum)"),
        "{text}"
    );
    assert_eq!(image.json()["superblock"]["copy"], "A");
    image.spoil(image.place("superblock_a") + 100);
    let (status, text) = image.check();
    assert_eq!(status, 2);
    assert!(text.contains("not usable"), "{text}");

    let image = Image::created(64 * MIB, &[]);
    let activity = image.place("activity");
    image.spoil(activity + 100);
    assert_eq!(image.json()["activity"]["torn"], 1);
    assert_eq!(image.check().0, 0, "a crash leaves that");
    image.spoil(activity + 4096);
    let (status, text) = image.check();
    assert_eq!(status, 1);
    assert!(
        text.contains("1 pair(s) of activity log pages are lost"),
        "{text}"
    );
    image.spoil(image.place("bitmap"));
    assert_eq!(image.json()["bitmap"]["bad"], 1);
}

#[test]
fn a_blank_disk_has_no_metadata() {
    for bytes in [0, 100, 4096, 3 * MIB + 17] {
        let image = Image::blank(bytes);
        let (status, text) = image.check();
        assert_eq!(status, 2);
        assert!(text.contains("not usable: "), "{text}");
        assert_eq!(image.json()["verdict"], "unusable");
    }
}

#[test]
fn metadata_is_found_on_a_disk_that_has_grown() {
    let image = Image::created(64 * MIB, &[]);
    image.file().set_len(300 * MIB + 1234).unwrap();
    // A copy of the superblock in the new space is not taken for the metadata.
    let at = image.place("superblock_b");
    let bytes = std::fs::read(&image.path).unwrap();
    let copy = &bytes[at as usize..at as usize + 4096];
    image.file().write_all_at(copy, 200 * MIB).unwrap();
    let json = image.json();
    assert_eq!(json["found_at"], 64 * MIB - 4096);
    let (status, text) = image.check();
    assert_eq!(status, 0);
    assert!(
        text.contains("note: the disk has grown: 236 MiB lie behind the metadata"),
        "{text}"
    );
}

#[test]
fn a_disk_that_shrank_is_not_usable() {
    let image = Image::created(64 * MIB, &[]);
    let a = image.place("superblock_a");
    image.file().set_len(a + 4096).unwrap();
    let (status, text) = image.check();
    assert_eq!(status, 2);
    assert!(text.contains("but the disk has only"), "{text}");
}

#[test]
fn external_metadata_leaves_the_data_alone() {
    let data = Image::blank(256 * MIB + 1000);
    data.file().write_all_at(b"XFSB", 0).unwrap();
    let metadata = Image::blank(MIB);
    let (status, _, err) = data.create(&["--external", metadata.path()]);
    assert_eq!((status, err.as_str()), (0, ""));
    let json = metadata.json();
    assert_eq!(json["superblock"]["volume_bytes"], 256 * MIB + 512);
    assert_eq!(json["superblock"]["layout"]["place"], "external");
    assert_eq!(json["found_at"], MIB - 4096);
    assert_eq!(data.json()["superblock"], Value::Null);
    let (status, _, err) = data.create(&["--external", metadata.path()]);
    assert_eq!(status, 2);
    assert!(err.contains("holds Palisade metadata"), "{err}");
    let small = Image::blank(8192);
    let (status, _, err) = data.create(&["--external", small.path()]);
    assert_eq!(status, 2);
    assert!(err.contains("at least 28672 bytes are needed"), "{err}");
    let (status, _, err) = data.create(&["--external", metadata.path(), "--size", "1GiB"]);
    assert_eq!(status, 2);
    assert!(
        err.contains("has room for a volume of 268435968 bytes"),
        "{err}"
    );
}

#[test]
fn wrong_usage_and_missing_files_have_their_own_status() {
    assert_eq!(result(&["inspect"]).0, 64);
    assert_eq!(result(&["--version"]).0, 0);
    let (status, _, err) = result(&["check", "/nonexistent/disk"]);
    assert_eq!(status, 3);
    assert!(err.contains("cannot open /nonexistent/disk"), "{err}");
    let image = Image::blank(64 * MIB);
    let good = ["--resource=r0", "--node=a", "--volume=1"];
    for bad in [
        "--resource=r 0",
        "--node=",
        "--volume=x",
        "--size=1MB",
        "--block-size=1024",
    ] {
        let option = bad.split('=').next().unwrap();
        let mut args = vec!["create", image.path(), bad];
        args.extend(good.iter().filter(|arg| !arg.starts_with(option)));
        let (status, _, err) = result(&args);
        assert_eq!(status, 64, "{err}");
        assert!(
            err.contains("invalid value") && err.contains(option),
            "{err}"
        );
    }
    assert_eq!(
        image.json()["superblock"],
        Value::Null,
        "nothing was written"
    );
}
