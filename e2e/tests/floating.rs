//! The address that moves with the Primary, on a bridge with a client of its own network stack.

use e2e::tools::{run, text, wait_for};
use e2e::{Node, Pair};
use std::process::Output;

const FLOATING: &str = "10.88.0.10";

/// A command in the pair's network namespace.
fn inside(namespace: &str, command: &[&str]) -> Output {
    let mut arguments = vec!["netns", "exec", namespace];
    arguments.extend(command);
    run("ip", &arguments, 30)
}

/// The hardware address that the client's kernel has for the floating address.
fn neighbour(namespace: &str) -> String {
    let shown = text(&inside(namespace, &["ip", "neigh", "show", FLOATING]).stdout);
    let mut words = shown
        .split_whitespace()
        .skip_while(|word| *word != "lladdr");
    words.nth(1).unwrap_or_default().to_owned()
}

#[test]
fn clients_find_the_primary_by_the_floating_address_and_the_network_learns_of_the_move() {
    if text(&run("id", &["-u"], 5).stdout).trim() != "0"
        || !std::path::Path::new("/dev/net/tun").exists()
    {
        eprintln!("skipped: bridges and taps need root and /dev/net/tun");
        return;
    }
    let pair = Pair::prepare();
    let said = pair.must_up(&["--net", "tap"]);
    let mut words = said.split_whitespace();
    let namespace = words
        .find(|word| word.starts_with("palisade-"))
        .expect("it is named")
        .trim_end_matches(':');
    let uri = format!("nbd://{FLOATING}:10809/vol0");
    let (read, write) = (
        |n: u8| format!("read -P {n} 0 4096"),
        |n: u8| format!("write -P {n} 0 4096"),
    );
    let qemu_io = |commands: &[&str]| {
        let mut line = vec!["qemu-io", "-f", "raw"];
        commands
            .iter()
            .for_each(|command| line.extend(["-c", *command]));
        line.push(&uri);
        inside(namespace, &line).status.success().then_some(())
    };
    let writes = |n: u8| qemu_io(&[&write(n), "flush", &read(n)]);
    wait_for("a write by the floating address", 10, || writes(1));
    assert!(
        neighbour(namespace).ends_with("02:0a"),
        "node a: {}",
        neighbour(namespace)
    );

    // Handed over in peace: nobody asks, the new owner says so itself.
    pair.must_exec(Node::A, "secondary --force");
    pair.must_exec(Node::B, "primary");
    wait_for("the client's kernel to hear of it", 10, || {
        neighbour(namespace).ends_with("02:0b").then_some(())
    });
    wait_for("a write at node b", 10, || writes(2));

    // And after the loss of the owner.
    pair.kill(Node::B);
    pair.must_exec(Node::A, "primary --force");
    wait_for("the client's kernel to hear of it", 10, || {
        neighbour(namespace).ends_with("02:0a").then_some(())
    });
    wait_for("a write at node a", 10, || writes(3));
    assert_eq!(
        qemu_io(&[&read(2)]),
        None,
        "qemu-io says if it is another pattern"
    );
}
