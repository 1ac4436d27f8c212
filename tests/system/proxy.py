"""A proxy before a server, which a test can have cut all connections at a moment that it recognises by the bytes."""

import socket
import struct
import threading
import urllib.parse
from contextlib import suppress

TO_SERVER, TO_CLIENT = "to server", "to client"


class Proxy:
    """Passes bytes on, until `trap(direction, bytes)` is true of some: these and all that follow are lost."""

    def __init__(self, host, port):
        self.server, self.trap, self.sprung = (host, port), None, threading.Event()
        self.on_trap, self.sockets = None, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def watch(self, what):
        """An event, set once `what(direction, bytes)` is true of some."""
        seen = threading.Event()

        def watching(direction, data):
            if what(direction, data):
                seen.set()
            return False

        self.trap = watching
        return seen

    def set_trap(self, trap, on_trap):
        """`on_trap()` is called before anything is closed, so that a client that it kills sees nothing of this."""
        self.on_trap, self.trap = on_trap, trap

    def cut(self):
        """Resets all connections, in the middle of what they carry; new ones are taken."""
        cut, self.sockets = self.sockets, []
        for one in cut:
            with suppress(OSError):  # of one that has ended
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.server)
            except OSError:
                client.close()
                continue
            self.sockets += [client, server]
            for source, target, direction in ((client, server, TO_SERVER), (server, client, TO_CLIENT)):
                threading.Thread(target=self.pump, args=(source, target, direction), daemon=True).start()

    def pump(self, source, target, direction):
        try:
            while data := source.recv(65536):
                if self.sprung.is_set():
                    break
                if self.trap is not None and self.trap(direction, data):
                    self.sprung.set()
                    self.on_trap()
                    break
                target.sendall(data)
        except OSError:
            pass
        finally:
            # Closed alone, a socket stays open for as long as the other thread reads from it.
            for one in (source, target):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def close(self):
        self.listener.close()
        for one in self.sockets:
            one.close()


def behind(url):
    """A proxy before a server, and the server's URL with it."""
    parts = urllib.parse.urlsplit(url)
    proxy = Proxy(parts.hostname, parts.port)
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return proxy, parts._replace(netloc=f"{login}127.0.0.1:{proxy.port}").geturl()
