//! The example that powers a node off by QMP, against a real QEMU.

use crate::rig::{Daemon, Node, Place, fence, holder, name};
use fencing::{Answer, Refusal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/arbiter/stonith-qmp"
);

/// A QEMU without a machine that has a QMP socket.
struct Qemu {
    child: Child,
}

impl Qemu {
    fn start(socket: &Path) -> Option<Self> {
        let child = Command::new("qemu-system-x86_64")
            .args([
                "-machine",
                "none",
                "-nodefaults",
                "-display",
                "none",
                "-S",
                "-qmp",
            ])
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .stdin(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: no qemu-system-x86_64 (apt-get install qemu-system-x86)");
            return None;
        };
        let begun = Instant::now();
        while !socket.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "QEMU does not start"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { child })
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place(test: &str) -> (Place, [PathBuf; 2]) {
    let place = Place::empty(test);
    let sockets = ["a.qmp", "b.qmp"].map(|socket| place.0.join(socket));
    let more = format!(
        "[resource.handlers]\nfence-peer = {SCRIPT:?}\n[resource.environment]\nQMP_PATIENCE = \"1\"\nQMP_SOCKET_0 = {:?}\nQMP_SOCKET_1 = {:?}\n",
        sockets[0], sockets[1]
    );
    place.configure(&format!("store = {:?}", place.0.join("store.redb")), &more);
    (place, sockets)
}

#[test]
fn the_peers_qemu_is_off_before_the_fence_is_granted() {
    let (place, sockets) = place("stonith");
    let (Some(mut own), Some(mut peer)) = (Qemu::start(&sockets[0]), Qemu::start(&sockets[1]))
    else {
        return;
    };
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    assert_eq!(
        a.told(daemon.address, fence(1)),
        Answer::Granted { episode: 1 },
        "{:#?}",
        daemon.log()
    );
    assert!(own.runs() && !peer.runs(), "{:#?}", daemon.log());
    daemon.logged("fence-peer: exit code 7");
    assert_eq!(holder(&mut a, daemon.address), Some((name("a"), 1)));
}

#[test]
fn one_that_was_killed_counts_as_off_and_one_that_hangs_is_killed() {
    let (place, sockets) = place("stonith-kill");
    let Some(mut peer) = Qemu::start(&sockets[1]) else {
        return;
    };
    peer.child.kill().expect("killed");
    peer.child.wait().expect("gone");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    assert_eq!(
        a.told(daemon.address, fence(1)),
        Answer::Granted { episode: 1 },
        "{:#?}",
        daemon.log()
    );
    daemon.logged("nobody listens on");
    std::fs::remove_file(&sockets[1]).expect("its socket");
    let mut peer = Qemu::start(&sockets[1]).expect("as before");
    let pid = rustix::process::Pid::from_child(&peer.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    assert_eq!(
        a.told(daemon.address, fence(2)),
        Answer::Granted { episode: 2 },
        "{:#?}",
        daemon.log()
    );
    assert!(!peer.runs());
    daemon.logged("it is killed");
}

/// Whoever listens there and is no QEMU is neither killed nor taken for off.
#[test]
fn what_is_not_confirmed_is_not_granted() {
    let (place, sockets) = place("stonith-no");
    let listener = std::os::unix::net::UnixListener::bind(&sockets[1]).expect("a socket");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    let why = Refusal::Handler(1);
    let refused = Answer::Refused { episode: 1, why };
    assert_eq!(
        a.told(daemon.address, fence(1)),
        refused,
        "{:#?}",
        daemon.log()
    );
    assert_eq!(holder(&mut a, daemon.address), None);
    drop(listener);
}
