//! A pair of nodes, driven by `./run-qemu.sh`.

use crate::tools::{
    checkout, first_difference, free_port, kernel, must, palisade_arbiter, palisade_md, run,
    scratch, tail, text, wait_for,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// One of the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Node a.
    A,
    /// Node b.
    B,
}

impl Node {
    /// Its name, `a` or `b`.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A running pair; ended, with its directory, when it goes out of scope.
#[derive(Debug)]
pub struct Pair {
    dir: TempDir,
    ports: [u16; 2],
    snapshot_ports: [u16; 2],
    environment: Vec<(&'static str, String)>,
}

impl Pair {
    /// A pair with one volume of 64 MiB, both nodes in sync, node a Primary.
    pub fn boot() -> Self {
        Self::boot_with(&[])
    }

    /// The same with more options for `up`; later ones win.
    pub fn boot_with(options: &[&str]) -> Self {
        let pair = Self::prepare();
        pair.must_up(options);
        pair
    }

    /// The same with an arbiter and this policy of fencing; a silent peer is lost after two seconds.
    pub fn boot_fenced(policy: &str, options: &[&str]) -> Self {
        let mut pair = Self::prepare();
        let arbiter = palisade_arbiter().to_str().expect("UTF-8");
        pair.set("PALISADE_ARBITER", arbiter);
        pair.must_up(&[&["--policy", policy, "--timeout", "2s"], options].concat());
        pair
    }

    /// What the arbiter stored of fences, oldest first, as `FENCE a 1`; not that it has learnt the pair's identity.
    pub fn journal(&self) -> Vec<String> {
        let text = self.must_script(&["arbiter", "journal"]);
        let line = |line: &str| line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
        let fences = text.lines().map(line);
        fences
            .filter(|line| !line.starts_with("IDENTITY"))
            .collect()
    }

    /// `./run-qemu.sh kill arbiter`, or `start`.
    pub fn arbiter(&self, verb: &str) {
        self.must_script(&[verb, "arbiter"]);
    }

    /// `up` as [`Pair::up`], which must succeed.
    pub fn must_up(&self, options: &[&str]) -> String {
        let output = self.up(options);
        assert!(
            output.status.success(),
            "up {options:?} failed: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// A directory and ports for a pair, and nothing started.
    pub fn prepare() -> Self {
        Self {
            dir: scratch(),
            ports: [free_port(), free_port()],
            snapshot_ports: [free_port(), free_port()],
            environment: Vec::new(),
        }
    }

    /// Sets a variable of the environment for every call of the script from now on.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.push((name, value.into()));
    }

    /// `up --detach` with this pair's ports and 64 MiB volumes.
    pub fn up(&self, options: &[&str]) -> Output {
        let ports = format!("{},{}", self.ports[0], self.ports[1]);
        let snapshot_ports = format!("{},{}", self.snapshot_ports[0], self.snapshot_ports[1]);
        let mut arguments = vec!["up", "--detach", "--nbd-ports", &ports];
        arguments.extend(["--snapshot-ports", &snapshot_ports]);
        if !self.image(Node::A, 0).exists() && !options.contains(&"--size") {
            arguments.extend(["--size", "64M"]);
        }
        arguments.extend(options);
        self.script(&arguments)
    }

    /// `./run-qemu.sh` with these arguments and this pair's directory.
    pub fn script(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("run-qemu.sh runs")
    }

    /// The same, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-k", "5", "180"])
            .arg(checkout().join("run-qemu.sh"))
            .args(arguments)
            .arg("--dir")
            .arg(self.dir.path())
            .env("PALISADE_KERNEL", kernel())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    fn must_script(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments);
        assert!(
            output.status.success(),
            "./run-qemu.sh {arguments:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// The pair's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file behind a volume.
    pub fn image(&self, node: Node, volume: u32) -> PathBuf {
        self.dir.path().join(match volume {
            0 => format!("{}.img", node.name()),
            _ => format!("{}-vol{volume}.img", node.name()),
        })
    }

    /// Host port of a node's export.
    pub fn port(&self, node: Node) -> u16 {
        self.ports[node as usize]
    }

    /// Host port of what a node exports of snapshots.
    pub fn snapshot_port(&self, node: Node) -> u16 {
        self.snapshot_ports[node as usize]
    }

    /// A volume by the address that follows the Primary.
    pub fn uri(&self, volume: u32) -> String {
        format!(
            "nbd+unix:///vol{volume}?socket={}/nbd.sock",
            self.dir.path().display()
        )
    }

    /// A volume at one node.
    pub fn node_uri(&self, node: Node, volume: u32) -> String {
        format!("nbd://127.0.0.1:{}/vol{volume}", self.port(node))
    }

    /// A console command through `./run-qemu.sh exec`.
    ///
    /// # Errors
    /// What the node, or the script, says against it.
    pub fn exec(&self, node: Node, command: &str) -> Result<String, String> {
        let output = self.script(&["exec", node.name(), command]);
        match output.status.code() {
            Some(0) => Ok(text(&output.stdout)),
            Some(1) => Err(text(&output.stderr)),
            _ => panic!("exec {command}: {}", output.status),
        }
    }

    /// A console command that must succeed.
    pub fn must_exec(&self, node: Node, command: &str) -> String {
        self.exec(node, command)
            .unwrap_or_else(|error| panic!("{} on {}: {error}", command, node.name()))
    }

    /// The node's view of the resource.
    pub fn status(&self, node: Node) -> Status {
        let json = self.must_exec(node, "status --json");
        Status(serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}")))
    }

    /// Waits until both nodes see each other and all disks are UpToDate.
    pub fn wait_in_sync(&self, seconds: u64) {
        for node in [Node::A, Node::B] {
            self.wait_status(node, "connected and UpToDate", seconds, Status::in_sync);
        }
    }

    /// Waits until the node's status fulfils `wanted`.
    pub fn wait_status(
        &self,
        node: Node,
        what: &str,
        seconds: u64,
        wanted: impl Fn(&Status) -> bool,
    ) -> Status {
        let mut last = None;
        let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
        loop {
            let status = self.status(node);
            if wanted(&status) {
                return status;
            }
            assert!(
                std::time::Instant::now() < end,
                "node {} is still not {what} after {seconds} s: {last:?}",
                node.name()
            );
            last = Some(status);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// A request to a node's QEMU, as JSON.
    pub fn qmp(&self, node: Node, request: &str) -> String {
        let socket = self.dir.path().join(format!("{}.qmp", node.name()));
        crate::machine::qmp(&socket, request)
    }

    /// Power cut.
    pub fn kill(&self, node: Node) {
        self.must_script(&["kill", node.name()]);
    }

    /// Boot again.
    pub fn start(&self, node: Node) {
        self.must_script(&["start", node.name()]);
    }

    /// Freeze.
    pub fn pause(&self, node: Node) {
        self.must_script(&["pause", node.name()]);
    }

    /// Thaw.
    pub fn resume(&self, node: Node) {
        self.must_script(&["resume", node.name()]);
    }

    /// A signal to the node's QEMU, as `STOP`.
    pub fn signal(&self, node: Node, signal: &str) {
        let pid = self.dir.path().join(format!("{}.pid", node.name()));
        let pid = std::fs::read_to_string(pid).expect("the node runs");
        must("kill", &[&format!("-{signal}"), pid.trim()], 5);
    }

    /// Pulls the cable of a network on both nodes.
    pub fn cut(&self, network: &str) {
        self.must_script(&["link", "cut", network]);
    }

    /// Puts it in again.
    pub fn restore(&self, network: &str) {
        self.must_script(&["link", "restore", network]);
    }

    /// A command in a Linux guest whose disk /dev/vda is volume 0, started and not waited for.
    pub fn guest(&self, commands: &str) -> Child {
        self.command(&["guest", "--run", commands])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run-qemu.sh runs")
    }

    /// Ends the pair and keeps its disks.
    pub fn down(&self) {
        self.must_script(&["down"]);
    }

    /// Stops serving, waits until nothing is under way, ends both nodes and compares every disk.
    pub fn assert_identical_after_clean_stop(&self, volumes: u32) {
        self.wait_in_sync(60);
        for node in [Node::A, Node::B] {
            if self.status(node).role() == "Primary" {
                self.must_exec(node, "secondary --force");
            }
        }
        for node in [Node::A, Node::B] {
            self.power_off(node);
        }
        self.down();
        self.assert_identical(volumes);
    }

    /// Switches a node off by its console.
    pub fn power_off(&self, node: Node) {
        // The line may be gone before the answer is through.
        let said = self.exec(node, "poweroff");
        wait_for(
            &format!("{} is off; it said {said:?}", node.name()),
            20,
            || self.exec(node, "version").is_err().then_some(()),
        );
    }

    /// Compares every volume of the two nodes, byte by byte, and has their metadata checked. The
    /// nodes must be off.
    pub fn assert_identical(&self, volumes: u32) {
        for volume in 0..volumes {
            let images = [Node::A, Node::B].map(|node| self.image(node, volume));
            let [bytes, other] = [Node::A, Node::B].map(|node| self.volume_bytes(node, volume));
            assert_eq!(bytes, other, "sizes of vol{volume}");
            let difference = first_difference(&images[0], &images[1], bytes);
            assert_eq!(
                difference, None,
                "vol{volume} differs between a and b at this byte"
            );
            for node in [Node::A, Node::B] {
                let image = self.metadata_image(node, volume);
                must(tool(), &["check", image.to_str().expect("UTF-8")], 30);
            }
        }
    }

    /// Bytes of a volume as the metadata on its disk has it.
    pub fn volume_bytes(&self, node: Node, volume: u32) -> u64 {
        self.metadata(node, volume)["superblock"]["volume_bytes"]
            .as_u64()
            .expect("the size of the volume")
    }

    /// What `palisade-md inspect --json` says of a volume's metadata. The node must be off.
    pub fn metadata(&self, node: Node, volume: u32) -> Value {
        let image = self.metadata_image(node, volume);
        let path = image.to_str().expect("UTF-8");
        let json = text(&run(tool(), &["inspect", "--json", path], 30).stdout);
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"))
    }

    /// The file with a volume's metadata: its disk, or the one that is there for nothing else.
    fn metadata_image(&self, node: Node, volume: u32) -> PathBuf {
        let other = self
            .dir
            .path()
            .join(format!("{}-md{volume}.img", node.name()));
        if other.exists() {
            return other;
        }
        self.image(node, volume)
    }

    /// The size of every resync of which the node was the source since its boot, by its log.
    pub fn resyncs(&self, node: Node) -> Vec<u64> {
        let log = self.must_exec(node, "log 1000");
        let bytes = |line: &str| {
            let rest = line.split_once("resync of ")?.1;
            rest.split_once(" bytes")?.0.parse().ok()
        };
        log.lines().filter_map(bytes).collect()
    }

    /// `fio` with the NBD engine on volume 0; must succeed.
    pub fn fio(&self, uri: &str, arguments: &[&str], seconds: u64) -> String {
        let uri = format!("--uri={uri}");
        let mut all = vec![
            "--name=job",
            "--ioengine=nbd",
            "--verify_state_save=0",
            &uri,
        ];
        all.extend(arguments);
        must("fio", &all, seconds)
    }

    /// `qemu-io` with the given commands on `uri`; must succeed.
    pub fn qemu_io(&self, uri: &str, commands: &[&str], seconds: u64) -> String {
        let mut arguments = vec!["-f", "raw", "-t", "writeback", "-d", "unmap", uri];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        let output = must("qemu-io", &arguments, seconds);
        // qemu-io's status does not tell of a pattern that was not there.
        assert!(
            !output.contains("verification failed") && !output.contains("failed:"),
            "{output}"
        );
        output
    }
}

fn tool() -> &'static str {
    palisade_md().to_str().expect("UTF-8")
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in [Node::A, Node::B] {
                let log = self.dir.path().join(format!("{}.log", node.name()));
                eprintln!("end of {}'s log:\n{}", node.name(), tail(&log, 40));
                // Whether frames come through: of a node that is not there, that it is not.
                let net = self.script(&["exec", node.name(), "net"]);
                eprintln!("{}{}", text(&net.stdout), text(&net.stderr));
            }
        }
        if self.dir.path().join("pair.settings").exists() {
            let _ = self.script(&["down"]);
        }
    }
}

/// What `status --json` says.
#[derive(Debug)]
pub struct Status(pub Value);

impl Status {
    fn string(&self, pointer: &str) -> &str {
        let value = self.0.pointer(pointer);
        value
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("status has no {pointer}: {}", self.0))
    }

    /// `Primary` or `Secondary`.
    pub fn role(&self) -> &str {
        self.string("/role")
    }

    /// The episode by which the node fences its peer, and its state: `requested`, `held`, `releasing`.
    pub fn fence(&self) -> Option<(u64, &str)> {
        let episode = self.0.pointer("/fencing/episode")?.as_u64()?;
        Some((episode, self.string("/fencing/state")))
    }

    /// Whether clients wait until it is decided who may go on.
    pub fn frozen(&self) -> bool {
        self.0["fencing"]["frozen"]
            .as_bool()
            .expect("fencing.frozen")
    }

    /// The peer's role.
    pub fn peer_role(&self) -> &str {
        self.string("/peer_role")
    }

    /// State of the connection.
    pub fn connection(&self) -> &str {
        self.string("/connection")
    }

    /// Why it waits or was refused; empty when nothing is amiss.
    pub fn reason(&self) -> &str {
        self.string("/reason")
    }

    /// State of a volume's local disk.
    pub fn disk(&self, volume: usize) -> &str {
        self.string(&format!("/volumes/{volume}/disk"))
    }

    /// State of a volume's disk at the peer.
    pub fn peer_disk(&self, volume: usize) -> &str {
        self.string(&format!("/volumes/{volume}/peer_disk"))
    }

    /// What the replication of a volume does.
    pub fn replication(&self, volume: usize) -> &str {
        self.string(&format!("/volumes/{volume}/replication"))
    }

    /// What is kept of a volume's old content: `none`, `held`, `stuck`, `rolling-back` or `rolled-back`, and its bytes.
    pub fn snapshot(&self, volume: usize) -> (&str, u64) {
        let used = self.0.pointer(&format!("/volumes/{volume}/snapshot/used"));
        (
            self.string(&format!("/volumes/{volume}/snapshot/state")),
            used.and_then(Value::as_u64).expect("bytes"),
        )
    }

    /// Bytes of a volume that differ or may differ from the peer's.
    pub fn out_of_sync(&self, volume: usize) -> u64 {
        let value = self.0.pointer(&format!("/volumes/{volume}/out_of_sync"));
        value
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("status has no out_of_sync: {}", self.0))
    }

    /// When writes are answered: `A`, `B` or `C`.
    pub fn protocol(&self) -> &str {
        self.string("/protocol")
    }

    /// Bytes of a volume that were answered and that the peer has not acknowledged.
    pub fn lag(&self, volume: usize) -> u64 {
        let value = self.0.pointer(&format!("/volumes/{volume}/lag"));
        value
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("status has no lag: {}", self.0))
    }

    /// How often the node's data path has allocated memory since boot.
    pub fn allocations(&self) -> u64 {
        let value = self.0.pointer("/allocations").and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("status has no allocations: {}", self.0))
    }

    /// Connected, and every disk of both UpToDate.
    pub fn in_sync(&self) -> bool {
        let volumes = self.0["volumes"].as_array().map_or(0, Vec::len);
        volumes > 0
            && self.connection() == "Connected"
            && (0..volumes).all(|v| self.disk(v) == "UpToDate" && self.peer_disk(v) == "UpToDate")
    }
}
