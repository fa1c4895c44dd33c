"""Child processes, ports, and waiting for events."""

import json
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

LOOPBACK = "127.0.0.1"
POLL = 0.05  # seconds between two looks at what is awaited: the grain of every figure
PATIENCE = 1  # seconds for one answer; who asks in vain asks again


class Failed(Exception):
    """What was awaited did not come, or what came was wrong."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def until(what, seconds, probe):
    """Polls until probe() gives something true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        Child.all_alive()
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s in vain: {what}")
        time.sleep(POLL)


def free_port():
    """A port below the range that outgoing connections are given, and not given out before."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        if port not in free_port.given:
            free_port.given.add(port)
            return port


free_port.given = set()


def http(url, body=None, method=None):
    """The JSON at url, None where nobody answers well."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def http_ok(url):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status == 200
    except OSError:
        return False


class Child:
    """A process that must live until it is told to end; its output is appended to a log."""

    running = {}

    def __init__(self, name, command, directory, env=None):
        self.name, self.command, self.env = name, [str(word) for word in command], env
        self.log = directory / f"{name}.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            # so that nothing outlives a harness that is killed
            command = ["setpriv", "--pdeathsig", "KILL", "--", *self.command]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True
            )
        Child.running[self.name] = self

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        self._end(signal.SIGTERM)

    def _end(self, how):
        Child.running.pop(self.name, None)
        self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self.name} did not end within 20 s of {how.name}") from None

    @staticmethod
    def all_alive():
        for child in Child.running.values():
            code = child.process.poll()
            check(code is None, f"{child.name} ended by itself ({code}), see {child.log}")

    @staticmethod
    def kill_all():
        for child in list(Child.running.values()):
            child.process.kill()
        for child in list(Child.running.values()):
            child.process.wait()
        Child.running.clear()
