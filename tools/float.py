#!/usr/bin/env python3
"""One NBD address that follows the Primary.

Listens on a unix socket. Each client is joined to the node that greets: a standby accepts TCP and
withholds the greeting, so the first greeting tells the Primary, whoever it is by then. When that node
goes away the client's connection is dropped (never answered with an error), the client connects
again and waits here for the next greeting. A node that begins to greet while clients hang on the
other has taken over: the others' clients are dropped, which is what the reset of unknown segments does
behind an address that moved.

usage: float.py SOCKET HOST:PORT HOST:PORT
"""

import asyncio
import itertools
import os
import signal
import sys

CHUNK = 256 * 1024
# A pause between attempts: long enough to cost nothing, short against a failover.
RETRY_SECONDS = 0.1
# How long a connection may be silent before another is tried.
PATIENCE_SECONDS = (0.3, 1, 2, 5)
# Where a greeting ends, and the flag in it that a node does not offer if it greets only to say why it does not serve.
GREETING_BYTES = 18
NO_ZEROES = 2
# How often, and for how long, a node that greeted without having clients is asked again.
RECHECK_SECONDS = 1.0


class Node:
    """One of the pair, as seen from here."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.host, self.port = host, int(port)
        self.greets = False
        self.clients = set()

    async def greeting(self):
        """Connect until the node greets; returns its connection and the bytes it began with.

        Patience has an end and grows: QEMU's user networking listens with a backlog of one, so of many
        connections at once some are never accepted although they look established here."""
        for patience in itertools.chain(PATIENCE_SECONDS, itertools.repeat(PATIENCE_SECONDS[-1])):
            writer = None
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port, limit=CHUNK)
                first = await asyncio.wait_for(reader.readexactly(GREETING_BYTES), patience)
                if first[-1] & NO_ZEROES:
                    joined, writer = writer, None
                    return reader, joined, first
                self.greets = False
                await asyncio.sleep(RETRY_SECONDS)
            except asyncio.TimeoutError:
                pass
            except (OSError, asyncio.IncompleteReadError):
                self.greets = False
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                if writer is not None:
                    writer.transport.abort()


class Float:
    """All clients and both nodes."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.open = 0
        self.watchers = []

    def watch(self, change):
        """Watch for a takeover only while there are clients: an idle pair is left in peace."""
        self.open += change
        if self.open and not self.watchers:
            self.watchers = [asyncio.ensure_future(self.takeover(n)) for n in self.nodes]
        elif not self.open:
            for task in self.watchers:
                task.cancel()
            self.watchers = []

    async def takeover(self, node):
        """Drop the other node's clients at the moment this one begins to greet: the change counts,
        or two nodes that both greet would throw the clients to and fro."""
        while True:
            if node.clients:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if node.greets:
                await asyncio.sleep(RECHECK_SECONDS)
            try:
                limit = RECHECK_SECONDS if node.greets else None
                _, writer, _ = await asyncio.wait_for(node.greeting(), limit)
                writer.transport.abort()
                self.greeted(node)
            except asyncio.TimeoutError:
                node.greets = False

    def greeted(self, node):
        if not node.greets:
            node.greets = True
            for other in self.nodes:
                if other is not node:
                    for transport in list(other.clients):
                        transport.abort()

    async def client(self, reader, writer):
        self.watch(1)
        try:
            await self.join(reader, writer)
        finally:
            writer.transport.abort()
            self.watch(-1)

    async def join(self, reader, writer):
        """Race the nodes for a greeting, then carry bytes both ways until either side ends."""
        # A client says nothing before the greeting; if its read ends now, it hung up.
        hangup = asyncio.ensure_future(reader.read(CHUNK))
        races = {asyncio.ensure_future(n.greeting()): n for n in self.nodes}
        try:
            done, _ = await asyncio.wait([hangup, *races], return_when=asyncio.FIRST_COMPLETED)
            won = next((r for r in races if r in done), None)
            if won is None:
                return
            for race in races:
                if race is not won:
                    if race in done:
                        race.result()[1].transport.abort()
                    race.cancel()
            node = races[won]
            node_reader, node_writer, first = won.result()
            self.greeted(node)
            node.clients.add(writer.transport)
            try:
                writer.write(first)
                if await self.carry(hangup, reader, node_writer, node_reader, writer):
                    node.greets = False
            finally:
                node.clients.discard(writer.transport)
                node_writer.transport.abort()
        finally:
            hangup.cancel()
            for race in races:
                race.cancel()

    @staticmethod
    async def carry(begun, reader, node_writer, node_reader, writer):
        """Pump both ways; true if it was the node that ended."""

        async def pump(source, sink, pending=None):
            data = await (pending or source.read(CHUNK))
            while data:
                sink.write(data)
                await sink.drain()
                data = await source.read(CHUNK)

        pumps = [
            asyncio.ensure_future(pump(reader, node_writer, begun)),
            asyncio.ensure_future(pump(node_reader, writer)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            return pumps[1] in done and pumps[0] not in done
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def main(path, addresses):
    hub = Float([Node(a) for a in addresses])
    server = await asyncio.start_unix_server(hub.client, path, limit=CHUNK, backlog=64)
    loop = asyncio.get_running_loop()
    stop = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stop.done() or stop.set_result(None))
    await stop
    server.close()
    os.unlink(path)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
