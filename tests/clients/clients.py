"""The clients: which versions, and how their programs are run. run.sh has built them by then."""

import pathlib
import re
import subprocess
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "target/clients"


@dataclass
class Client:
    name: str  # as the folder
    library: str
    version: str
    command: list


def version(file, pattern):
    """The version that a file of the program's folder asks for."""
    return re.search(pattern, (HERE / file).read_text(), re.MULTILINE).group(1)


def debian(package):
    found = subprocess.run(["dpkg-query", "-Wf", "${Version}", package], capture_output=True, text=True, check=False)
    return found.stdout or "not installed"


CLIENTS = [
    Client("c", "ZooKeeper's C client (Debian)", debian("libzookeeper-mt-dev"), [BUILT / "c"]),
    Client(
        "kazoo",
        "Python's kazoo",
        version("kazoo/requirements.txt", r"^kazoo==(\S+)"),
        [BUILT / "kazoo/bin/python", HERE / "kazoo/checks.py"],
    ),
    Client(
        "go",
        "Go's go-zookeeper/zk",
        version("go/go.mod", r"^require github.com/go-zookeeper/zk v(\S+)"),
        [BUILT / "go"],
    ),
    Client(
        "rust",
        "Rust's zookeeper-client",
        version("rust/Cargo.toml", r'^zookeeper-client = \{ version = "=(\S+?)"'),
        [BUILT / "rust/debug/zketcd-clients"],
    ),
    Client(
        "node",
        "Node's node-zookeeper-client",
        version("node/package.json", r'"node-zookeeper-client": "([0-9.]+)"'),
        ["env", f"NODE_PATH={BUILT}/node/node_modules", "node", HERE / "node/checks.js"],
    ),
]
