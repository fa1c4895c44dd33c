#!/usr/bin/env python3
"""Compares ZooKeeper 3.9.5, zketcd on etcd 3.6 and zketcd on its embedded store: `make bench`, docs/BENCHMARKS.md.

Starts them on this machine, each with a data directory of its own and fsync on, and loads them in turns: A B C A B C.
Leave the machine alone meanwhile. The samples stay in target/bench/samples.json, the logs of what failed beside it.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import report
from built import ROOT, executables
from report import SERVERS, Samples
from servers import Child, Embedded, Etcd, Failed, OnEtcd, ZooKeeper, cpu_seconds, memory_mib

STEADY = [
    *("get", "exists", "children", "set", "set-one", "create", "create-own", "sequential", "ephemeral"),
    *("create-delete", "multi", "mixed"),
]
OTHERS = ["fan-out", "limit", "two-servers", "sessions", "tree"]
SHAPES = ["1x1", "1x64", "64x1", "256x1"]
WARM = "64x1"  # the shape in which a server is warmed up before it is measured
# what etcd is asked for by itself: shape of benches/limit.rs, what it is, etcd's flags
LIMITS = [
    ("0x1", "one at a time", []),
    ("0x64", "64 at a time", []),
    ("60x1", "60 nested, one commit in flight", []),
    ("60x2", "60 nested, two commits in flight", []),
    ("60x4", "60 nested, four commits in flight", []),
    ("500x2", "500 nested, two commits in flight, --max-txn-ops=4096", ["--max-txn-ops=4096"]),
]
SAME = ("create-own", "64x1")  # the workload whose commits' shape raw etcd is asked for too
BEGIN, END = "<!-- figures: made by `make bench` -->\n", "<!-- end of figures -->\n"


class Bench:
    def __init__(self, options, run):
        self.options, self.run = options, run
        self.samples = Samples()
        self.failed = []
        self.load, self.limit = executables("load", "limit")
        self.started = 0

    # --- servers and loads

    def server(self, name, **more):
        self.started += 1
        directory = self.run / f"{self.started}-{name}"
        if name == "zookeeper":
            return ZooKeeper(directory)
        if name == "embedded":
            return Embedded(directory, self.options.zketcd)
        return OnEtcd(directory, self.options.zketcd, self.options.etcd, **more)

    def play(self, command, pids, batches=lambda: None):
        """Runs a load, and says what it measured and what the processes used meanwhile."""
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        sample, at, memory = {}, {}, {}
        for line in process.stdout:
            said = json.loads(line)
            if "at" in said:
                # what is asked of the servers is not to count as what they used
                if said["at"] == "begin":
                    at["begin"] = [batches(), self.cpu([*pids, process.pid])]
                else:
                    cpu, memory = self.cpu([*pids, process.pid]), self.memory(pids)
                    at["end"] = [batches(), cpu]
            else:
                sample = said
        if process.wait() or not sample:
            raise subprocess.CalledProcessError(process.returncode, command)
        if not sample["operations"]:
            raise Failed("nothing was answered in the measured time")
        sample["rate"] = sample["operations"] / sample["seconds"]
        if "end" in at:
            used = [after - before for before, after in zip(at["begin"][1], at["end"][1])]
            *servers, client = [seconds * 1e6 / sample["operations"] for seconds in used]
            sample |= {"cpu": servers, "client_cpu": client}
        if "end" in at and at["end"][0]:
            count, requests, seconds = [after - before for before, after in zip(at["begin"][0], at["end"][0])]
            sample |= {"batch": requests / count if count else 0, "in_flight": seconds / sample["seconds"]}
        return memory | sample

    @staticmethod
    def cpu(pids):
        return [cpu_seconds(pid) for pid in pids]

    @staticmethod
    def memory(pids):
        """Of the server itself, and of its etcd."""
        resident = [memory_mib(pid)[0] for pid in pids]
        return {"memory": resident[0]} | ({"etcd_memory": resident[1]} if resident[1:] else {})

    def measure(self, workload, shape, server, play):
        """Adds what `play` measures. What fails is said, counts as nothing, and makes the whole run fail at its end."""
        said = f"{workload} {shape}".strip() + f", {server}"
        try:
            sample = play()
            self.samples.add(workload, shape, server, sample)
            print(f"bench: {said}: {json.dumps(sample)}", file=sys.stderr)
        except (subprocess.CalledProcessError, OSError, Failed) as error:
            print(f"bench: {said} FAILED: {error}", file=sys.stderr)
            self.samples.add(workload, shape, server, {})
            self.failed.append(said)

    @property
    def times(self):
        return ["--time", self.options.time, "--warm-up", self.options.warm_up]

    # --- the kinds of load

    def steady(self, workloads):
        """All three run at the same time, and are loaded in turns. ZooKeeper stays, as its JVM gets faster while it
        runs; ours begin anew for each workload, so that etcd's history of one is no burden to the next."""
        zookeeper = self.server("zookeeper")
        zookeeper.start()
        for workload in workloads:
            servers = [zookeeper, self.server("etcd"), self.server("embedded")]
            for server in servers[1:]:
                server.start()
            fan_out = workload == "fan-out"
            command = lambda shape: ["fan-out"] if fan_out else ["steady", workload, shape]  # noqa: E731
            for server in servers:
                subprocess.run([self.load, *command(WARM), *self.times, server.address], stdout=subprocess.DEVNULL)
            for shape in ["1+64"] if fan_out else self.options.shapes:
                for _ in range(self.options.rounds):
                    for server in servers:
                        words = [self.load, *command(shape), *self.times, server.address]
                        play = lambda: self.play(words, server.pids(), server.batches)  # noqa: B023, E731
                        self.measure(workload, shape, server.name, play)
            for server in servers:
                hwm = [memory_mib(pid)[1] for pid in server.pids()]
                self.samples.add(workload, "memory", server.name, {"hwm": hwm})
            for server in servers[1:]:
                server.remove()
        zookeeper.remove()

    def limits(self):
        """etcd without us: a new one for each shape, and for the shape that our own commits had."""
        shapes = list(LIMITS)
        batch = self.samples.median(*SAME, "etcd", "batch")
        if batch:
            lanes = max(1, round(self.samples.median(*SAME, "etcd", "in_flight")))
            what = f"as zketcd's in {' '.join(SAME)}: {round(batch)} nested, {lanes} in flight"
            shapes.append((f"{round(batch)}x{lanes}", what, []))
        for _ in range(self.options.rounds):
            for shape, what, flags in shapes:
                self.started += 1
                etcd = Etcd(self.run / f"{self.started}-limit", self.options.etcd, *flags)
                etcd.start()
                words = [self.limit, shape, etcd.url, *self.times]
                name = "same" if what.startswith("as zketcd") else shape
                self.measure("limit", name, "raw", lambda: self.play(words, etcd.pids()) | {"what": what})  # noqa: B023
                etcd.remove()

    def two_servers(self):
        """Creates under one parent: through one server, then through two of one etcd."""
        for _ in range(self.options.rounds):
            one = self.server("etcd")
            one.start()
            words = [self.load, "steady", "create", "64x1", *self.times, one.address]
            subprocess.run(words, stdout=subprocess.DEVNULL)
            self.measure("two-servers", "", "one", lambda: self.play(words, one.pids()))  # noqa: B023
            two = self.server("etcd", beside=one)
            two.start()
            both = one.pids() + two.pids()[:1]
            self.measure("two-servers", "", "two", lambda: self.play([*words, two.address], both))  # noqa: B023
            two.remove()
            one.remove()

    def alone(self, workload, play):
        """Each server by itself, on empty data."""
        for _ in range(self.options.rounds):
            for name in SERVERS:
                server = self.server(name)
                server.start()
                self.measure(workload, "", name, lambda: play(server))  # noqa: B023
                server.remove()

    def sessions(self, server):
        """The memory is what the server has at the end of the hold. Some that are not counted are opened and closed
        before: a JVM compiles what is hot while it runs."""
        words = [self.load, "sessions", "--hold", "0s", "--count", self.options.sessions // 4, server.address]
        subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
        words[3:6] = [self.options.hold, "--count", self.options.sessions]
        return self.play(words, server.pids())

    def tree(self, server):
        """Written while somebody reads; then the server starts anew. etcd was started anew before it."""
        size = ["--nodes", self.options.nodes]
        sample = self.play([self.load, "tree", *size, server.address], server.pids())
        server.stop()
        if server.name == "etcd":
            server.start_etcd()
        began = time.monotonic()
        server.begin()
        subprocess.run([self.load, "first", *map(str, size), server.address], check=True, stdout=subprocess.DEVNULL)
        sample["start"] = time.monotonic() - began
        return sample | {"memory_after": self.memory(server.pids())["memory"]}

    def all(self):
        chosen = self.options.workloads
        self.steady([name for name in [*STEADY, "fan-out"] if name in chosen])
        if "limit" in chosen:
            self.limits()
        if "two-servers" in chosen:
            self.two_servers()
        if "sessions" in chosen:
            self.alone("sessions", self.sessions)
        if "tree" in chosen:
            self.alone("tree", self.tree)


# --- the report


def fsync_ms(directory):
    """Milliseconds of one small write that is fsynced, where the servers' data are."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        began = time.monotonic()
        for _ in range(200):
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
        return (time.monotonic() - began) * 1000 / 200


def first_line(*command):
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return (run.stdout + run.stderr).partition("\n")[0].strip()


def machine(options, run):
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) / (1 << 20)
    disk = first_line("stat", "--file-system", "--format", "%T", str(run))
    java = re.search(r'"(.*?)"', first_line("java", "-version"))
    return [
        f"{os.cpu_count()} x {cpu.group(1) if cpu else platform.machine()}, {memory:.0f} GiB, "
        f"Linux {platform.release()}, {disk} where one 4 KiB write with fsync takes {fsync_ms(run):.2f} ms",
        f"ZooKeeper 3.9.5 on Java {java.group(1) if java else 'unknown'}, {first_line(options.etcd, '--version')}, "
        f"{first_line(options.zketcd, '--version')} at {first_line('git', 'describe', '--always', '--dirty')}; "
        "servers and load generator share the machine",
    ]


def page(bench, described, load):
    """What stands between the marks of docs/BENCHMARKS.md."""
    options, samples = bench.options, bench.samples
    lines = [
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, `{options.command}`: medians of "
        f"{options.rounds} rounds of {options.time}, in brackets the least and the most; {options.nodes:,} znodes in "
        f"the large tree, {options.sessions:,} sessions held for {options.hold}. Load of the machine before: {load}.",
        *(f"- {line}" for line in described),
    ]
    if bench.failed:
        lines.append("\n**Failed**, so without figures: " + "; ".join(bench.failed))
    parts = [
        ("What must be reached", report.targets(samples)),
        ("Operations per second", report.rates(samples)),
        ("Memory", report.memories(samples)),
        ("Sessions, a large tree, two servers", report.figures(samples)),
        ("etcd by itself", report.limits(samples)),
    ]
    tables = "".join(f"\n### {title}\n\n{text}" for title, text in parts)
    return "\n".join(lines) + "\n" + tables


def arguments():
    def names(known):
        def parse(text):
            chosen = text.split(",")
            if unknown := [name for name in chosen if name not in known]:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not in {', '.join(known)}")
            return chosen

        return parse

    def shapes(text):
        chosen = text.split(",")
        if not all(re.fullmatch(r"\d+x\d+", shape) for shape in chosen):
            raise argparse.ArgumentTypeError("shapes are like 1x64,64x1: connections x requests in flight on each")
        return chosen

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    every = STEADY + OTHERS
    parser.add_argument("--workloads", type=names(every), default=every, help="some of: %(default)s")
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="connections x requests in flight: %(default)s")
    parser.add_argument("--time", default="2s", help="how long each load is measured (2s)")
    parser.add_argument("--warm-up", default="500ms", help="how long it runs before (500ms)")
    parser.add_argument("--nodes", type=int, default=1_000_000, help="znodes of the large tree (1000000)")
    parser.add_argument("--sessions", type=int, default=10_000, help="sessions to open and hold (10000)")
    parser.add_argument("--hold", default="60s", help="how long they are held (60s)")
    parser.add_argument("--zketcd", default=ROOT / "target/release/zketcd", type=pathlib.Path)
    parser.add_argument("--etcd", default=ROOT / "target/tools/etcd-3.6", type=pathlib.Path)
    parser.add_argument("--directory", default=ROOT / "target/bench", type=pathlib.Path, help="on the disk that counts")
    parser.add_argument("--page", type=pathlib.Path, help="write the tables into this page too")
    options = parser.parse_args()
    options.command = shlex.join(["benches/bench.py", *sys.argv[1:]])
    return options


def main():
    options = arguments()
    options.directory.mkdir(parents=True, exist_ok=True)
    run = pathlib.Path(tempfile.mkdtemp(prefix="run.", dir=options.directory))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = " ".join(pathlib.Path("/proc/loadavg").read_text().split()[:3])
    try:
        bench = Bench(options, run)
        described = machine(options, run)
        try:
            bench.all()
        finally:
            (options.directory / "samples.json").write_text(json.dumps(bench.samples.rows, indent=1))
        text = page(bench, described, load)
        print(text)
        if options.page:
            options.page.write_text(report.replaced(options.page.read_text(), BEGIN, END, text))
    finally:
        Child.kill_all()
        shutil.rmtree(run, ignore_errors=True)
    if bench.failed:
        raise SystemExit(f"bench: {len(bench.failed)} loads failed")


if __name__ == "__main__":
    main()
