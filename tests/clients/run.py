#!/usr/bin/env python3
"""Runs the clients' checks against servers of its own: see README.md."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from clients import CLIENTS
from processes import Child
from servers import STORES

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "target/results"
SILENCE = 120  # seconds without a line from a client's program, then it hangs. Each check has a shorter deadline of its own


class Run:
    """One client's program against fresh servers."""

    def __init__(self, client, store, directory, options):
        self.client, self.servers = client, STORES[store](directory, options)
        self.log = directory / f"{client.name}.log"
        self.command = [*client.command, self.servers.connect_string, *filter(None, [options.check])]
        self.passed, self.failures = [], []

    def play(self):
        try:
            self.servers.start()
            with open(self.log, "wb") as log:
                # so that nothing outlives a harness that is killed
                self.process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--", *map(str, self.command)],
                    **dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True),
                )
                try:
                    self.listen(log)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self.process.pid, signal.SIGKILL)
                    self.process.wait()
        except Exception:
            self.failed(f"the run: {traceback.format_exc()}")
        finally:
            Child.kill_all()

    def listen(self, log):
        """Follows what the program prints: `ok CHECK`, `FAILED CHECK: why`, `control WORD`, and for the log anything else."""
        began = time.monotonic()
        for line in self.lines():
            word, _, rest = line.partition(" ")
            if word == "ok":
                self.passed.append(rest)
                print(f"ok     {self.client.name}: {rest} ({time.monotonic() - began:.1f} s)", flush=True)
                began = time.monotonic()
            elif word == "FAILED":
                self.failed(rest)
                began = time.monotonic()
            elif word == "control" and rest in ("alone", "move", "heal"):
                getattr(self.servers, rest)()
                self.process.stdin.write(b"done\n")
                self.process.stdin.flush()
            else:
                log.write(f"{line}\n".encode())
        code = self.process.wait(SILENCE)
        # a crash: no check says that it failed
        if code and not self.failures:
            self.failed(f"the program ended with {code}")
        if not code and not self.passed:
            self.failed("the program ran no check")

    def lines(self):
        output, pending = self.process.stdout.fileno(), b""
        while True:
            readable, _, _ = select.select([output], [], [], SILENCE)
            if not readable:
                self.failed(f"the program said nothing for {SILENCE} s")
                return
            chunk = os.read(output, 65536)
            if not chunk:
                return
            *whole, pending = (pending + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)

    def failed(self, why):
        self.failures.append(why)
        print(f"FAILED {self.client.name}: {why}", flush=True)


def play(client, options):
    """All rounds of one client; the checks that passed in each, and all failures."""
    # a disk's fsyncs must not decide how long a session lives
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    passed, failures = None, []
    for _ in range(options.rounds):
        directory = pathlib.Path(tempfile.mkdtemp(prefix=f"clients-{client.name}-", dir=memory))
        print(f"--- {client.name}: {client.library} {client.version} on {options.store}", flush=True)
        run = Run(client, options.store, directory, options)
        run.play()
        passed = set(run.passed) if passed is None else passed & set(run.passed)
        failures += run.failures
        if run.failures or options.keep:
            print(f"       logs: {directory}", flush=True)
        else:
            shutil.rmtree(directory)
    return passed, failures


def keep_result(client, options, passed, failures):
    """Leaves the result where tests/results.py looks for it."""
    store = options.store
    if store == "etcd":
        said = subprocess.run([options.etcd_bin, "--version"], capture_output=True, text=True, check=True).stdout
        store = "etcd-" + re.search(r"etcd Version: (\d+\.\d+)", said).group(1)
    result = {
        "suite": f"{client.library} {client.version}",
        "store": store,
        "passed": len(passed),
        "failed": len(failures),
        "rounds": options.rounds,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"clients-{client.name}-{store}.json").write_text(json.dumps(result, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=STORES, default="embedded")
    parser.add_argument("--client", choices=[client.name for client in CLIENTS], help="only this one")
    parser.add_argument("--check", help="only checks whose names hold this")
    parser.add_argument("--rounds", type=int, default=1, help="how often to play all checks, each time on new servers")
    parser.add_argument("--zketcd-bin", default=os.environ.get("ZKETCD_BIN", ROOT / "target/release/zketcd"))
    parser.add_argument("--etcd-bin", default=os.environ.get("ETCD_BIN", ROOT / "target/tools/etcd-3.6"))
    parser.add_argument("--keep", action="store_true", help="keep the logs of runs that passed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    sums = [0, 0]
    for client in CLIENTS:
        if options.client in (None, client.name):
            passed, failures = play(client, options)
            sums = [sums[0] + len(passed), sums[1] + len(failures)]
            if not options.check:
                keep_result(client, options, passed, failures)
    print(f"{sums[0]} passed, {sums[1]} failed")
    return 1 if sums[1] else 0


if __name__ == "__main__":
    sys.exit(main())
