"""The servers that are compared, each in a directory of its own on the disk, each with fsync on."""

import os
import pathlib
import re
import shutil
import socket
import sys
import urllib.request

from built import ROOT

sys.path.append(str(ROOT / "tests" / "tools"))
from processes import LOOPBACK, Child, Failed, free_port, http, until  # noqa: E402, F401

TICKS = os.sysconf("SC_CLK_TCK")
START = 120  # seconds in which a server must serve: only a deadline, never a measure
QUOTA = 8 << 30  # bytes: etcd keeps the history of what the load wrote


def cpu_seconds(pid):
    """What a process has had of the processors, its threads and what it did in the kernel included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid):
    """Resident now, and the most it has been."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return [int(re.search(rf"^{name}:\s+(\d+) kB", status, re.M).group(1)) / 1024 for name in ("VmRSS", "VmHWM")]


def answers(port):
    """Whether a server there says in which mode it is."""
    try:
        with socket.create_connection((LOOPBACK, port), 1) as stream:
            stream.settimeout(1)
            stream.sendall(b"srvr")
            answer = b"".join(iter(lambda: stream.recv(4096), b""))
    except OSError:
        return False
    return b"Mode:" in answer


class Server:
    """Something that serves ZooKeeper's protocol. Its processes: itself, and etcd where it has one."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.address = f"{LOOPBACK}:{self.port}"
        self.child = None

    def start(self):
        self.begin()
        until(f"{self.name} to serve", START, lambda: answers(self.port))

    def begin(self):
        """Starts it, its data as they were; it need not serve yet."""
        self.child.start()

    def stop(self):
        self.child.stop()

    def remove(self):
        """Stops it and removes its data."""
        self.stop()
        shutil.rmtree(self.directory)

    def pids(self):
        return [self.child.process.pid]

    def batches(self):
        """How many batches, requests in them and seconds they took, so far; nothing where there are none."""
        return None


class ZooKeeper(Server):
    name = "zookeeper"

    def __init__(self, directory):
        super().__init__(directory)
        config = self.directory / "zoo.cfg"
        config.write_text(
            f"dataDir={self.directory}/data\nclientPortAddress={LOOPBACK}\nclientPort={self.port}\ntickTime=2000\n"
            "maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n"
        )
        # slf4j has nothing to log with here: ZooKeeper is silent, as fast as can be
        jars = ["-cp", f"{ROOT}/target/tools/zookeeper/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain"]
        self.child = Child(self.name, ["java", "-Xmx1g", *jars, config], self.directory)


class Zketcd(Server):
    def __init__(self, directory, binary, *store):
        super().__init__(directory)
        self.admin = free_port()
        command = [binary, "serve", "--listen", self.address, "--admin-listen", f"{LOOPBACK}:{self.admin}"]
        limits = ["--max-client-connections", 0, "--max-connections", 0]
        self.child = Child(f"zketcd-{self.port}", [*command, *limits, "--log-level", "warn", *store], self.directory)

    def batches(self):
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        read = lambda name: float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))  # noqa: E731
        return [
            read("zketcd_batch_requests_count"),
            read("zketcd_batch_requests_sum"),
            read("zketcd_commit_duration_seconds_sum"),
        ]


class Embedded(Zketcd):
    name = "embedded"

    def __init__(self, directory, binary):
        super().__init__(directory, binary, "--store", "embedded", "--data-dir", pathlib.Path(directory) / "data")


class Etcd:
    """One member of its own; not a server of the protocol."""

    def __init__(self, directory, binary, *flags):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        port, peer = free_port(), free_port()
        self.url, peer_url = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{peer}"
        self.child = Child(
            f"etcd-{port}",
            [
                *(binary, "--data-dir", self.directory / "data", "--quota-backend-bytes", QUOTA),
                *("--log-level", "warn", "--listen-client-urls", self.url, "--advertise-client-urls", self.url),
                *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
                *("--initial-cluster", f"default={peer_url}", *flags),
            ],
            self.directory,
        )

    def start(self):
        self.child.start()
        until("etcd to be healthy", START, lambda: (http(f"{self.url}/health") or {}).get("health") == "true")

    def pids(self):
        return [self.child.process.pid]

    def remove(self):
        self.child.stop()
        shutil.rmtree(self.directory)


class OnEtcd(Zketcd):
    """With an etcd of its own, or as a further server on another's."""

    name = "etcd"

    def __init__(self, directory, binary, etcd_binary=None, beside=None):
        self.own = Etcd(pathlib.Path(directory) / "etcd", etcd_binary) if beside is None else None
        self.etcd = self.own or beside.etcd
        super().__init__(directory, binary, "--store", "etcd", "--etcd-endpoints", self.etcd.url)

    def start(self):
        self.start_etcd()
        super().start()

    def start_etcd(self):
        if self.own:
            self.own.start()

    def stop(self):
        super().stop()
        if self.own:
            self.own.child.stop()

    def pids(self):
        return super().pids() + self.etcd.pids()
