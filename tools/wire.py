#!/usr/bin/env python3
"""The cables between two nodes: for each network a unix socket per end, to which that node's QEMU connects
(-netdev stream), and every frame that comes in at one end goes out at the other.

QEMU 7.2 leaves no simpler way for a cable that outlives either end: its stream client cannot reconnect, and
its stream server writes blocking, so that a frozen node would freeze its peer's whole QEMU. Here a node
that does not read only stops the other from sending, as a full link does, and frames for a node that is
not there are dropped, as by a switch.

usage: wire.py SOCKET-A SOCKET-B [SOCKET-A SOCKET-B ...]
"""

import asyncio
import os
import signal
import sys

# Bytes on their way to a node before its peer has to wait.
BACKLOG = 256 * 1024
# QEMU puts the frame's length before each frame, as 32 bits, big-endian.
LENGTH = 4


class End(asyncio.Protocol):
    """One end of a cable; `other` is the end that the frames go to."""

    def __init__(self):
        self.other = None
        self.transport = None
        self.partial = bytearray()
        self.full = False

    def connection_made(self, transport):
        if self.transport is not None:
            # The node was booted again before its old connection was seen to end.
            self.transport.abort()
        transport.set_write_buffer_limits(high=BACKLOG)
        self.transport = transport
        self.partial.clear()
        self.resume_writing()
        if self.other.full:
            transport.pause_reading()

    def connection_lost(self, _error):
        # Of a connection that was replaced, nothing is left to clear.
        if self.transport is not None and self.transport.is_closing():
            self.transport = None
            self.resume_writing()

    def data_received(self, data):
        self.partial += data
        whole = self.whole_frames()
        if whole and self.other.transport is not None:
            self.other.transport.write(bytes(self.partial[:whole]))
        del self.partial[:whole]

    def whole_frames(self):
        """Bytes of complete frames received: a node that is booted anew must get whole ones only."""
        end, received = 0, len(self.partial)
        while received - end >= LENGTH:
            following = end + LENGTH + int.from_bytes(self.partial[end : end + LENGTH], "big")
            if following > received:
                break
            end = following
        return end

    def pause_writing(self):
        self.full = True
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self):
        self.full = False
        if self.other.transport is not None:
            self.other.transport.resume_reading()


async def main(paths):
    loop = asyncio.get_running_loop()
    for pair in zip(paths[::2], paths[1::2]):
        ends = End(), End()
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end, path in zip(ends, pair):
            # Bound under another name first: whoever sees the socket may connect.
            await loop.create_unix_server(lambda end=end: end, path + ".new")
            os.rename(path + ".new", path)
    stop = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stop.done() or stop.set_result(None))
    await stop


if __name__ == "__main__":
    if len(sys.argv) < 3 or len(sys.argv) % 2 == 0:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1:]))
