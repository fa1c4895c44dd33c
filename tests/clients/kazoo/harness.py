"""What the checks stand on: clients, events with deadlines, a program that dies, the runner's control of the servers."""

import contextlib
import faulthandler
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback

from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

DEADLINE = 30  # seconds for what must come; only a deadline
HANGS = 90  # seconds after which a check has hung
SESSION = 10.0  # seconds: sessions that must not expire on a busy machine
SHORT = 1.0  # seconds: sessions that are to expire

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def require(condition, message="not so"):
    if not condition:
        raise AssertionError(message)


def equal(found, wanted):
    require(found == wanted, f"{found!r} is not {wanted!r}")


@contextlib.contextmanager
def refused(exception):
    """What is inside must be refused with just this error."""
    try:
        yield
    except exception as refusal:
        require(type(refusal) is exception, f"{refusal!r} is not {exception.__name__}")
    else:
        raise AssertionError(f"no {exception.__name__}")


class Events(queue.Queue):
    """What a watch, a listener or a callback was called with, in order."""

    def __call__(self, *what):
        self.put(what[0] if len(what) == 1 else what)

    def next(self):
        try:
            return self.get(timeout=DEADLINE)
        except queue.Empty:
            raise AssertionError(f"no event within {DEADLINE} s") from None

    def until(self, wanted):
        """Waits for the event that is, or satisfies, what is wanted."""
        while True:
            event = self.next()
            if wanted(event) if callable(wanted) else event == wanted:
                return event


class Thread(threading.Thread):
    """A thread whose result, or error, is that of result()."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self.call, self.value, self.error = (function, arguments), None, None
        self.start()

    def run(self):
        function, arguments = self.call
        try:
            self.value = function(*arguments)
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(DEADLINE)
        require(not self.is_alive(), f"{self.call[0].__name__} did not end within {DEADLINE} s")
        if self.error:
            raise self.error
        return self.value


class World:
    """What one check is given: a path of its own, and clients that are closed after it."""

    def __init__(self, servers, name):
        self.servers, self.root, self.open = servers, f"/{name}", []

    def client(self, chroot="", timeout=SESSION, start=True, **options):
        client = KazooClient(self.servers + chroot, timeout=timeout, **options)
        client.states = Events()
        client.add_listener(client.states)
        self.open.append(client)
        if start:
            client.start(DEADLINE)
        return client

    def clients(self, count, **options):
        return [self.client(**options) for _ in range(count)]

    def program(self, *arguments):
        """This program again, as a process of its own that a check may kill; returns when it says that it is ready."""
        command = [sys.executable, __file__.replace("harness", "checks"), self.servers, "--as", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        require(line == "ready\n", f"the other program said {line!r}")
        return process

    def close(self):
        for client in self.open:
            client.stop()
            client.close()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def stays():
    """Ends a program of its own: it lives until it is killed."""
    print("ready", flush=True)
    sys.stdin.read()


def control(word):
    """Has the runner do something to the servers; returns when it is done."""
    print(f"control {word}", flush=True)
    require(sys.stdin.readline() == "done\n", "the runner is gone")


def reconnected(client):
    """Waits until a client that lost its server is on another one."""
    client.states.until(KazooState.SUSPENDED)
    client.states.until(KazooState.CONNECTED)


def hung(name):
    faulthandler.dump_traceback()
    print(f"FAILED {name}: did not end within {HANGS} s", flush=True)
    os._exit(1)


def main(roles):
    servers, *rest = sys.argv[1:]
    if rest[:1] == ["--as"]:
        roles[rest[1]](World(servers, "as"), *rest[2:])
        return
    failed = False
    for function in CHECKS:
        name = function.__name__
        if rest and rest[0] not in name:
            continue
        timer = threading.Timer(HANGS, hung, [name])
        timer.start()
        world = World(servers, name)
        try:
            function(world)
            world.close()
            print(f"ok {name}", flush=True)
        except BaseException as error:
            failed = True
            traceback.print_exc()
            print(f"FAILED {name}: {' '.join(str(error).split()) or repr(error)}", flush=True)
            control("heal")
        timer.cancel()
    # clients of failed checks may still run
    sys.stdout.flush()
    os._exit(failed)
