#!/usr/bin/env python3
"""Measures Palisade and the anchor (DRBD on Linux) in turns; see ../bench.sh for the usage.

Only ratios taken in one run on one machine mean anything, so both sides are measured in every round, in
alternating order, and the table has the median of the rounds.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
IMAGES = pathlib.Path("/dev/shm")
SIZE_MB = 512
FIO_SIZE = "400M"
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS = 10
# The anchor's resync on this kind of machine, as its README says; its script does not measure it.
ANCHOR_RESYNC_MIB = 34

# The load of the anchor's nbd-fio.sh: name, mode, block size, depth.
LOADS = [
    ("randwrite-qd1", "randwrite", "4k", 1),
    ("randwrite-qd32", "randwrite", "4k", 32),
    ("randread-qd1", "randread", "4k", 1),
    ("randread-qd32", "randread", "4k", 32),
    ("write-128k", "write", "128k", 8),
    ("read-128k", "read", "128k", 8),
]


def run(*command, **options):
    """A command that must succeed; its standard output."""
    done = subprocess.run(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def fio(netns, uri, name, mode, block, depth, seconds=None, count=None, size=FIO_SIZE):
    """One load; I/O operations and bytes a second, and the latency in microseconds."""
    command = ["ip", "netns", "exec", netns, "fio", f"--name={name}", "--ioengine=nbd", f"--uri={uri}"]
    command += ["--direct=1", f"--rw={mode}", f"--bs={block}", f"--iodepth={depth}", f"--size={size}"]
    command += ["--randrepeat=1", "--output-format=json"]
    if count:
        command += [f"--number_ios={count}"]
    elif seconds:
        command += ["--time_based", f"--runtime={seconds}", "--ramp_time=1"]
    text = run(*command)
    job = json.loads(text[text.index("{") :])["jobs"][0]
    side = job["read" if "read" in mode else "write"]
    latency = side["clat_ns"].get("percentile", {})
    return {
        "iops": side["iops"],
        "mib_per_s": side["bw_bytes"] / 2**20,
        "p50_us": latency.get("50.000000", 0) / 1e3,
        "p99_us": latency.get("99.000000", 0) / 1e3,
    }


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmHWM")


def measure(pids, netns, uri, seconds):
    """Everything that is measured alike on both sides, on a pair that serves."""
    figures = {}
    for load in LOADS:
        print(f"  {load[0]} ...", file=sys.stderr, flush=True)
        figures[load[0]] = fio(netns, uri, *load, seconds=seconds)
    figures["memory_mib"] = max(peak_mib(pid) for pid in pids)
    time.sleep(2)
    before = [cpu_seconds(pid) for pid in pids]
    time.sleep(IDLE_SECONDS)
    used = [cpu_seconds(pid) - was for pid, was in zip(pids, before)]
    figures["idle_cpu_percent"] = [100 * u / IDLE_SECONDS for u in used]
    return figures


class Palisade:
    name = "palisade"

    def __init__(self):
        self.dir = IMAGES / f"palisade-bench-{os.getpid()}"
        self.netns = "palisade-" + run("sh", "-c", f"printf %s {self.dir} | sha256sum | cut -c1-8").strip()
        self.uri = "nbd://10.88.0.11:10809/vol0"

    def script(self, *arguments, **more):
        env = dict(os.environ, PALISADE_KERNEL=str(TOP / "target/palisade.elf"), **more)
        return run(TOP / "run-qemu.sh", *arguments, "--dir", self.dir, env=env)

    @contextlib.contextmanager
    def up(self, size_mb=SIZE_MB, **more):
        shutil.rmtree(self.dir, ignore_errors=True)
        try:
            yield self.script("up", "--detach", "--net", "tap", "--size", f"{size_mb}M", **more)
        finally:
            self.script("down")
            shutil.rmtree(self.dir, ignore_errors=True)

    def pids(self):
        return [int((self.dir / f"{node}.pid").read_text()) for node in "ab"]

    def round(self, seconds):
        with self.up() as said:
            # From the start of the first QEMU until the NBD greeting, as run-qemu.sh sees it.
            boot = next(line for line in said.splitlines() if line.startswith("NBD answers after"))
            figures = measure(self.pids(), self.netns, self.uri, seconds)
            figures["boot_s"] = int(boot.split()[3]) / 1000
        figures["image_mib"] = (TOP / "target/palisade.elf").stat().st_size / 2**20
        return figures

    def instructions(self):
        """Guest instructions per replicated 4 KiB write, on each node: with -icount QEMU counts them exactly,
        whatever else the machine does."""
        result = {}
        accel = "-accel tcg,thread=single,tb-size=32 -cpu max -icount shift=0"
        # A node that polls counts its host's delays: see docs/decisions/0003-poll-before-halt.md.
        with self.up(PALISADE_ACCEL=accel, PALISADE_QEMU_ARGS="-append polling=off"):
            for depth, count in ((1, 2000), (32, 8000)):
                fio(self.netns, self.uri, "warm", "randwrite", "4k", depth, count=500)
                before = [self.icount(node) for node in "ab"]
                fio(self.netns, self.uri, "count", "randwrite", "4k", depth, count=count)
                after = [self.icount(node) for node in "ab"]
                result[f"qd{depth}"] = [round((b - a) / count) for a, b in zip(before, after)]
        return result

    def status(self, node):
        return json.loads(self.script("exec", node, "status --json"))

    def resync(self, seconds):
        """The rate of a resync of an idle pair, and what clients' writes keep beside one."""
        fill_mib = 900
        load = ("randwrite", "4k", 32)
        fill = lambda: fio(self.netns, self.uri, "fill", "write", "128k", 8, size=f"{fill_mib}M")
        with self.up(size_mb=1024):
            self.script("kill", "b")
            fill()
            self.script("start", "b")
            done = self.until_in_sync()
            alone = fio(self.netns, self.uri, "without", *load, seconds=seconds)["iops"]
            self.script("kill", "b")
            fill()
            self.script("start", "b")
            while self.status("a")["volumes"][0]["replication"] != "SyncSource":
                time.sleep(0.02)
            beside = fio(self.netns, self.uri, "beside", *load, seconds=seconds)["iops"]
            left = self.status("a")["volumes"][0]["out_of_sync"]
            self.until_in_sync()
        return {
            "mib_per_s": done,
            "iops_without": alone,
            "iops_beside": beside,
            "ended_meanwhile": left == 0,
        }

    def until_in_sync(self):
        """Waits for the end of the resync; its rate in MiB/s, as the source saw it."""
        for _ in range(3000):
            volume = self.status("a")["volumes"][0]
            if volume["replication"] == "Established" and volume["out_of_sync"] == 0:
                break
            time.sleep(0.05)
        else:
            sys.exit("bench: the resync does not end")
        ends = [line for line in self.script("exec", "a", "log").splitlines() if "resync done:" in line]
        words = ends[-1].split("resync done:")[1].split()
        return int(words[0]) / 2**20 / max(int(words[3]) / 1000, 1e-3)

    def icount(self, node):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.dir / f"{node}.qmp"))
            stream = monitor.makefile("rw")
            for request in ("qmp_capabilities", "query-replay"):
                stream.write(json.dumps({"execute": request}) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    pass
            return answer["return"]["icount"]


class Anchor:
    name = "anchor"
    needs = ["drbdadm", "qemu-nbd", "nbd-server", "cpio", "modprobe", "busybox"]
    work = pathlib.Path("/tmp/anchor")

    def __init__(self, scripts):
        self.scripts = scripts
        self.dir = IMAGES / f"anchor-bench-{os.getpid()}"
        self.netns = "anchor"
        self.uri = "nbd://10.88.0.11:10809/disk"

    def prepare(self):
        """The anchor's initramfs; None, or why it cannot be measured."""
        missing = [tool for tool in self.needs if not shutil.which(tool)]
        if missing:
            return f"missing for it: {' '.join(missing)} (see its README)"
        if not (self.work / "initrd.gz").exists():
            run(self.scripts / "mkinitramfs.sh", self.work)
        return None

    def round(self, seconds):
        shutil.rmtree(self.dir, ignore_errors=True)
        env = dict(os.environ, EXTRA="skipsync", NS=self.netns, ANCHOR=str(self.work))
        pids = []
        try:
            # Its QEMUs stay in the background and inherit what they are given: no pipes.
            subprocess.run(
                [self.scripts / "pair.sh", self.dir, str(SIZE_MB), "qemu-nbd"],
                env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )
            pids = [int((self.dir / f"{node}.pid").read_text()) for node in "ab"]
            begun = (self.dir / "a.pid").stat().st_mtime  # written when the first QEMU starts
            probe = ["ip", "netns", "exec", self.netns, "nbdinfo", "--size", self.uri]
            while subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                if time.time() - begun > 120:
                    sys.exit("bench: the anchor pair does not come up")
                time.sleep(0.02)
            boot = time.time() - begun
            figures = measure(pids, self.netns, self.uri, seconds)
            figures["boot_s"] = boot
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            time.sleep(0.5)
            subprocess.run(["ip", "netns", "del", self.netns], stderr=subprocess.DEVNULL)
            shutil.rmtree(self.dir, ignore_errors=True)
        figures["image_mib"] = sum((self.work / f).stat().st_size for f in ("vmlinuz", "initrd.gz")) / 2**20
        return figures


def median(values):
    """The median, of each member where there are several."""
    if isinstance(values[0], dict):
        return {key: median([v[key] for v in values]) for key in values[0]}
    if isinstance(values[0], list):
        return [median(list(v)) for v in zip(*values)]
    return statistics.median(values)


def rows(ours, theirs):
    """(label, ours, theirs, ratio, target) as text; a ratio above 1 speaks for Palisade."""

    def row(label, pick, form, target, better_low=False):
        mine = pick(ours) if ours else None
        other = pick(theirs) if theirs else None
        ratio = ""
        if mine and other:
            ratio = f"{other / mine if better_low else mine / other:.1f}x"
        return (label, form(mine) if mine is not None else "-", form(other) if other is not None else "-", ratio, target)

    yield row("QEMU start to NBD answering", lambda f: f["boot_s"], lambda v: f"{v:.2f} s", "<= 0.5 s", True)
    yield row("host memory per node (peak)", lambda f: f["memory_mib"], lambda v: f"{v:.0f} MiB", "<= 1/4", True)
    yield row("image", lambda f: f["image_mib"], lambda v: f"{v:.2f} MiB", "<= 1.5 MiB", True)
    for name, mode, block, depth in LOADS:
        if block == "4k":
            yield row(f"4 KiB {mode}, depth {depth}", lambda f: f[name]["iops"], lambda v: f"{v:.0f} IOPS", ">= 8x")
            yield row("  p50", lambda f: f[name]["p50_us"], lambda v: f"{v / 1000:.2f} ms", "", True)
            yield row("  p99", lambda f: f[name]["p99_us"], lambda v: f"{v / 1000:.2f} ms", "", True)
        else:
            label = f"128 KiB sequential {mode}, depth {depth}"
            yield row(label, lambda f: f[name]["mib_per_s"], lambda v: f"{v:.1f} MiB/s", ">= 8x")
    idle = lambda f: max(f["idle_cpu_percent"])
    yield row("idle host CPU per node", idle, lambda v: f"{v:.1f} %", "<= 3 %", True)


def main():
    parser = argparse.ArgumentParser(prog="bench.sh", description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="per load")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="the table for docs/PERFORMANCE.md")
    parser.add_argument("--only", choices=["palisade", "anchor"])
    options = parser.parse_args()

    scripts = pathlib.Path(os.environ.get("ANCHOR_DIR", TOP.parent / "shared/anchor"))
    sides = [] if options.only == "anchor" else [Palisade()]
    if options.only != "palisade":
        anchor = Anchor(scripts)
        why = anchor.prepare() if (scripts / "pair.sh").exists() else f"it is not at {scripts}"
        if why:
            print(f"bench: without the anchor: {why}", file=sys.stderr)
        else:
            sides.append(anchor)

    measured = {side.name: [] for side in sides}
    for number in range(options.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            print(f"round {number + 1}: {side.name}", file=sys.stderr, flush=True)
            measured[side.name].append(side.round(options.seconds))
    result = {name: median(figures) for name, figures in measured.items()}
    instructions = resync = None
    if "palisade" in result:
        print("guest instructions ...", file=sys.stderr, flush=True)
        palisade = next(s for s in sides if s.name == "palisade")
        instructions = palisade.instructions()
        print("resync ...", file=sys.stderr, flush=True)
        resync = palisade.resync(options.seconds)

    header = ("figure", "Palisade", "DRBD on Linux", "ratio", "to reach")
    table = [header, *rows(result.get("palisade"), result.get("anchor"))]
    if instructions:
        for depth, (a, b) in instructions.items():
            label = f"guest instructions per 4 KiB write, depth {depth[2:]} (a / b)"
            table.append((label, f"{a} / {b}", "-", "", "recorded"))
    if resync:
        rate = resync["mib_per_s"]
        anchor = f"{ANCHOR_RESYNC_MIB} MiB/s (its README)"
        table.append(("resync of an idle pair", f"{rate:.0f} MiB/s", anchor, f"{rate / ANCHOR_RESYNC_MIB:.1f}x", ">= 10x"))
        part = resync["iops_beside"] / resync["iops_without"]
        note = ", for part of the time" if resync["ended_meanwhile"] else ""
        label = f"4 KiB randwrite, depth 32, beside a resync{note}"
        table.append((label, f"{resync['iops_beside']:.0f} IOPS", "-", f"{part:.2f} of {resync['iops_without']:.0f}", ">= 0.5"))
    if options.markdown:
        for index, line in enumerate(table):
            print("| " + " | ".join(cell.strip() for cell in line) + " |")
            if index == 0:
                print("|" + "---|" * len(header))
    else:
        widths = [max(len(line[i]) for line in table) for i in range(len(header))]
        for line in table:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    machine = {
        "processors": os.cpu_count(),
        "qemu": run("qemu-system-x86_64", "--version").splitlines()[0],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    output = TOP / "target/bench.json"
    everything = {
        "machine": machine,
        "seconds": options.seconds,
        "median": result,
        "rounds": measured,
        "instructions_per_4k_write": instructions,
        "resync": resync,
    }
    output.write_text(json.dumps(everything, indent=1) + "\n")
    print(f"written: {output.relative_to(TOP)}", file=sys.stderr)


if __name__ == "__main__":
    main()
