#!/usr/bin/env python3
"""What clients' I/O keeps while somebody floods a node's web server or console; `../bench.sh --floods` runs it.

Each flood is also let loose on a stand-in on the host (the control): its clients take the processor from QEMU, too, and only what I/O
loses beyond that is the node's doing.

usage, by itself: floods.py web|console|stand-in-web|stand-in-console WHERE
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time

# Who hammers a document, whose request never ends, and who asks for events and does not read them.
HAMMERS, TRICKLERS, READERS = 120, 74, 6
# Between two requests of one of them.
PAUSE = 0.05
# What the stand-in answers: as long as a small node's /metrics, as often as the node with its share of the processor.
DOCUMENT = b"m" * (32 << 10)
SERVED, TAKES = 12, 0.05
LINES = b"version\r\x01f1 version\rfrobnicate vol9\r\x1b[A\x03" * 64


class Tally:
    """What a flood was answered, told when it is ended."""

    def __init__(self):
        self.began = time.time()
        self.counts = {}

    def add(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def tell(self):
        seconds = time.time() - self.began
        print(json.dumps({what: round(n / seconds, 1) for what, n in sorted(self.counts.items())}), flush=True)


async def hammer(host, port, tally):
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            tally.add(answer[9:12].decode() or "nothing")
            writer.close()
        except OSError as error:
            tally.add(type(error).__name__)
        await asyncio.sleep(PAUSE)


async def trickle(host, port, tally):
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
            for byte in b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        except OSError:
            tally.add("trickler cut off")
        await asyncio.sleep(PAUSE)


async def read_nothing(host, port, tally):
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port, limit=16)
            writer.write(b"GET /events?since=0 HTTP/1.1\r\nHost: n\r\n\r\n")
            await asyncio.sleep(15)
            writer.close()
        except OSError:
            tally.add("reader cut off")
        await asyncio.sleep(PAUSE)


async def flood_web(where):
    host, port = where.rsplit(":", 1)
    tally = Tally()
    kinds = [hammer] * HAMMERS + [trickle] * TRICKLERS + [read_nothing] * READERS
    await until_ended([asyncio.create_task(kind(host, int(port), tally)) for kind in kinds], tally)


async def flood_console(where):
    tally = Tally()
    reader, writer = await asyncio.open_unix_connection(where)

    async def write():
        while True:
            writer.write(LINES)
            await writer.drain()

    async def read():
        while await reader.read(65536):
            tally.add("pieces of output")

    await until_ended([asyncio.create_task(write()), asyncio.create_task(read())], tally)


async def stand_in_web(where):
    host, port = where.rsplit(":", 1)
    free = [SERVED]

    async def serve(reader, writer):
        try:
            if free[0] == 0:
                writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n")
            else:
                free[0] -= 1
                try:
                    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1)
                    await asyncio.sleep(TAKES)
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + DOCUMENT)
                finally:
                    free[0] += 1
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, host, int(port), backlog=256)
    await until_ended([asyncio.create_task(server.serve_forever())], None)


async def stand_in_console(where):
    async def serve(reader, writer):
        # As the node: a chunk, and a rest.
        try:
            while await reader.read(16):
                writer.write(b"x" * 32)
                await writer.drain()
                await asyncio.sleep(0.001)
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_unix_server(serve, where)
    await until_ended([asyncio.create_task(server.serve_forever())], None)


async def until_ended(tasks, tally):
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    print("begun", flush=True)
    await ended.wait()
    for task in tasks:
        task.cancel()
    if tally:
        tally.tell()


class Process:
    """One of the above beside a measurement, in the network namespace of the pair."""

    def __init__(self, netns, kind, where):
        command = ["ip", "netns", "exec", netns, sys.executable, os.path.abspath(__file__), kind, where]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "begun\n":
            sys.exit(f"bench: the flood {kind} does not begin")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=30)
        return json.loads(said) if said.strip() else {}


def measure(palisade, fio, seconds, rounds):
    """Figures of each load: without, under each flood, and under its control, from one run of one pair."""
    results = {}
    with palisade.up(options=["--http-ports", "7791,7792"]):
        console, stand_in = str(palisade.dir / "a.console"), str(palisade.dir / "stand-in")
        floods = {
            "web": (("web", "10.99.0.1:7791"), ("stand-in-web", "10.99.0.100:7799"), ("web", "10.99.0.100:7799")),
            "console": (("console", console), ("stand-in-console", stand_in), ("console", stand_in)),
        }
        subprocess.run(["ip", "netns", "exec", palisade.netns, "ip", "address", "add", "10.99.0.100/32", "dev", "lo"], check=True)

        def one(name, mode, kind):
            said = {}
            processes = []
            if kind != "without":
                flood, control = kind.split()
                to_node, server, to_server = floods[flood]
                if control == "control":
                    processes.append(Process(palisade.netns, *server))
                    processes.append(Process(palisade.netns, *to_server))
                else:
                    processes.append(Process(palisade.netns, *to_node))
                time.sleep(1)
            figures = fio(palisade.netns, palisade.uri, name, mode, "4k", 1, seconds=seconds)
            for process in reversed(processes):
                said.update(process.end())
            print(f"  {name}, {kind}: {figures['iops']:.0f} IOPS {said or ''}", file=sys.stderr, flush=True)
            return figures | {"answers_per_s": said}

        kinds = ["without", "web control", "web node", "console control", "console node"]
        for name, mode in (("randwrite-qd1", "randwrite"), ("randread-qd1", "randread")):
            fio(palisade.netns, palisade.uri, "fill", "write", "128k", 8)
            taken = [{kind: one(name, mode, kind) for kind in kinds} for _ in range(rounds)]
            results[name] = {
                kind: {
                    figure: statistics.median(each[kind][figure] for each in taken)
                    for figure in ("iops", "p50_us", "p99_us")
                }
                | {"answers_per_s": taken[-1][kind]["answers_per_s"]}
                for kind in kinds
            }
    return results


def table(results):
    """Lines of text. The last columns are what the node loses beyond what the flood's clients take from its host."""
    yield ("load", "flood", "IOPS", "p50", "p99", "IOPS / control", "p50 / control", "p99 / control")
    for load, kinds in results.items():
        for kind, figures in kinds.items():
            cells = [f"{figures['iops']:.0f}", f"{figures['p50_us'] / 1000:.2f} ms", f"{figures['p99_us'] / 1000:.2f} ms"]
            ratios = ["", "", ""]
            if kind.endswith(" node"):
                control = kinds[kind.replace(" node", " control")]
                ratios = [f"{figures[f] / control[f]:.2f}" for f in ("iops", "p50_us", "p99_us")]
            yield (load, kind, *cells, *ratios)


KINDS = {
    "web": flood_web,
    "console": flood_console,
    "stand-in-web": stand_in_web,
    "stand-in-console": stand_in_console,
}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    asyncio.run(KINDS[sys.argv[1]](sys.argv[2]))
