#!/usr/bin/env python3
"""The management network of a pair without privileges: a switch with three ports, which are the two nodes (a unix socket
each, for QEMU's -netdev stream) and this machine, of which the nodes see one host with one UDP port. What they send
there is passed on to the arbiter as datagrams of a socket per node, and what that answers goes back.

Frames of QEMU's user networking, by which a node's web server is reached from the host (--http-ports), stay on their side: it
looks at no hardware address, and that of one node would reset the connections of the other's.

While the file `cut.peers` is in the working directory the switch carries nothing from node to node, but the arbiter
goes on being reached.

usage: management.py SOCKET-A SOCKET-B [HOST-ADDRESS:PORT ARBITER-ADDRESS:PORT]
"""

import asyncio
import ipaddress
import os
import signal
import struct
import sys

# QEMU puts the frame's length before each frame, as 32 bits, big-endian.
LENGTH = 4
# The longest that a node sends here is far shorter.
FRAME_MAX = 64 * 1024
# Bytes that wait for a node that does not read; beyond, frames are dropped, as by a switch.
BACKLOG = 64 * 1024
MAC = bytes.fromhex("525400000100")
# How the hardware addresses of QEMU's user networking begin; an address of IPv4 follows.
USER_NET = b"\x52\x55"
BROADCAST = b"\xff" * 6
ARP, IPV4, UDP = 0x0806, 0x0800, 17


def checksum(data):
    """RFC 1071's."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Port(asyncio.Protocol):
    """A node's end."""

    def __init__(self, switch):
        self.switch = switch
        self.transport = None
        self.partial = bytearray()

    def connection_made(self, transport):
        if self.transport is not None:
            # The node was booted again before its old connection was seen to end.
            self.transport.abort()
        self.transport = transport
        self.partial.clear()

    def connection_lost(self, _error):
        if self.transport is not None and self.transport.is_closing():
            self.transport = None

    def data_received(self, data):
        self.partial += data
        while len(self.partial) >= LENGTH:
            length = int.from_bytes(self.partial[:LENGTH], "big")
            if length > FRAME_MAX:
                self.transport.abort()
                return
            if len(self.partial) < LENGTH + length:
                return
            frame = bytes(self.partial[LENGTH : LENGTH + length])
            del self.partial[: LENGTH + length]
            self.switch.carry(self, frame)

    def send(self, frame):
        if self.transport is not None and self.transport.get_write_buffer_size() < BACKLOG:
            self.transport.write(len(frame).to_bytes(LENGTH, "big") + frame)


class Caller(asyncio.DatagramProtocol):
    """The socket that stands for one UDP port of a node towards the arbiter."""

    def __init__(self, answer):
        self.answer = answer
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, _from):
        self.answer(data)

    def error_received(self, _error):
        # No arbiter listens just now: a datagram is lost, as on any network.
        pass


class Switch:
    def __init__(self, host, arbiter):
        self.ports = [Port(self), Port(self)]
        address, self.port = host or (None, None)
        self.address, self.arbiter = address and address.packed, arbiter
        self.callers = {}

    def carry(self, source, frame):
        if len(frame) < 14:
            return
        to, kind = frame[:6], int.from_bytes(frame[12:14], "big")
        if USER_NET in (frame[:2], frame[6:8]):
            return
        if self.arbiter and to in (MAC, BROADCAST):
            self.here(source, frame, kind)
        if to != MAC and not os.path.exists("cut.peers"):
            for port in self.ports:
                if port is not source:
                    port.send(frame)

    def here(self, source, frame, kind):
        """A frame for this machine, perhaps."""
        if kind == ARP and len(frame) >= 42 and frame[20:22] == b"\0\1" and frame[38:42] == self.address:
            answer = frame[6:12] + MAC + frame[12:20] + b"\0\2" + MAC + self.address + frame[22:32]
            source.send(answer)
        if kind != IPV4 or len(frame) < 42 or frame[23] != UDP or frame[30:34] != self.address:
            return
        start = 14 + 4 * (frame[14] & 15)
        if len(frame) < start + 8:
            return
        origin, port, length = struct.unpack("!3H", frame[start : start + 6])
        if port == self.port and 8 <= length <= len(frame) - start:
            back = (source, frame[6:12], frame[26:30], origin)
            asyncio.ensure_future(self.ask(back, frame[start + 8 : start + length]))

    async def ask(self, back, data):
        caller = self.callers.get(back)
        if caller is None:
            if len(self.callers) >= 16:
                self.callers.pop(next(iter(self.callers))).transport.close()
            loop = asyncio.get_running_loop()
            answer = lambda data: self.answer(back, data)
            _, caller = await loop.create_datagram_endpoint(lambda: Caller(answer), remote_addr=self.arbiter)
            self.callers[back] = caller
        caller.transport.sendto(data)

    def answer(self, back, data):
        """Wraps what the arbiter said into a frame for the node."""
        port, mac, ip, origin = back
        udp = struct.pack("!4H", self.port, origin, 8 + len(data), 0) + data
        pseudo = self.address + ip + struct.pack("!BBH", 0, UDP, len(udp))
        udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, UDP, 0) + self.address + ip
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        port.send(mac + MAC + IPV4.to_bytes(2, "big") + head + udp)


def endpoint(text):
    address, _, port = text.rpartition(":")
    return ipaddress.IPv4Address(address), int(port)


async def main(paths, host=None, arbiter=None):
    loop = asyncio.get_running_loop()
    address, port = endpoint(arbiter) if arbiter else (None, None)
    switch = Switch(endpoint(host) if host else None, arbiter and (str(address), port))
    for port, path in zip(switch.ports, paths):
        # Bound under another name first: whoever sees the socket may connect.
        await loop.create_unix_server(lambda port=port: port, path + ".new")
        os.rename(path + ".new", path)
    stop = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stop.done() or stop.set_result(None))
    await stop


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1:3], *sys.argv[3:]))
