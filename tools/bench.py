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

import floods

TOP = pathlib.Path(__file__).resolve().parent.parent
IMAGES = pathlib.Path("/dev/shm")
SIZE_MB = 512
FIO_SIZE = "400M"
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS = 10
# Both sides copy a volume of this size; the anchor's is rid of what its metadata take.
RESYNC_MB = 1024
RESYNCS = 3
# The anchor's steady state: so long after its first block, for so long.
ANCHOR_SETTLE, ANCHOR_WINDOW = 1.5, 5
# What clients do without and beside a resync.
BESIDE = [("randwrite-qd1", 1), ("randwrite-qd32", 32)]

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


def wait(done, what, limit=180):
    """Until `done` answers yes."""
    end = time.time() + limit
    while not done():
        if time.time() > end:
            sys.exit(f"bench: {what}: not within {limit} s")
        time.sleep(0.02)


def written_mib(pid):
    """What a process has written to files since it began."""
    for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1]) / 2**20
    raise ValueError(f"process {pid} has no wchar")


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
    def up(self, size_mb=SIZE_MB, options=(), **more):
        shutil.rmtree(self.dir, ignore_errors=True)
        try:
            yield self.script("up", "--detach", "--net", "tap", "--size", f"{size_mb}M", *options, **more)
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
        figures["resync"] = self.resync(seconds)
        figures["image_mib"] = (TOP / "target/palisade.elf").stat().st_size / 2**20
        return figures

    def instructions(self):
        """Guest instructions per 4 KiB request, on each node: with -icount QEMU counts them exactly, whatever else the
        machine does. How many requests come together at depth 32 does depend on that."""
        result = {}
        accel = "-accel tcg,thread=single,tb-size=32 -cpu max -icount shift=0"
        # A node that polls counts its host's delays: see docs/decisions/0003-poll-before-halt.md.
        with self.up(PALISADE_ACCEL=accel, PALISADE_QEMU_ARGS="-append polling=off"):
            for mode, depth, count in (("write", 1, 2000), ("write", 32, 8000), ("read", 1, 2000)):
                fio(self.netns, self.uri, "warm", f"rand{mode}", "4k", depth, count=500)
                before = [self.icount(node) for node in "ab"]
                fio(self.netns, self.uri, "count", f"rand{mode}", "4k", depth, count=count)
                after = [self.icount(node) for node in "ab"]
                per_request = [round((b - a) / count) for a, b in zip(before, after)]
                result[f"4 KiB {mode}, depth {depth}"] = per_request
        return result

    def said(self, words):
        """How often node a's console said something. Asking the node would cost it time."""
        return (self.dir / "a.log").read_bytes().count(words.encode())

    def give_up_copy(self):
        """Has all of the volume copied to node b; returns when that has begun."""
        begun = self.said("all of it is resynced")
        self.script("exec", "b", "invalidate vol0")
        wait(lambda: self.said("all of it is resynced") > begun, "a resync begins")

    def resync_rate(self):
        """The rate of a resync of the whole volume, in MiB/s, from its beginning until both nodes are UpToDate."""
        done = self.said("resync done:")
        self.give_up_copy()
        wait(lambda: self.said("resync done:") > done, "the resync ends")
        line = (self.dir / "a.log").read_text(errors="replace").rsplit("resync done:", 1)[1]
        words = line.split()
        return int(words[0]) / 2**20 / (int(words[3]) / 1000)

    def resync(self, seconds):
        """The rate of a resync of an idle pair, and what clients' writes keep beside one."""
        figures = {"beside": {}}
        with self.up(size_mb=RESYNC_MB):
            fio(self.netns, self.uri, "fill", "write", "128k", 8, size=f"{RESYNC_MB - 2}M")
            figures["mib_per_s"] = statistics.median(self.resync_rate() for _ in range(RESYNCS))
            for name, depth in BESIDE:
                print(f"  {name} beside a resync ...", file=sys.stderr, flush=True)
                load = ("randwrite", "4k", depth)
                alone = [fio(self.netns, self.uri, "without", *load, seconds=seconds)["iops"]]
                done = self.said("resync done:")
                self.give_up_copy()
                beside = fio(self.netns, self.uri, "beside", *load, seconds=seconds)["iops"]
                ended = self.said("resync done:") > done
                wait(lambda: self.said("resync done:") > done, "the resync ends")
                # Before and after: the machine may have become slower or faster meanwhile.
                alone.append(fio(self.netns, self.uri, "without", *load, seconds=seconds)["iops"])
                figures["beside"][name] = {
                    "iops": beside,
                    "iops_without": statistics.mean(alone),
                    "part": beside / statistics.mean(alone),
                    "ended_meanwhile": ended,
                }
        return figures

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

    @contextlib.contextmanager
    def up(self, size_mb, extra=""):
        """The pair, as soon as its processes run; gives their numbers."""
        shutil.rmtree(self.dir, ignore_errors=True)
        env = dict(os.environ, EXTRA=extra, NS=self.netns, ANCHOR=str(self.work))
        pids = []
        try:
            # Its QEMUs stay in the background and inherit what they are given: no pipes.
            subprocess.run(
                [self.scripts / "pair.sh", self.dir, str(size_mb), "qemu-nbd"],
                env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )
            pids = [int((self.dir / f"{node}.pid").read_text()) for node in "ab"]
            yield pids
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            time.sleep(0.5)
            subprocess.run(["ip", "netns", "del", self.netns], stderr=subprocess.DEVNULL)
            shutil.rmtree(self.dir, ignore_errors=True)

    def answers(self):
        probe = ["ip", "netns", "exec", self.netns, "nbdinfo", "--size", self.uri]
        return not subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode

    def round(self, seconds):
        with self.up(SIZE_MB, "skipsync") as pids:
            begun = (self.dir / "a.pid").stat().st_mtime  # written when the first QEMU starts
            wait(self.answers, "the anchor pair comes up")
            boot = time.time() - begun
            figures = measure(pids, self.netns, self.uri, seconds)
            figures["boot_s"] = boot
        figures["resync"] = self.resync(figures["randwrite-qd32"]["iops"])
        figures["image_mib"] = sum((self.work / f).stat().st_size for f in ("vmlinuz", "initrd.gz")) / 2**20
        return figures

    def resync(self, iops_without):
        """The rate of the first synchronisation of an idle pair: that of what node b's QEMU writes to its image, once it
        runs; and what clients keep beside it. Its blocks are zeroes, which it sends like any others."""
        with self.up(RESYNC_MB) as pids:
            wait(lambda: written_mib(pids[1]) > 8, "the anchor's resync begins")
            wait(self.answers, "the anchor pair comes up")
            time.sleep(ANCHOR_SETTLE)
            before, begun = written_mib(pids[1]), time.time()
            time.sleep(ANCHOR_WINDOW)
            after, took = written_mib(pids[1]), time.time() - begun
            load = fio(self.netns, self.uri, "beside", "randwrite", "4k", 32, seconds=4)["iops"]
            # What clients wrote is in it too; if it is less than the volume, the resync still ran when they ended.
            ended = written_mib(pids[1]) > RESYNC_MB
        if after > RESYNC_MB * 0.95:
            sys.exit("bench: the anchor's resync ended before it was measured")
        beside = {"iops": load, "iops_without": iops_without, "part": load / iops_without, "ended_meanwhile": ended}
        return {"mib_per_s": (after - before) / took, "beside": {"randwrite-qd32": beside}}


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
    yield row("resync of an idle pair", lambda f: f["resync"]["mib_per_s"], lambda v: f"{v:.0f} MiB/s", ">= 340 MiB/s")
    for name, depth in BESIDE:
        beside = lambda f: f["resync"]["beside"].get(name)
        note = " (it ended meanwhile)" if ours and beside(ours)["ended_meanwhile"] else ""
        form = lambda v: f"{v['part']:.2f} of {v['iops_without']:.0f} IOPS"
        cell = lambda side: form(beside(side)) if side and beside(side) else "-"
        yield (f"4 KiB randwrite, depth {depth}, beside a resync{note}", cell(ours), cell(theirs), "", ">= 0.50 of its own")


def show(table, markdown):
    """Prints rows of text, of which the first is the header."""
    if markdown:
        for index, line in enumerate(table):
            print("| " + " | ".join(cell.strip() for cell in line) + " |")
            if index == 0:
                print("|" + "---|" * len(line))
    else:
        widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        for line in table:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(prog="bench.sh", description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="per load")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="the table for docs/PERFORMANCE.md")
    parser.add_argument("--only", choices=["palisade", "anchor"])
    parser.add_argument("--instructions", action="store_true", help="only count Palisade's guest instructions")
    parser.add_argument("--floods", action="store_true", help="only what I/O keeps under floods of Palisade's web server and console")
    options = parser.parse_args()
    if options.floods:
        results = floods.measure(Palisade(), fio, options.seconds, options.rounds)
        show([*floods.table(results)], options.markdown)
        output = TOP / "target/floods.json"
        output.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written: {output.relative_to(TOP)}", file=sys.stderr)
        return
    if options.instructions:
        for request, (a, b) in Palisade().instructions().items():
            print(f"guest instructions per {request}: {a} on node a, {b} on node b")
        return

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
    instructions = None
    if "palisade" in result:
        print("guest instructions ...", file=sys.stderr, flush=True)
        instructions = next(side for side in sides if side.name == "palisade").instructions()

    header = ("figure", "Palisade", "DRBD on Linux", "ratio", "to reach")
    table = [header, *rows(result.get("palisade"), result.get("anchor"))]
    if instructions:
        for request, (a, b) in instructions.items():
            table.append((f"guest instructions per {request} (a / b)", f"{a} / {b}", "-", "", "recorded"))
    show(table, options.markdown)
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
        "guest_instructions": instructions,
    }
    output.write_text(json.dumps(everything, indent=1) + "\n")
    print(f"written: {output.relative_to(TOP)}", file=sys.stderr)


if __name__ == "__main__":
    main()
