#!/usr/bin/env python3
"""Runs the tests that others wrote, on zketcd or, for comparison, on ZooKeeper: see README.md. run.sh is the way in."""

import argparse
import collections
import contextlib
import datetime
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAMES = {"flink": "Flink 2.3.0", "curator": "Curator 5.9.0"}
STORES = {"embedded": "embedded", "etcd": "etcd-3.6", "zookeeper": "zookeeper"}  # and what the table of results calls them
SHIM = ROOT / "target" / "java" / "zketcd-test" / "classes"

TEST_LIMIT = 300  # seconds for one test: the longest takes 60
CLASS_LIMIT = 1200  # seconds for one class: the longest takes 270
REPEATS = 3  # how often a test that failed may be repeated: the worst of those flaky on ZooKeeper too fail once in four runs

# The tests wait most of the time; no class needs more memory, and quick compilation is all that pays.
JAVA = ["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.net.preferIPv4Stack=true"]

RUNNING = set()  # the JVMs
STOPPED = threading.Event()  # by a signal


class Suite:
    """What of a suite runs: classes.txt (class, number of tests that pass on ZooKeeper, settings), excluded.txt, flaky.txt."""

    def __init__(self, name, store):
        self.name, self.store = name, store
        self.directory = HERE / name
        self.counts, self.settings = {}, {}
        for words in self.lines("classes"):
            self.counts[words[0]] = int(words[1])
            self.settings[words[0]] = dict(word.split("=") for word in words[2:] if "=" in word)
        self.ci = [words[0] for words in self.lines("classes") if "ci" in words]
        self.flaky = {words[0] for words in self.lines("flaky")}
        # what cannot run on zketcd runs on ZooKeeper
        self.excluded = {words[0] for words in self.lines("excluded")} if store != "zookeeper" else set()
        for test in self.excluded | self.flaky:
            if test.split("#")[0] not in self.counts:
                sys.exit(f"{test} is of no class in {self.directory}/classes.txt")
        self.java = self.directory / "java.args"

    def lines(self, file):
        for line in (self.directory / f"{file}.txt").read_text().splitlines():
            if line and not line.startswith("//"):
                yield line.split()

    def excluded_of(self, name):
        return {test.split("#")[1] for test in self.excluded if test.startswith(f"{name}#")}


class Outcome:
    """How the tests of one class went: test -> why it failed, or None. `once`: why one failed that then passed each time."""

    def __init__(self):
        self.tests, self.skipped, self.seconds, self.repeated, self.once = {}, [], 0, [], {}

    def failures(self):
        return {test: why for test, why in self.tests.items() if why}


def launch(suite, name, options, log, scratch, only):
    """One JVM for one class, or one of its tests."""
    excluded = suite.excluded_of(name)
    class_path = (ROOT / "target" / "suites" / suite.name / "classpath").read_text()
    if suite.store != "zookeeper":
        class_path = f"{SHIM}:{class_path}"
    command = ["java", *JAVA, f"-Djava.io.tmpdir={scratch}"]
    command += [f"-Dzketcd.bin={options.zketcd_bin}", f"-Dzketcd.log={log.with_suffix('.zketcd.log')}"]
    command += [f"-Djunit.jupiter.execution.timeout.default={TEST_LIMIT}s"]
    command += [f"@{suite.java}"] if suite.java.exists() else []
    command += ["-cp", class_path, "org.junit.platform.console.ConsoleLauncher", "execute", f"--select-class={name}"]
    command += ["--disable-banner", "--disable-ansi-colors", "--details=tree", f"--reports-dir={scratch}/reports"]
    if excluded:
        command += [f"--exclude-methodname=.*#({'|'.join(sorted(excluded))})"]
    if only:
        command += [f"--include-methodname=.*#{only}"]
    environment = os.environ | suite.settings[name]
    if suite.store != "etcd":
        environment.pop("ZKETCD_ETCD_ENDPOINTS", None)
    log.with_suffix(".zketcd.log").unlink(missing_ok=True)
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        RUNNING.add(process)
        if STOPPED.is_set():
            end(process)
        try:
            code = process.wait(CLASS_LIMIT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)  # its threads' stacks, into the log
            time.sleep(2)
            code = f"none within {CLASS_LIMIT} s"
        finally:
            end(process)
            RUNNING.discard(process)
            process.wait()
    return code


def end(process):
    """Ends a JVM, and the servers that it may have left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all(*_):
    """What a signal does: nothing that was started outlives the run."""
    STOPPED.set()
    for process in list(RUNNING):
        end(process)


def run(suite, name, options, log, only):
    """Runs a class and reads the reports that JUnit leaves."""
    outcome = Outcome()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="suites.", dir=options.scratch, ignore_cleanup_errors=True) as scratch:
        code = launch(suite, name, options, log, scratch, only)
        for report in pathlib.Path(scratch).glob("reports/*.xml"):
            for case in ElementTree.parse(report).iter("testcase"):
                test = re.sub(r"\(.*?\)", "", case.get("name"))
                failure = next((part for part in case if part.tag in ("failure", "error")), None)
                if case.find("skipped") is not None:
                    outcome.skipped.append(test)
                else:
                    outcome.tests[test] = None if failure is None else cause(name, failure.text or failure.get("message"))
    outcome.seconds = round(time.monotonic() - began)
    if not outcome.tests:
        outcome.tests["(the class)"] = f"no test has ended: the JVM's exit code is {code}, see {log}"
    elif code != 0 and not outcome.failures():
        outcome.tests["(the class)"] = f"the JVM's exit code is {code}, see {log}"
    return outcome


def cause(name, text):
    """The exception, where in the test it was, and what was behind it."""
    lines = text.strip().splitlines()
    short = name.split(".")[-1]
    at = next((line.strip() for line in lines if line.strip().startswith("at ") and short in line), "")
    behind = next((line.strip() for line in lines[1:] if line.startswith("Caused by:")), "")
    return " ".join(f"{lines[0][:300]} {at} {behind[:300]}".split())


def checked(suite, name, options, directory, number):
    """Runs a class; repeats what may be flaky; and fails where the tests are not as many as pass on ZooKeeper."""
    log = directory / f"{name}.{number}.log"
    outcome = run(suite, name, options, log, options.test)

    def passes(test, again):
        repeat = run(suite, name, options, log.with_suffix(f".again-{test}-{again}.log"), only=test)
        return repeat.tests.get(test, "not run") is None

    for test, why in outcome.failures().items():
        repeats = (passes(test, again) for again in range(1, REPEATS + 1))
        if f"{name}#{test}" in suite.flaky:
            if any(repeats):
                outcome.tests[test] = None
                outcome.repeated.append(test)
        # CI judges what is broken; what is rare, three whole rounds do
        elif options.part == "ci" and all(repeats):
            outcome.tests[test] = None
            outcome.once[test] = why
    expected = 1 if options.test else suite.counts[name] - len(suite.excluded_of(name))
    if len(outcome.tests) != expected and "(the class)" not in outcome.tests:
        outcome.tests["(the class)"] = f"{len(outcome.tests)} tests ran, {expected} of classes.txt were to run"
    return outcome


def play(suite, names, options, number):
    """One round: every class once, some at a time."""
    directory = ROOT / "target" / "suites" / suite.name / STORES[suite.store]
    directory.mkdir(parents=True, exist_ok=True)
    left, results, lock = queue.SimpleQueue(), {}, threading.Lock()
    for name in names:
        left.put(name)

    def work():
        while not STOPPED.is_set():
            try:
                name = left.get_nowait()
            except queue.Empty:
                return
            outcome = checked(suite, name, options, directory, number)
            failures = outcome.failures()
            with lock:
                results[name] = outcome
                print(f"{name}: {len(outcome.tests) - len(failures)} passed, {len(failures)} not, {outcome.seconds} s")
                for test, why in failures.items():
                    print(f"    FAILED {test}: {why}")
                for test in outcome.repeated:
                    print(f"    passed when repeated, as on ZooKeeper: {test}")
                for test, why in outcome.once.items():
                    print(f"    FAILED ONCE, then passed {REPEATS} times: {test}: {why}")
                sys.stdout.flush()

    threads = [threading.Thread(target=work) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if STOPPED.is_set():
        sys.exit("stopped by a signal")
    return results


def play_all(suite, options):
    """All rounds of a suite; returns how many tests passed in each round, and how many failed in any."""
    names = [name for name in suite.counts if suite.counts[name] > len(suite.excluded_of(name))]
    if options.part == "ci":
        names = [name for name in names if name in suite.ci]
    if options.classes:
        names = [name for name in names if re.search(options.classes, name)]
    # a part of a suite is no result for the table
    whole = not options.classes and not options.test and options.part == "all"
    file = ROOT / "target" / ("results" if whole else "suites") / f"{suite.name}-{STORES[suite.store]}.json"
    file.parent.mkdir(exist_ok=True)

    print(f"--- {NAMES[suite.name]} on {suite.store}: {len(names)} classes, {options.jobs} at a time")
    began = time.monotonic()
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append(play(suite, names, options, number))
        seconds = round(time.monotonic() - began)
        result = summary(suite, names, rounds) | {
            "note": f"{options.jobs} classes at a time, {seconds / number / 60:.0f} min a round",
            "seconds": seconds,
        }
        if whole:
            result["excluded"] = len(suite.excluded)
        # after each round, so that one that is stopped does not take those before with it
        file.write_text(json.dumps(result, indent=2) + "\n")
    skipped = {f"{name}#{test}" for results in rounds for name, outcome in results.items() for test in outcome.skipped}
    print(f"--- {seconds} s; skipped by the tests themselves: {len(skipped)}, excluded: {result['excluded']}, see {file}")
    return result["passed"], result["failed"]


def summary(suite, names, rounds):
    """What target/results/*.json says (see tests/results.py), and each class."""
    classes, total, repeated = [], collections.Counter(), set()
    for name in names:
        outcomes = [results[name] for results in rounds]
        failed = set().union(*(outcome.failures() for outcome in outcomes))
        passed = set().union(*(outcome.tests for outcome in outcomes)) - failed
        repeated |= {f"{name}#{test}" for outcome in outcomes for test in outcome.repeated if test not in failed}
        one = {"passed": len(passed), "failed": len(failed), "excluded": len(suite.excluded_of(name))}
        total.update(one)
        longest = max(outcome.seconds for outcome in outcomes)
        classes.append({"class": name} | one | {"failures": sorted(failed), "seconds": longest})
    return {
        "suite": NAMES[suite.name],
        "store": STORES[suite.store],
        "passed": total["passed"],
        "failed": total["failed"],
        "excluded": total["excluded"],
        "flaky": len(repeated),
        "rounds": len(rounds),
        "date": datetime.date.today().isoformat(),
        "repeated": sorted(repeated),
        "classes": classes,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=NAMES, help="one suite only")
    parser.add_argument("--store", choices=STORES, default="embedded", help="zookeeper: the real one, in the tests' JVM")
    parser.add_argument("--jobs", type=int, default=4, help="classes at a time")
    parser.add_argument("--rounds", type=int, default=1, help="how often all of it runs")
    parser.add_argument("--part", choices=("all", "ci"), default="all", help="ci: the classes marked so")
    parser.add_argument("--classes", help="regular expression: only classes whose names it is found in")
    parser.add_argument("--test", help="only the test of this name")
    parser.add_argument("--zketcd-bin", type=pathlib.Path, default=ROOT / "target" / "release" / "zketcd")
    options = parser.parse_args()
    options.zketcd_bin = options.zketcd_bin.resolve()
    if options.store == "etcd" and "ZKETCD_ETCD_ENDPOINTS" not in os.environ:
        sys.exit("ZKETCD_ETCD_ENDPOINTS is not set: use run.sh, which starts an etcd")
    options.scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_all)
    sums = [play_all(Suite(name, options.store), options) for name in NAMES if options.suite in (None, name)]
    passed, failed = map(sum, zip(*sums))
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
