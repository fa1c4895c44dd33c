"""A TCP relay that can stop forwarding without closing a connection."""

import socket
import threading

from processes import LOOPBACK


class Relay:
    """Forwards its own port to another; while it is cut it holds back every byte and new connections too."""

    def __init__(self, target, port=0):
        self.target = target
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server((LOOPBACK, port))
        self.port = self._listener.getsockname()[1]
        self._run(self._accept)

    def cut(self):
        self._open.clear()

    def go_on(self):
        self._open.set()

    def close(self):
        # without it the thread that accepts would go on, and take one more
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.go_on()

    @staticmethod
    def _run(work, *args):
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._run(self._serve, client)

    def _serve(self, client):
        self._open.wait()
        try:
            server = socket.create_connection((LOOPBACK, self.target))
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            try:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                # The other direction has ended already, and closed both.
                return
            self._run(self._pump, one, other)

    def _pump(self, source, sink):
        """One direction; the end of either closes both."""
        try:
            while data := source.recv(65536):
                self._open.wait()
                sink.sendall(data)
        except OSError:
            pass
        self._open.wait()
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
