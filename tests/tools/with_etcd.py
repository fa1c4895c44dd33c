#!/usr/bin/env python3
"""Runs a command with an etcd 3.6 that lasts as long as it: with_etcd.py COMMAND …

The command finds it by ZKETCD_ETCD_ENDPOINTS. Its data is in memory where that can be, and nothing is fsynced.
etcd's flags can be given by its environment variables (ETCD_MAX_TXN_OPS=…).
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from etcd_server import Etcd
from processes import Child

TOOLS = pathlib.Path(__file__).resolve().parent
BINARY = TOOLS.parents[1] / "target" / "tools" / "etcd-3.6"


def main():
    subprocess.run([TOOLS / "install.sh", "etcd-3.6"], check=True)
    os.environ["ETCD_UNSAFE_NO_FSYNC"] = "true"
    # an end from outside lets the command end, and etcd after it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="etcd.", dir=memory) as directory:
        etcd = Etcd(BINARY, pathlib.Path(directory))
        try:
            etcd.start()
            command = subprocess.Popen(sys.argv[1:], env=os.environ | {"ZKETCD_ETCD_ENDPOINTS": etcd.url})
            try:
                status = command.wait()
            finally:
                command.terminate()
                command.wait()
        finally:
            Child.kill_all()
    sys.exit(status)


if __name__ == "__main__":
    main()
