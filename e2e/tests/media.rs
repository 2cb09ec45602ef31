//! Boot media: built by `./run-qemu.sh image`, booted by SeaBIOS and by OVMF up to serving NBD.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::machine::{Firmware, Medium, Plan, Start};
use e2e::tools::{checkout, kernel, must, scratch, text};
use e2e::{Machine, nbd};
use std::path::Path;
use std::process::{Command, Output};

/// Where the FAT with kernel and configuration begins in a disk image (tools/image.sh).
const FAT_OFFSET: u64 = 1 << 20;

/// `./run-qemu.sh image` of the kernel under test.
fn image(arguments: &[&str]) -> Output {
    Command::new("timeout")
        .args(["-k", "5", "120"])
        .arg(checkout().join("run-qemu.sh"))
        .arg("image")
        .args(arguments)
        .env("PALISADE_KERNEL", kernel())
        .output()
        .expect("coreutils' timeout")
}

/// Media for a configuration, or for none, in `out`.
fn build(out: &Path, config: Option<&str>) {
    let mut arguments = vec!["--out", out.to_str().expect("UTF-8")];
    let file = out.with_extension("toml");
    if let Some(config) = config {
        std::fs::write(&file, config).expect("a writable directory");
        arguments.extend(["--config", file.to_str().expect("UTF-8")]);
    }
    let output = image(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A machine with the usual disk and NICs that starts from a medium in `dir`.
fn boot(dir: &Path, machine: &'static str, as_a: Medium, firmware: Firmware) -> Machine {
    let file = match as_a {
        Medium::Cdrom => dir.join("palisade.iso"),
        Medium::Disk => dir.join("palisade.img"),
    };
    let mut plan = Plan::new();
    plan.machine = machine;
    // OVMF does not boot with 96M.
    plan.memory = "128M";
    plan.start = Start::Medium {
        file,
        as_a,
        firmware,
    };
    println!("{machine}, {as_a:?}, {firmware:?}");
    Machine::boot(plan)
}

/// Puts `config` on a disk image, as docs/BOOT.md tells.
fn put_config(dir: &Path, config: &str) {
    let file = dir.join("new.toml");
    std::fs::write(&file, config).expect("a writable directory");
    let image = format!("{}@@{FAT_OFFSET}", dir.join("palisade.img").display());
    let file = file.to_str().expect("UTF-8");
    must(
        "mcopy",
        &["-o", "-i", &image, file, "::/palisade/node.toml"],
        20,
    );
}

fn assert_serves(node: &mut Machine) {
    node.serve();
    let mut client = nbd::Client::open(node.nbd_port, "vol0").expect("it serves");
    assert_eq!(client.write(4096, &[0x5a; 8192]).expect("a reply"), 0);
    assert_eq!(
        client.read(4096, 8192).expect("a reply"),
        Ok(vec![0x5a; 8192])
    );
}

fn assert_serves_nothing(node: &mut Machine, words: &str) {
    node.wait_log("this node serves nothing", 20);
    assert!(
        node.log().contains(words),
        "no '{words}' in:\n{}",
        node.log()
    );
    let _ = node.exec("primary --force").expect_err("nothing to serve");
    assert!(nbd::Client::connect(node.nbd_port).is_err());
    node.assert_alive();
}

#[test]
fn both_media_boot_by_bios_and_by_uefi_up_to_serving() {
    let dir = scratch();
    let dir = dir.path().join("media");
    build(&dir, Some(&Plan::config("")));
    for (machine, as_a, firmware) in [
        ("pc", Medium::Cdrom, Firmware::Bios),
        ("q35", Medium::Cdrom, Firmware::Bios),
        ("pc", Medium::Disk, Firmware::Bios),
        ("q35", Medium::Disk, Firmware::Bios),
        ("q35", Medium::Cdrom, Firmware::Uefi),
        ("pc", Medium::Disk, Firmware::Uefi),
    ] {
        let mut node = boot(&dir, machine, as_a, firmware);
        assert_serves(&mut node);
        // The tables of the firmware were found: both machines power off by ACPI.
        node.console.type_keys(b"\x01p1 poweroff --force\r");
        assert_eq!(node.ended(20), Some(0));
    }
}

#[test]
fn an_iso_on_a_stick_boots_too() {
    let dir = scratch();
    let dir = dir.path().join("media");
    build(&dir, Some(&Plan::config("")));
    std::fs::rename(dir.join("palisade.iso"), dir.join("palisade.img")).expect("in one directory");
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let mut node = boot(&dir, "q35", Medium::Disk, firmware);
        assert_serves(&mut node);
    }
}

#[test]
fn a_medium_without_configuration_says_so_and_takes_one_later() {
    let dir = scratch();
    let dir = dir.path().join("media");
    build(&dir, None);
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let mut node = boot(&dir, "q35", Medium::Disk, firmware);
        assert_serves_nothing(&mut node, "there is no configuration");
    }
    put_config(&dir, &Plan::config("").replace("\"exit\"", "\"explode\""));
    let mut node = boot(&dir, "pc", Medium::Disk, Firmware::Bios);
    assert_serves_nothing(&mut node, "line 3, column 9");
    drop(node);
    put_config(&dir, &Plan::config(""));
    let mut node = boot(&dir, "q35", Medium::Disk, Firmware::Uefi);
    assert_serves(&mut node);
}

#[test]
fn the_same_input_gives_the_same_bytes_and_sums_that_hold() {
    let dir = scratch();
    let [one, other] = ["one", "a-longer/other"].map(|name| dir.path().join(name));
    std::fs::create_dir(dir.path().join("a-longer")).expect("a writable directory");
    build(&one, Some(&Plan::config("")));
    // The media bear no time of day.
    std::thread::sleep(std::time::Duration::from_secs(2));
    build(&other, Some(&Plan::config("")));
    let read = |dir: &Path, name| std::fs::read(dir.join(name)).expect(name);
    for name in ["palisade.elf", "palisade.iso", "palisade.img", "SHA256SUMS"] {
        assert!(read(&one, name) == read(&other, name), "{name} differs");
    }
    build(&other, Some(&Plan::config("# another\n")));
    for name in ["palisade.iso", "palisade.img"] {
        assert!(read(&one, name) != read(&other, name), "{name} is the same");
    }
    let one = one.to_str().expect("UTF-8");
    let checked = must(
        "sh",
        &["-c", "cd \"$0\" && sha256sum -c SHA256SUMS", one],
        20,
    );
    assert!(checked.contains("palisade.iso: OK") && checked.contains("palisade.img: OK"));
    let entries = std::fs::read_dir(one).expect("a directory").flatten();
    let scraps = entries.filter(|entry| entry.path().is_dir()).count();
    assert_eq!(scraps, 0, "nothing is left behind");
}

#[test]
fn the_symbols_are_in_a_file_of_their_own() {
    let kernel = kernel();
    let symbols = kernel.with_extension("debug.elf");
    let names = |file: &Path| must("nm", &["-C", file.to_str().expect("UTF-8")], 20);
    let all = names(&symbols);
    for wanted in ["boot_entry", "pvh_start32", "multiboot2_start32"] {
        assert!(all.contains(wanted), "no {wanted}");
    }
    assert_eq!(names(&kernel), "");
}

#[test]
fn mistakes_get_one_clear_line() {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("empty"), "").expect("a writable directory");
    std::fs::write(path("huge"), vec![b'#'; 65537]).expect("a writable directory");
    let out = path("out");
    for (arguments, words) in [
        (vec!["--config", "/nonexistent"], "no such file"),
        (vec!["--config", &path("empty")], "1 to 65536 bytes"),
        (vec!["--config", &path("huge")], "1 to 65536 bytes"),
        (vec!["--config", ""], "takes a file"),
        (vec!["--out", ""], "takes a directory"),
        (vec!["--out", "/proc/nowhere"], "cannot make the directory"),
        (vec!["--dir", &out], "no option --dir"),
        (vec!["--size", "1G"], "no option --size"),
        (vec!["node.toml"], "no argument"),
    ] {
        let output = image(&arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert!(error.contains("run-qemu: "), "{arguments:?}: {error}");
    }
    let output = Command::new(checkout().join("run-qemu.sh"))
        .args(["image", "--out", &out])
        .env("PALISADE_KERNEL", kernel())
        .env("SOURCE_DATE_EPOCH", "yesterday")
        .output()
        .expect("run-qemu.sh runs");
    assert!(text(&output.stderr).contains("SOURCE_DATE_EPOCH=yesterday"));
    assert!(!output.status.success());
}
