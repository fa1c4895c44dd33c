#!/usr/bin/env python3
"""Flink's high availability on zketcd (or on ZooKeeper, for comparison): see README.md."""

import argparse
import os
import pathlib
import shutil
import signal
import sys
import time
import traceback

from backends import ZooKeeper, Zketcd
from cluster import CLUSTER, GRANTED, LATCH, REVOKED, SUSPENDED, SUSPENDED_JOB, Flink
from processes import POLL, Child, Failed, check, until
from reports import Reports

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAILOVER_LIMIT = 13.0  # seconds: what ZooKeeper 3.9.5 took with the same session timeout
ETCD_DOWN = 2.0  # seconds between its stop and its start
RECOVERY = 90  # seconds in which anything must recover: only a deadline, never a measure


class Round:
    """One cluster, from its start to its end."""

    def __init__(self, options, directory):
        self.backend = {"zketcd": Zketcd, "zookeeper": ZooKeeper}[options.backend](options, directory)
        self.flink = Flink(options, directory, self.backend)
        self.reports = Reports(self.flink.reports)
        self.before = set()

    def start(self):
        self.backend.start()
        self.flink.start()
        self.before = self.stored()["n"]

    def stored(self):
        """Kind -> znodes, as etcd's keys have them; ZooKeeper itself is asked for its znodes."""
        if self.zketcd:
            return self.backend.node_keys()
        return {"n": set(until("the znodes", 10, lambda: self.backend.znodes("/")))}

    @property
    def zketcd(self):
        return self.backend.name == "zketcd"

    def scenarios(self):
        both = [
            ("1 the job runs, its checkpoints are znodes", self.runs),
            ("2 the leading JobManager dies", self.leader_dies),
            ("4 the store restarts", self.etcd_restarts if self.zketcd else self.zookeeper_restarts),
            ("6 a cancelled job leaves nothing", self.cancelled),
        ]
        if self.zketcd:
            both.insert(2, ("3 the leader's zketcd dies", self.zketcd_dies))
            both.insert(4, ("5 the leader's zketcd is cut off from etcd", self.cut_off))
        return both

    # what several scenarios do

    def progress(self, count):
        """Waits for so many more checkpoints, then holds the state against the source."""
        flink = self.flink
        goal = flink.completed() + count
        until(f"checkpoint {goal}", RECOVERY, lambda: flink.completed() >= goal)
        return self.reports.verify()

    def await_restored(self, known):
        """Waits until the job RUNs from checkpoint `known` or a later one; returns when that was seen, and which."""
        flink = self.flink
        until(
            f"the job to run from checkpoint {known} or later",
            RECOVERY,
            lambda: flink.job_runs() and flink.restored() >= known,
        )
        return time.time(), flink.restored()

    def await_settled(self):
        until("one leader and one standby again", RECOVERY, self.flink.settled)

    # the scenarios: each returns its figures

    def runs(self):
        flink = self.flink
        began = time.time()
        flink.submit()
        until("the job to run", RECOVERY, flink.job_runs)
        running = time.time() - began
        counted = self.progress(3)
        pointers = f"{CLUSTER}/jobs/{flink.job}/checkpoints"

        def pointer():
            # the latest checkpoint's znode replaces the one before
            znodes = self.backend.znodes(pointers) or []
            return [znode for znode in znodes if znode[len(pointers) + 1 :].isdigit()]

        newest = until("a checkpoint's znode", RECOVERY, pointer)[0]
        if self.zketcd:
            until(
                "a checkpoint's pointer among etcd's keys",
                RECOVERY,
                lambda: self.stored()["n"] & set(pointer()),
            )
        return f"running {running:.1f} s after its submission, {counted} records counted, pointer {newest[-19:]}"

    def leader_dies(self):
        flink = self.flink
        self.progress(1)
        leader = flink.leader()
        other = flink.other(leader)
        mark = other.mark()
        killed = time.time()
        leader.child.kill()
        known = flink.logged_checkpoint()
        running, restored = self.await_restored(known)
        counted = self.progress(2)
        leader.start()
        self.await_settled()
        took = running - killed
        elected = other.times(GRANTED, mark)[0] - killed
        # the machine's load tells whether the second part is Flink's or the neighbours'
        figures = (
            f"RUNNING {took:.2f} s after SIGKILL (new leader after {elected:.2f} s, load {os.getloadavg()[0]:.1f}) "
            f"from checkpoint {restored} (last known {known}), {counted} records counted"
        )
        if self.zketcd:
            check(took <= FAILOVER_LIMIT + POLL, f"took more than {FAILOVER_LIMIT} s: {figures}")
        return figures

    def zketcd_dies(self):
        flink = self.flink
        leader = flink.leader()
        mark = leader.mark()
        killed = time.time()
        server = self.backend.servers[leader.number]
        server.kill()
        until("the leader to notice", RECOVERY, lambda: leader.times(REVOKED, mark))
        known = flink.logged_checkpoint()
        server.start()
        self.backend.await_ready(leader.number)
        back = time.time() - killed
        running, restored = self.await_restored(known)
        counted = self.progress(2)
        self.await_settled()
        return (
            f"ready again after {back:.2f} s, RUNNING {running - killed:.2f} s after SIGKILL from checkpoint {restored} "
            f"(last known {known}), {counted} records counted"
        )

    def etcd_restarts(self):
        flink, etcd = self.flink, self.backend.etcd
        self.progress(1)
        marks = [manager.mark() for manager in flink.managers]
        attempts, leader, before = self.reports.attempts(), flink.leader(), flink.completed()
        stopped = time.time()
        etcd.child.stop()
        time.sleep(ETCD_DOWN)
        etcd.start()
        started = time.time()
        # checkpoints complete again, with their pointers written
        until("a checkpoint after the restart", RECOVERY, lambda: flink.completed() > before + 1)
        resumed = time.time() - started
        counted = self.progress(2)
        for manager, mark in zip(flink.managers, marks):
            for what, pattern in (("lost leadership", REVOKED), ("was disconnected", SUSPENDED)):
                lost = manager.times(pattern, mark)
                check(not lost, f"{manager.child.name} {what} {[round(t - stopped, 2) for t in lost]} s after the stop")
        check(flink.leader() is leader, "another JobManager leads")
        check(self.reports.attempts() == attempts, "the job was restarted")
        check(flink.job_runs(), "the job does not run")
        return (
            f"etcd away for {started - stopped:.2f} s, no leadership lost, no restart, "
            f"checkpoints went on {resumed:.2f} s after, {counted} records counted"
        )

    def zookeeper_restarts(self):
        """Reported, not asserted: ZooKeeper's clients lose their leadership here."""
        flink, child = self.flink, self.backend.child
        self.progress(1)
        marks = [manager.mark() for manager in flink.managers]
        known = flink.logged_checkpoint()
        stopped = time.time()
        child.stop()
        time.sleep(ETCD_DOWN)
        self.backend.start()
        away = time.time() - stopped
        revoked = self._times(REVOKED, marks)
        gone = min(self._times(SUSPENDED, marks), default=stopped)
        running = time.time()
        if revoked:
            running, _ = self.await_restored(known)
        counted = self.progress(2)
        self.await_settled()
        return (
            f"ZooKeeper away for {away:.2f} s, {len(revoked)} contenders' leadership revoked, RUNNING again "
            f"{running - stopped:.2f} s after the stop ({running - gone:.2f} s after the first SUSPENDED), "
            f"{counted} records counted"
        )

    def _times(self, pattern, marks):
        return [t for manager, mark in zip(self.flink.managers, marks) for t in manager.times(pattern, mark)]

    def cut_off(self):
        flink = self.flink
        self.progress(1)
        old = flink.leader()
        new = flink.other(old)
        old_mark, new_mark = old.mark(), new.mark()
        relay = self.backend.relays[old.number]
        cut = time.time()
        relay.cut()
        try:
            until("the new leader", RECOVERY, lambda: new.times(GRANTED, new_mark))
            check(old.times(REVOKED, old_mark), "the new leader was granted leadership while the old one held it")
            running, restored = self.await_restored(flink.logged_checkpoint())
            lost, granted = old.times(REVOKED, old_mark), new.times(GRANTED, new_mark)
        finally:
            relay.go_on()
        # Its REST server, its dispatcher, its resource manager. The job's master goes with the dispatcher, whether its
        # own contender hears of it first or not: its job is suspended.
        check(len(lost) >= 3, f"only {len(lost)} of the old leader's contenders lost their leadership")
        suspended = old.times(SUSPENDED_JOB, old_mark)
        check(suspended, "the old leader's job was not suspended")
        lost = lost + suspended[:1]
        check(
            max(lost) < min(granted),
            f"two leaders: the old one lost leadership {max(lost) - cut:.3f} s after the cut, "
            f"the new one was granted it {min(granted) - cut:.3f} s after",
        )
        self.await_settled()
        counted = self.progress(2)
        return (
            f"old leader out {max(lost) - cut:.3f} s after the cut, new one in {min(granted) - cut:.3f} s after "
            f"({min(granted) - max(lost):.3f} s without any), RUNNING after {running - cut:.2f} s from checkpoint "
            f"{restored}, {counted} records counted"
        )

    def cancelled(self):
        flink = self.flink
        self.progress(1)
        held = self._of_job()
        check(held, "nothing names the job while it runs")
        flink.cli("cancel", flink.job)
        until("the job to be CANCELED", RECOVERY, lambda: flink.job_details().get("state") == "CANCELED")
        began = time.time()
        until("all that names the job to go", RECOVERY, lambda: not self._of_job())
        took = time.time() - began
        stored = self.stored()
        # Flink keeps the parent of all jobs, and each candidate has its own znode
        more = {z for z in stored["n"] - self.before if z != f"{CLUSTER}/jobs" and not z.startswith(LATCH)}
        check(not more, f"left behind: {sorted(more)}")
        for kind in stored:
            lone = {z for z in stored[kind] - stored["n"] if z != "/" and not z.startswith("/zookeeper")}
            check(not lone, f"{kind} keys left of znodes that are gone: {sorted(lone)}")
        return f"{len(held)} {'keys' if self.zketcd else 'znodes'} of the job gone {took:.2f} s after CANCELED was seen"

    def _of_job(self):
        return [kind + znode for kind, znodes in self.stored().items() for znode in znodes if self.flink.job in znode]


def play(options, directory):
    """One round; (passed, failed)."""
    directory.mkdir(parents=True)
    game, passed = None, 0
    try:
        began = time.time()
        game = Round(options, directory)
        left = [name for name, _ in game.scenarios()]
        game.start()
        print(f"     cluster up in {time.time() - began:.1f} s on {options.backend}", flush=True)
        for name, scenario in game.scenarios():
            print(f"PASS {name}: {scenario()}", flush=True)
            left.pop(0)
            passed += 1
    except Failed as failure:
        print(f"FAIL {left[0]}: {failure}", flush=True)
    except Exception:
        print(f"FAIL {left[0] if game else 'setup'}:\n{traceback.format_exc()}", flush=True)
    finally:
        Child.kill_all()
        if game:
            game.backend.close()
    if not game:
        return 0, 1
    for name in left[1:]:
        print(f"FAIL {name}: not reached", flush=True)
    return passed, len(left)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("zketcd", "zookeeper"), default="zketcd")
    parser.add_argument("--rounds", type=int, default=1, help="how often to play all scenarios, each on a new cluster")
    for name, default in (("etcd", "target/tools/etcd-3.6"), ("zketcd", "target/release/zketcd")):
        default = os.environ.get(f"{name.upper()}_BIN", ROOT / default)
        parser.add_argument(f"--{name}-bin", default=default, help=f"[{name.upper()}_BIN] {default}")
    zookeeper = ROOT / "target/tools/zookeeper"
    parser.add_argument("--zookeeper", type=pathlib.Path, default=zookeeper, help="ZooKeeper's jars")
    parser.add_argument("--target", type=pathlib.Path, default=ROOT / "target/flink", help="what Maven built")
    parser.add_argument("--keep", action="store_true", help="keep the logs of rounds that passed")
    options = parser.parse_args()
    needed = [options.target / "job.jar"]
    needed += [options.etcd_bin, options.zketcd_bin] if options.backend == "zketcd" else [options.zookeeper]
    for file in needed:
        if not shutil.which(file) and not pathlib.Path(file).exists():
            parser.error(f"{file} is missing: see README.md for what builds it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    passed = failed = 0
    for number in range(1, options.rounds + 1):
        directory = options.target / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{options.backend}-{number}"
        print(f"round {number}", flush=True)
        good, bad = play(options, directory)
        passed, failed = passed + good, failed + bad
        if bad or options.keep:
            print(f"     logs: {directory}", flush=True)
        else:
            shutil.rmtree(directory)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
