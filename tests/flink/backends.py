"""What serves the ZooKeeper protocol: two zketcd with one etcd, or one ZooKeeper."""

from etcd_server import Etcd
from processes import LOOPBACK, Child, free_port, http_ok, until
from relay import Relay
from znodes import Znodes


class Zketcd:
    """One etcd; for each JobManager a zketcd of its own, which reaches etcd through a relay of its own."""

    name = "zketcd"
    prefix = "/zketcd"

    def __init__(self, options, directory):
        self.etcd = Etcd(options.etcd_bin, directory)
        self.relays = [Relay(self.etcd.port) for _ in range(2)]
        self.ports = [free_port() for _ in self.relays]
        self._admin = [free_port() for _ in self.relays]
        self.servers = [
            Child(
                f"zketcd-{number}",
                [
                    *(options.zketcd_bin, "serve", "--store", "etcd", "--prefix", self.prefix),
                    *("--listen", f"{LOOPBACK}:{port}", "--admin-listen", f"{LOOPBACK}:{admin}"),
                    *("--etcd-endpoints", f"http://{LOOPBACK}:{relay.port}", "--four-letter-words", "*"),
                ],
                directory,
            )
            for number, (port, admin, relay) in enumerate(zip(self.ports, self._admin, self.relays), 1)
        ]

    def start(self):
        self.etcd.start()
        for number, server in enumerate(self.servers):
            server.start()
            self.await_ready(number)

    def await_ready(self, number):
        url = f"http://{LOOPBACK}:{self._admin[number]}/readyz"
        until(f"zketcd {number + 1} to be ready", 30, lambda: http_ok(url))

    def quorum(self, number):
        """The connect string of JobManager `number`: its own sidecar."""
        return f"{LOOPBACK}:{self.ports[number]}"

    def whole_quorum(self):
        return ",".join(self.quorum(number) for number in range(2))

    def node_keys(self):
        """Kind -> the znodes that have such a key in etcd: records (n), child records (c) and ACLs (a)."""
        found = {kind: set() for kind in "nca"}
        for key in self.etcd.keys(f"{self.prefix}/"):
            kind, path = key[len(self.prefix) + 1], key[len(self.prefix) + 2 :]
            if kind in found and path.startswith("/"):
                found[kind].add(path)
        return found

    def znodes(self, path):
        """Every znode below a path; None where no server tells now."""
        return _below(self.ports, path)

    def close(self):
        for relay in self.relays:
            relay.close()


class ZooKeeper:
    """One standalone server for both JobManagers, its restart is the whole ensemble's."""

    name = "zookeeper"

    def __init__(self, options, directory):
        self._port = free_port()
        config = directory / "zoo.cfg"
        # the sample configuration's tick
        config.write_text(
            f"dataDir={directory}/zookeeper\nclientPort={self._port}\nclientPortAddress={LOOPBACK}\n"
            "tickTime=2000\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n"
        )
        java = ["java", "-Xmx200m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.jmx.log4j.disable=true"]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        self.child = Child("zookeeper", [*java, "-cp", f"{options.zookeeper}/*", main, config], directory)

    def start(self):
        self.child.start()
        until("ZooKeeper to answer", 30, lambda: self.znodes("/"))

    def quorum(self, _number):
        return f"{LOOPBACK}:{self._port}"

    def whole_quorum(self):
        return self.quorum(0)

    def znodes(self, path):
        return _below([self._port], path)

    def close(self):
        pass


def _below(ports, path):
    """Every znode below a path, from the first server that answers; None where none does."""
    for port in ports:
        try:
            with Znodes(port) as znodes:
                return znodes.below(path)
        except OSError:
            continue
    return None
