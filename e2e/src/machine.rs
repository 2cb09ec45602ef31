//! One node under a QEMU of the test's own making.

use crate::console::Console;
use crate::tools::{disk_bytes, free_port, kernel, scratch, tail, text, wait_for};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Status that QEMU ends with after a panic, when the configuration says `exit`
/// (kernel/src/power.rs: isa-debug-exit doubles the code and adds one).
pub const PANIC_STATUS: i32 = 65;
/// The same after a processor exception.
pub const EXCEPTION_STATUS: i32 = 67;

/// How a machine comes to its kernel and configuration.
#[derive(Debug, Clone)]
pub enum Start {
    /// QEMU loads both (PVH).
    Direct,
    /// By a boot medium, which has its own configuration.
    Medium {
        /// Its file. A disk is not written to.
        file: PathBuf,
        /// How it is attached.
        as_a: Medium,
        /// What boots it.
        firmware: Firmware,
    },
}

/// How a boot medium is attached: by the machine's own disk controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// As a CD-ROM.
    Cdrom,
    /// As a disk.
    Disk,
}

/// What boots from a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

impl Start {
    /// QEMU's arguments, for a machine that lives in `dir`.
    fn arguments(&self, dir: &Path) -> Vec<String> {
        let Self::Medium {
            file,
            as_a,
            firmware,
        } = self
        else {
            let kernel = kernel().display().to_string();
            return ["-kernel", &kernel, "-initrd", "a.toml"]
                .map(String::from)
                .into();
        };
        let (options, device) = match as_a {
            Medium::Cdrom => ("readonly=on,media=cdrom", "ide-cd"),
            Medium::Disk => ("snapshot=on", "ide-hd"),
        };
        let mut all = vec![
            String::from("-drive"),
            format!(
                "if=none,id=boot,format=raw,{options},file={}",
                file.display()
            ),
            String::from("-device"),
            format!("{device},drive=boot,bus=ide.0,bootindex=0"),
        ];
        if *firmware == Firmware::Uefi {
            let ovmf = Path::new("/usr/share/OVMF");
            std::fs::copy(ovmf.join("OVMF_VARS_4M.fd"), dir.join("vars"))
                .expect("OVMF is there: apt-get install ovmf");
            for flash in [
                "readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                "file=vars",
            ] {
                all.extend([
                    String::from("-drive"),
                    format!("if=pflash,format=raw,{flash}"),
                ]);
            }
        }
        all
    }
}

/// What to boot. Networks: 10.77.0.1 for the peer (who would be 10.77.0.2: the host), 10.0.2.15
/// for clients.
#[derive(Debug)]
pub struct Plan {
    /// Where kernel and configuration come from.
    pub start: Start,
    /// The boot module, unless a medium has it; [`Plan::config`] makes the usual one.
    pub config: Vec<u8>,
    /// QEMU's machine, with options.
    pub machine: &'static str,
    /// Memory.
    pub memory: &'static str,
    /// Processors.
    pub processors: u32,
    /// Disks.
    pub disks: Vec<Disk>,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// A virtio-blk disk.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Serial number.
    pub serial: &'static str,
    /// Bytes.
    pub size: u64,
    /// More properties of the device, each with a comma before it.
    pub properties: &'static str,
    /// Read-only.
    pub read_only: bool,
}

impl Disk {
    /// A disk for the 64 MiB that the usual configuration calls vol0.
    pub fn usual() -> Self {
        Self {
            serial: "a-vol0",
            size: disk_bytes(64 << 20),
            properties: "",
            read_only: false,
        }
    }
}

impl Plan {
    /// A sound configuration and one disk on q35.
    pub fn new() -> Self {
        Self {
            start: Start::Direct,
            config: Self::config("").into_bytes(),
            machine: "q35",
            memory: "64M",
            processors: 1,
            disks: vec![Disk::usual()],
            arguments: Vec::new(),
        }
    }

    /// The usual configuration, with `more` put behind it.
    pub fn config(more: &str) -> String {
        format!(
            r#"[node]
name = "a"
panic = "exit"
[resource]
name = "r0"
[peer]
name = "b"
address = "10.77.0.2"
[[nic]]
roles = ["replication"]
index = 0
address = "10.77.0.1/24"
[[nic]]
roles = ["export"]
index = 1
address = "10.0.2.15/24"
[[volume]]
index = 0
serial = "a-vol0"
size = "64MiB"
{more}"#
        )
    }

    fn device(&self, kind: &str) -> String {
        match self.machine.starts_with("microvm") {
            true => format!("virtio-{kind}-device"),
            false => format!("virtio-{kind}-pci,disable-legacy=on"),
        }
    }

    /// Boots it; the console may not answer yet.
    pub fn boot(self) -> Machine {
        let dir = scratch();
        let [nbd_port, link_port] = [free_port(), free_port()];
        std::fs::write(dir.path().join("a.toml"), &self.config).expect("a writable directory");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .current_dir(dir.path())
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-accel", "tcg,thread=multi,tb-size=32", "-cpu", "max"])
            .args(["-M", self.machine, "-m", self.memory])
            .args(["-smp", &self.processors.to_string()])
            .args(self.start.arguments(dir.path()))
            .args([
                "-chardev",
                "socket,id=con,path=console,server=on,wait=off,logfile=log",
            ])
            .args([
                "-serial",
                "chardev:con",
                "-qmp",
                "unix:qmp,server=on,wait=off",
            ])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        let link = format!(
            "user,id=net0,net=10.77.0.0/24,host=10.77.0.2,hostfwd=tcp:127.0.0.1:{link_port}-10.77.0.1:7789"
        );
        let export =
            format!("user,id=net1,restrict=on,hostfwd=tcp:127.0.0.1:{nbd_port}-10.0.2.15:10809");
        for (index, netdev) in [link, export].into_iter().enumerate() {
            command.args(["-netdev", &netdev, "-device"]).arg(format!(
                "{},id=nic{index},netdev=net{index}",
                self.device("net")
            ));
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let file = dir.path().join(format!("disk{index}"));
            let file = std::fs::File::create(file).expect("a writable directory");
            file.set_len(disk.size).expect("a sparse file");
            let read_only = if disk.read_only { "on" } else { "off" };
            command.arg("-blockdev").arg(format!(
                "driver=raw,node-name=disk{index},discard=unmap,read-only={read_only},\
                 file.driver=file,file.filename=disk{index}"
            ));
            command.arg("-device").arg(format!(
                "{},drive=disk{index},serial={}{}",
                self.device("blk"),
                disk.serial,
                disk.properties
            ));
        }
        let errors =
            std::fs::File::create(dir.path().join("errors")).expect("a writable directory");
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("qemu-system-x86_64 is installed");
        let console = Console::open(&dir.path().join("console"));
        Machine {
            child,
            dir,
            console,
            nbd_port,
            link_port,
            has_metadata: false,
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

/// A running node; ended when it goes out of scope.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    dir: TempDir,
    /// Its serial line.
    pub console: Console,
    /// Host port that leads to its export.
    pub nbd_port: u16,
    /// Host port that leads to its replication port.
    pub link_port: u16,
    has_metadata: bool,
}

impl Machine {
    /// Boots a plan and waits for the console.
    pub fn boot(plan: Plan) -> Self {
        // OVMF alone takes some seconds, and what is typed before the console is up goes to GRUB.
        let patience = match plan.start {
            Start::Direct => 20,
            Start::Medium { .. } => 150,
        };
        let mut machine = plan.boot();
        machine.console.banner(patience);
        assert!(
            machine.console.answers(60),
            "no console; QEMU: {}\nlog:\n{}",
            tail(&machine.dir.path().join("errors"), 5),
            machine.log()
        );
        machine
    }

    /// A console command.
    ///
    /// # Errors
    /// The node's refusal.
    pub fn exec(&mut self, command: &str) -> Result<String, String> {
        self.console.exec(command, 20)
    }

    /// A console command that must succeed.
    pub fn must_exec(&mut self, command: &str) -> String {
        self.exec(command)
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Gives vol0 its metadata, if that has not been done.
    pub fn create_metadata(&mut self) {
        if !std::mem::replace(&mut self.has_metadata, true) {
            // Right after the boot the node still looks whether the disk has some.
            wait_for("metadata is created", 10, || {
                match self.exec("create-md vol0") {
                    Err(said) if said.contains("busy") => None,
                    other => Some(other.expect("a blank disk")),
                }
            });
        }
    }

    /// Makes it a serving Primary by the operator's word.
    pub fn serve(&mut self) {
        self.create_metadata();
        self.must_exec("primary --force");
        let port = self.nbd_port;
        wait_for("the NBD server greets", 10, || {
            crate::nbd::Client::connect(port).ok()
        });
    }

    /// Everything that came over the serial line since the start.
    pub fn log(&self) -> String {
        text(&std::fs::read(self.dir.path().join("log")).unwrap_or_default())
    }

    /// Waits until the serial line has shown `words`.
    pub fn wait_log(&mut self, words: &str, seconds: u64) {
        wait_for(&format!("'{words}' on the console"), seconds, || {
            self.log().contains(words).then_some(())
        });
    }

    /// The file of a disk.
    pub fn disk(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("disk{index}"))
    }

    /// A file in the machine's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A request to QEMU's monitor, as JSON.
    pub fn qmp(&self, request: &str) -> String {
        qmp(&self.dir.path().join("qmp"), request)
    }

    /// QEMU's exit status, when it ends within `seconds`.
    pub fn ended(&mut self, seconds: u64) -> Option<i32> {
        let child = &mut self.child;
        wait_for("QEMU ends", seconds, || {
            child.try_wait().expect("our child")
        })
        .code()
    }

    /// Whether QEMU runs and the console answers.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("our child");
        assert!(ended.is_none(), "QEMU ended: {ended:?}\n{}", self.log());
        assert!(
            self.console.answers(10),
            "the console is dead\n{}",
            self.log()
        );
    }

    /// Processor time that QEMU has used so far, in ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .expect("Linux' /proc");
        // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th behind.
        let rest = stat.rsplit(')').next().expect("a name in parentheses");
        let fields = rest.split_whitespace().skip(11).take(2);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    /// Memory of QEMU that was ever resident, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("Linux' /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .expect("VmHWM in kB")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "end of the log:\n{}",
                tail(&self.dir.path().join("log"), 60)
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request to a QEMU monitor; the line with its answer.
pub(crate) fn qmp(path: &Path, request: &str) -> String {
    use std::io::{BufRead, BufReader};
    let mut stream = UnixStream::connect(path).expect("QEMU's monitor listens");
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .expect("a socket takes a timeout");
    writeln!(stream, r#"{{"execute":"qmp_capabilities"}}"#).expect("QEMU's monitor takes it");
    writeln!(stream, "{request}").expect("QEMU's monitor takes it");
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines
        .filter(|line| line.contains("\"return\"") || line.contains("\"error\""))
        .nth(1)
        .expect("an answer of QEMU's monitor")
}
