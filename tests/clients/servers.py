"""What serves the ZooKeeper protocol: two addresses, at each of which a server can be started and killed.

Where only one server can have the data (the embedded store, a standalone ZooKeeper), the two addresses take turns: when
the server at one is dead, one at the other takes over its data. On etcd there are two servers."""

import pathlib
import socket

from etcd_server import Etcd
from processes import LOOPBACK, PATIENCE, Child, free_port, http_ok, until
from relay import Relay

TOOLS = pathlib.Path(__file__).resolve().parents[1] / "tools"
READY = 30  # seconds for a server to answer: only a deadline
SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # the digest of super:test, as in ZooKeeper's run.sh


class Servers:
    """The two addresses, and which of them serve. A server dies by SIGKILL."""

    together = False  # whether both can serve at once

    def __init__(self, directory):
        self.directory = directory
        self.ports = [free_port() for _ in range(2)]
        self.children = [self.child(number) for number in range(2)]
        self.up = set()

    @property
    def connect_string(self):
        return ",".join(f"{LOOPBACK}:{port}" for port in self.ports)

    def start(self):
        self._start(0)
        self.heal()

    def heal(self):
        """Every server that can serve does."""
        if self.together:
            for number in {0, 1} - self.up:
                self._start(number)

    def alone(self):
        """One server serves: every client is on it, or will be."""
        if len(self.up) == 2:
            self._kill(1)

    def move(self):
        """The server that serves alone dies, and the other one serves alone: every client must move to it."""
        self.alone()
        (here,) = self.up
        if self.together:
            self._start(1 - here)
        self._kill(here)
        if not self.together:
            self._start(1 - here)

    def _start(self, number):
        self.children[number].start()
        until(f"{self.children[number].name} to be ready", READY, lambda: self.ready(number))
        self.up.add(number)

    def _kill(self, number):
        self.up.discard(number)
        self.children[number].kill()


class Zketcd(Servers):
    def __init__(self, directory, options):
        self.binary = options.zketcd_bin
        self.admin = [free_port() for _ in range(2)]
        super().__init__(directory)

    def child(self, number):
        command = [
            *(self.binary, "serve", *self.store()),
            *("--listen", f"{LOOPBACK}:{self.ports[number]}", "--admin-listen", f"{LOOPBACK}:{self.admin[number]}"),
            *("--min-session-timeout", "1s", "--container-check-interval", "100ms"),
            *("--super-digest", SUPER, "--four-letter-words", "*"),
        ]
        return Child(f"zketcd-{number + 1}", command, self.directory)

    def ready(self, number):
        return http_ok(f"http://{LOOPBACK}:{self.admin[number]}/readyz")


class Embedded(Zketcd):
    def store(self):
        return ["--store", "embedded", "--data-dir", self.directory / "data"]


class OnEtcd(Zketcd):
    together = True

    def __init__(self, directory, options):
        self.etcd = Etcd(options.etcd_bin, directory)
        super().__init__(directory, options)

    def store(self):
        return ["--store", "etcd", "--etcd-endpoints", self.etcd.url]

    def start(self):
        self.etcd.start()
        super().start()


class ZooKeeper(Servers):
    """Clients reach it through a relay, and only when it is ready: while it starts, it may accept a connection and never
    read from it, and some clients wait for its answer longer than a check does, or for ever."""

    def __init__(self, directory, _options):
        self.behind = [free_port() for _ in range(2)]
        self.relays = {}
        super().__init__(directory)

    def child(self, number):
        command = [TOOLS / "zookeeper/run.sh", self.behind[number], self.directory / "data"]
        return Child(f"zookeeper-{number + 1}", command, self.directory)

    def ready(self, number):
        try:
            with socket.create_connection((LOOPBACK, self.behind[number]), PATIENCE) as connection:
                connection.sendall(b"srvr")
                return b"Mode:" in connection.recv(4096)
        except OSError:
            return False

    def _start(self, number):
        super()._start(number)
        self.relays[number] = Relay(self.behind[number], self.ports[number])

    def _kill(self, number):
        self.relays.pop(number).close()
        super()._kill(number)


STORES = {"embedded": Embedded, "etcd": OnEtcd, "zookeeper": ZooKeeper}
