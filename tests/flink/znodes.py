"""As much of a ZooKeeper client as it takes to list znodes."""

import socket
import struct

from processes import LOOPBACK, PATIENCE

GET_CHILDREN = 8
CLOSE = -11
NO_NODE = -101


class Znodes:
    """One session with one server, for a few reads: `with Znodes(port) as znodes`."""

    def __init__(self, port):
        self._xid = 0
        self._socket = socket.create_connection((LOOPBACK, port), timeout=PATIENCE)

    def __enter__(self):
        try:
            self._send(struct.pack(">iqiqi16s?", 0, 0, 10000, 0, 16, b"", False))
            self._receive()
        except OSError:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_):
        try:
            self._call(CLOSE, b"")
        except OSError:
            pass
        self._socket.close()

    def children(self, path):
        """The children's names; none where the path does not exist."""
        name = path.encode()
        error, body = self._call(GET_CHILDREN, struct.pack(f">i{len(name)}s?", len(name), name, False))
        if error == NO_NODE:
            return []
        if error:
            raise OSError(f"getChildren {path}: {error}")
        (count,), at = struct.unpack_from(">i", body), 4
        names = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", body, at)
            names.append(body[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return names

    def below(self, path):
        """The paths of everything below a path."""
        found = []
        for name in self.children(path):
            child = f"{path.rstrip('/')}/{name}"
            found += [child, *self.below(child)]
        return found

    def _call(self, opcode, body):
        self._xid += 1
        self._send(struct.pack(">ii", self._xid, opcode) + body)
        answer = self._receive()
        _, _, error = struct.unpack_from(">iqi", answer)
        return error, answer[16:]

    def _send(self, body):
        self._socket.sendall(struct.pack(">i", len(body)) + body)

    def _receive(self):
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data
