//! ./run-qemu.sh itself: one clear line for each mistake, and nothing left behind.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::{checkout, text, wait_for};
use e2e::{Node, Pair};
use std::net::TcpListener;
use std::process::{Command, Output};

/// The one line that a refusal consists of.
fn refusal(output: &Output) -> String {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(
        error.trim_end().lines().count(),
        1,
        "one line, not: {error}"
    );
    assert!(error.starts_with("run-qemu: "), "{error}");
    error
}

/// Processes whose command line or environment names the pair's directory or its tag.
fn processes_of(pair: &Pair) -> Vec<String> {
    let dir = pair.dir().to_str().expect("UTF-8").to_owned();
    let tag = Command::new("sh")
        .args(["-c", "printf %s \"$1\" | sha256sum | cut -c1-8", "-", &dir])
        .output()
        .expect("sh");
    let tag = format!("palisade-{}", text(&tag.stdout).trim());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(mut words) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let command = text(&words).replace('\0', " ");
        words.extend(std::fs::read(entry.path().join("environ")).unwrap_or_default());
        let all = text(&words);
        // Of a zombie the command line is empty already.
        if !command.is_empty() && (all.contains(&tag) || all.contains(&dir)) {
            found.push(command);
        }
    }
    found
}

/// What is in the directory besides disks, configurations, logs and settings.
fn leftovers(pair: &Pair) -> Vec<String> {
    let entries = std::fs::read_dir(pair.dir()).expect("the directory");
    entries
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .filter(|name| {
            !["img", "toml", "log", "settings"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect()
}

#[test]
fn mistakes_get_one_clear_line() {
    let pair = Pair::prepare();
    let help = pair.script(&["help"]);
    assert!(help.status.success());
    for (arguments, words) in [
        (&["frobnicate"][..], "no verb 'frobnicate'"),
        (&["up", "--size", "many"], "--size many"),
        (&["up", "--mem", "1M"], "32M to 16G"),
        (&["up", "--volumes", "0"], "--volumes 0"),
        (&["up", "--accel", "warp"], "--accel warp"),
        (&["up", "--machine", "toaster"], "--machine toaster"),
        (&["up", "--net", "pigeon"], "--net pigeon"),
        (&["up", "--policy", "hope"], "--policy hope"),
        (&["up", "--nbd-ports", "10809"], "two ports"),
        (&["up", "--nbd-ports", "10809,10809"], "must differ"),
        (&["up", "--what", "ever"], "no option --what"),
        (&["up", "ever"], "no argument 'ever'"),
        (&["status"], "no pair was started"),
        (&["exec", "a", "status"], "no pair was started"),
    ] {
        let said = refusal(&pair.script(arguments));
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert!(processes_of(&pair).is_empty());
}

#[test]
fn a_port_in_use() {
    let pair = Pair::prepare();
    let _taken = TcpListener::bind(("127.0.0.1", pair.port(Node::B))).expect("the port was free");
    let said = refusal(&pair.up(&[]));
    assert!(
        said.contains(&format!("port {} is in use", pair.port(Node::B))),
        "{said}"
    );
    assert!(processes_of(&pair).is_empty());
}

#[test]
fn broken_images() {
    let pair = Pair::prepare();
    std::fs::write(pair.image(Node::A, 0), vec![0; 5000]).expect("writable");
    assert!(refusal(&pair.up(&[])).contains("b.img"), "one is missing");
    std::fs::write(pair.image(Node::B, 0), vec![0; 5000]).expect("writable");
    assert!(refusal(&pair.up(&[])).contains("is broken: 5000 bytes"));
    std::fs::write(pair.image(Node::A, 0), vec![0; 2 << 20]).expect("writable");
    std::fs::write(pair.image(Node::B, 0), vec![0; 1 << 20]).expect("writable");
    assert!(refusal(&pair.up(&[])).contains("differ in size"));
    assert!(refusal(&pair.up(&["--size", "4M"])).contains("that --size 4M needs"));
    std::fs::remove_file(pair.image(Node::B, 0)).expect("ours");
    std::fs::create_dir(pair.image(Node::B, 0)).expect("writable");
    assert!(refusal(&pair.up(&[])).contains("not a regular file"));
    assert!(processes_of(&pair).is_empty());
}

#[test]
fn a_missing_tool_is_named_with_the_command_that_installs_it() {
    let pair = Pair::prepare();
    // An ordinary user without socat: a PATH of links to everything else.
    let bin = e2e::tools::scratch();
    for dir in ["/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            // `id` says that this is no superuser.
            if name != "socat" && name != "id" {
                let _ = std::os::unix::fs::symlink(entry.path(), bin.path().join(name));
            }
        }
    }
    let id = bin.path().join("id");
    std::fs::write(&id, "#!/bin/sh\necho 1000\n").expect("writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&id, mode).expect("ours");
    let output = pair
        .command(&["up", "--detach"])
        .env("PATH", bin.path())
        .output()
        .expect("run-qemu.sh runs");
    let said = refusal(&output);
    assert!(
        said.contains("sudo apt-get install") && said.contains("socat"),
        "{said}"
    );
}

#[test]
fn a_second_up_is_refused_and_down_leaves_nothing() {
    let pair = Pair::boot();
    let said = refusal(&pair.up(&[]));
    assert!(
        said.contains("running in") && said.contains("down"),
        "{said}"
    );
    assert!(refusal(&pair.script(&["start", "a"])).contains("running already"));
    assert!(
        !processes_of(&pair).is_empty(),
        "this test looks for the right thing"
    );
    pair.down();
    wait_for("all processes are gone", 5, || {
        processes_of(&pair).is_empty().then_some(())
    });
    assert_eq!(leftovers(&pair), Vec::<String>::new());
    assert!(refusal(&pair.script(&["exec", "a", "status"])).contains("not running"));
    assert!(refusal(&pair.script(&["kill", "a"])).contains("not running"));
    assert!(refusal(&pair.script(&["guest"])).contains("neither node is running"));
    // `down` of what is down is no mistake.
    pair.down();
}

#[test]
fn interrupting_the_foreground_leaves_nothing() {
    let pair = Pair::prepare();
    let ports = format!("{},{}", pair.port(Node::A), pair.port(Node::B));
    let script = checkout().join("run-qemu.sh");
    let output = std::fs::File::create(pair.dir().join("up.log")).expect("writable");
    let mut child = Command::new(script)
        .args(["--size", "64M", "--nbd-ports", &ports, "--dir"])
        .arg(pair.dir())
        .env("PALISADE_KERNEL", e2e::tools::kernel())
        .stdout(output)
        .spawn()
        .expect("run-qemu.sh runs");
    wait_for("the pair is up", 60, || {
        let said = std::fs::read_to_string(pair.dir().join("up.log")).unwrap_or_default();
        said.contains("Ctrl-C stops the pair").then_some(())
    });
    assert!(pair.status(Node::A).in_sync());
    e2e::tools::must("kill", &["-INT", &child.id().to_string()], 5);
    let status = child.wait().expect("our child");
    assert_eq!(status.code(), Some(130));
    wait_for("all processes are gone", 5, || {
        processes_of(&pair).is_empty().then_some(())
    });
    assert_eq!(leftovers(&pair), Vec::<String>::new());
}

#[test]
fn a_stale_directory_is_no_obstacle() {
    let pair = Pair::boot();
    // As after a crash of the host: every process is gone, and nobody cleaned up.
    for name in ["a", "b", "float", "wire"] {
        let pid = std::fs::read_to_string(pair.dir().join(format!("{name}.pid"))).expect("a pid");
        e2e::tools::must("kill", &["-9", pid.trim()], 5);
    }
    wait_for("they are gone", 5, || {
        processes_of(&pair).is_empty().then_some(())
    });
    assert!(refusal(&pair.script(&["exec", "a", "status"])).contains("not running"));
    let again = pair.up(&[]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let said = text(&again.stdout);
    assert!(
        said.contains("their metadata say that a's data is the latest"),
        "the evidence is told: {said}"
    );
    pair.wait_in_sync(20);
}

#[test]
fn disks_with_foreign_data_are_left_to_the_operator() {
    let pair = Pair::prepare();
    std::fs::write(pair.image(Node::A, 0), vec![1; 4 << 20]).expect("writable");
    std::fs::write(pair.image(Node::B, 0), vec![2; 4 << 20]).expect("writable");
    let output = pair.up(&[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        said.contains("does not become Primary") && said.contains("create-md"),
        "what is wrong, and what to do: {said}"
    );
    for node in [Node::A, Node::B] {
        assert_eq!(pair.status(node).role(), "Secondary");
        let refused = pair
            .exec(node, "create-md vol0")
            .expect_err("it holds data");
        assert!(
            refused.contains("data that is not zero") && refused.contains("--force"),
            "{refused}"
        );
        pair.must_exec(node, "create-md vol0 --force");
    }
    pair.wait_status(Node::B, "connected", 20, |s| s.connection() == "Connected");
    pair.must_exec(Node::B, "primary --force");
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(1);
    assert_eq!(
        std::fs::read(pair.image(Node::A, 0)).expect("readable")[..8],
        [2; 8]
    );
}

#[test]
fn exec_tells_output_errors_and_status_apart() {
    let pair = Pair::boot();
    let good = pair.script(&["exec", "a", "help"]);
    assert_eq!(good.status.code(), Some(0));
    assert!(text(&good.stdout).contains("\n  primary ") && good.stderr.is_empty());
    let bad = pair.script(&["exec", "a", "primry"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stderr).contains("did you mean 'primary'?") && bad.stdout.is_empty());
    assert!(refusal(&pair.script(&["exec", "c", "help"])).contains("no node 'c'"));
    pair.pause(Node::B);
    assert!(refusal(&pair.script(&["exec", "b", "help"])).contains("paused"));
    pair.resume(Node::B);
    pair.must_exec(Node::B, "help");
    // Many at once take turns.
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| assert!(pair.must_exec(Node::A, "status --json").starts_with('{')));
        }
    });
}

#[test]
fn disks_of_unequal_size_are_refused_by_the_nodes_too() {
    let pair = Pair::boot();
    pair.down();
    let grown = std::fs::OpenOptions::new()
        .write(true)
        .open(pair.image(Node::B, 0));
    grown.and_then(|file| file.set_len(80 << 20)).expect("ours");
    // The script refuses; `start` of the nodes by hand would meet the nodes' own check.
    assert!(refusal(&pair.up(&[])).contains("differ in size"));
}

/// QEMU connects in a thread of its own, and with -daemonize goes to / meanwhile: a relative path works only as long as the
/// machine has time.
#[test]
fn qemus_ends_of_the_cables_do_not_depend_on_its_directory() {
    let pair = Pair::boot();
    let commands = processes_of(&pair);
    let words = commands.iter().flat_map(|command| command.split(' '));
    let cables: Vec<&str> = words
        .filter_map(|word| word.split_once("addr.path=").map(|(_, path)| path))
        .collect();
    assert_eq!(cables.len(), 4, "{commands:?}");
    for cable in cables {
        assert!(cable.starts_with('/'), "{cable}");
        assert!(cable.len() < 108, "longer than a socket's path: {cable}");
    }
}
