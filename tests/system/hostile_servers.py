"""Servers for the hostile guests to ask: one that they may, and one that nobody may."""

import asyncio
import socket
import threading


class Canary:
    """Listens on every address of this machine. Whoever connects has escaped."""

    def __init__(self):
        if socket.has_dualstack_ipv6():
            self.socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self.socket = socket.create_server(("0.0.0.0", 0))
        self.port = self.socket.getsockname()[1]
        self.hits = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, peer = self.socket.accept()
            except OSError:
                return
            self.hits.append(peer)
            connection.close()

    def close(self):
        self.socket.close()


class Granted:
    """Answers on every address of this machine; `requests` are the first lines of what it was asked."""

    def __init__(self, canary):
        self.canary, self.requests, self.open, self.readers = canary, [], 0, {}
        self.loop, self.released = asyncio.new_event_loop(), asyncio.Event()
        started = threading.Event()
        threading.Thread(target=self.run, args=(started,), daemon=True).start()
        started.wait()

    def run(self, started):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=2048))
        self.port = self.server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    async def serve(self, reader, writer):
        self.open += 1
        self.readers[writer] = reader
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line = head.split(b"\r\n", 1)[0].decode(errors="replace")
                self.requests.append(line)
                path = line.split(" ")[1] if line.count(" ") else "/"
                await getattr(self, path.strip("/").split("?")[0] or "index", self.index)(writer)
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open -= 1
            del self.readers[writer]
            writer.close()

    async def index(self, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async def redirect(self, writer):
        location = f"http://127.0.0.1:{self.canary.port}/"
        writer.write(f"HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()

    async def silent(self, writer):
        """Says nothing until the other side closes."""
        await self.readers[writer].read()

    async def held(self, writer):
        """Answers after `release`."""
        await self.released.wait()
        await self.index(writer)

    def release(self):
        self.loop.call_soon_threadsafe(self.released.set)

    async def drip(self, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def endless(self, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async def headers(self, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-more: " + b"y" * 8000 + b"\r\n")
            await writer.drain()

    def close(self):
        def stop():
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.call_soon(self.loop.stop)

        self.loop.call_soon_threadsafe(stop)
