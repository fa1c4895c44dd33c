"""An etcd for those who run zketcd outside of the Rust tests."""

import base64

from processes import LOOPBACK, Child, free_port, http, until


class Etcd:
    def __init__(self, binary, directory):
        self.port, peer = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        peer_url = f"http://{LOOPBACK}:{peer}"
        self.child = Child(
            "etcd",
            [
                *(binary, "--name", "etcd", "--data-dir", directory / "etcd", "--logger", "zap"),
                *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
                *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
                *("--initial-cluster", f"etcd={peer_url}"),
            ],
            directory,
        )

    def start(self):
        self.child.start()
        until("etcd to be healthy", 30, lambda: (http(f"{self.url}/health") or {}).get("health") == "true")

    def keys(self, prefix):
        """The keys that begin with a prefix."""
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        body = {
            "key": base64.b64encode(start).decode(),
            "range_end": base64.b64encode(end).decode(),
            "keys_only": True,
        }
        # 3.4 answers without a "kvs" where there is none
        answer = until("etcd's keys", 10, lambda: http(f"{self.url}/v3/kv/range", body))
        return [base64.b64decode(kv["key"]).decode() for kv in answer.get("kvs", [])]
