"""The Flink cluster: two JobManagers, one TaskManager, their command line, logs and REST API."""

import os
import re
import subprocess
from datetime import datetime

from processes import LOOPBACK, Child, Failed, check, free_port, http, until

CLUSTER = "/flink/test"
LATCH = f"{CLUSTER}/leader/latch"
SESSION_TIMEOUT = 10  # seconds
CHECKPOINT_INTERVAL = "1 s"
RECORDS_PER_SECOND = 200

# as Flink's own start scripts open them
OPENED = "lang lang.reflect net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks"
JAVA = [
    *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.net.preferIPv4Stack=true"),
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENED.split()),
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
]
ENTRYPOINT = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
CLI = "org.apache.flink.client.cli.CliFrontend"

# what the contenders (REST server, dispatcher, resource manager, each job) say when they are told
GRANTED = re.compile(r"(was|is) granted leadership with")
REVOKED = re.compile(r"lost leadership$|(was|is) revoked (the )?leadership with")
SUSPENDED = re.compile(r"State change: (SUSPENDED|LOST)|switched from state \w+ to SUSPENDED")
SUSPENDED_JOB = re.compile(r"switched from state \w+ to SUSPENDED")
COMPLETED = re.compile(r"Completed checkpoint (\d+) for job")


def log_lines(path, since=0):
    """(seconds since the epoch, text) of the lines after an offset that begin with a time."""
    with open(path, "rb") as log:
        log.seek(since)
        text = log.read().decode(errors="replace")
    for line in text.split("\n")[:-1]:
        stamp, _, rest = line.partition(" ")
        try:
            yield datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp(), rest
        except ValueError:
            continue


class JobManager:
    def __init__(self, number, child, rest_port):
        self.number, self.child, self.rest = number, child, f"http://{LOOPBACK}:{rest_port}"
        self.started_at = 0

    def start(self):
        self.started_at = self.mark()
        self.child.start()

    def alive(self):
        return self.child.name in Child.running

    def mark(self):
        """A place in the log, to look only at what comes after it."""
        return self.child.log.stat().st_size if self.child.log.exists() else 0

    def times(self, pattern, since):
        return [time for time, text in log_lines(self.child.log, since) if pattern.search(text)]

    def leads(self):
        """As the last word of its resource manager has it."""
        words = [text for _, text in log_lines(self.child.log, self.started_at) if "Resource manager service is" in text]
        return bool(words) and bool(GRANTED.search(words[-1]))


class Flink:
    def __init__(self, options, directory, backend):
        self.options, self.directory, self.backend = options, directory, backend
        self.reports = directory / "reports"
        for name in ("reports", "tmp", "ha", "checkpoints"):
            (directory / name).mkdir()
        self.managers = [self._job_manager(number) for number in range(2)]
        self.task_manager = self._task_manager()
        self._configure("cli", backend.whole_quorum(), {})
        self.job = None

    def _configure(self, name, quorum, more):
        settings = {
            "high-availability.type": "zookeeper",
            "high-availability.storageDir": f"file://{self.directory}/ha",
            "high-availability.cluster-id": "/test",
            "high-availability.zookeeper.path.root": "/flink",
            "high-availability.zookeeper.quorum": quorum,
            "high-availability.zookeeper.client.session-timeout": f"{SESSION_TIMEOUT} s",
            "jobmanager.rpc.address": LOOPBACK,
            "jobmanager.bind-host": LOOPBACK,
            "rest.address": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            "taskmanager.host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            # REST answers are cached this long
            "web.refresh-interval": "50 ms",
            "io.tmp.dirs": f"{self.directory}/tmp",
            "execution.checkpointing.interval": CHECKPOINT_INTERVAL,
            "execution.checkpointing.storage": "filesystem",
            "execution.checkpointing.dir": f"file://{self.directory}/checkpoints",
            "parallelism.default": 2,
            **more,
        }
        directory = self.directory / f"conf-{name}"
        directory.mkdir()
        text = "".join(f'{key}: "{value}"\n' for key, value in settings.items())
        (directory / "config.yaml").write_text(text)
        return directory

    def _java(self, heap, main, *args):
        return [*JAVA, f"-Xmx{heap}m", "-cp", f"{self.options.target}/lib/*", main, *map(str, args)]

    def _job_manager(self, number):
        port = free_port()
        name = f"jobmanager-{number + 1}"
        more = {"rest.port": port, "rest.bind-port": port, "web.tmpdir": f"{self.directory}/tmp"}
        directory = self._configure(name, self.backend.quorum(number), more)
        command = self._java(400, ENTRYPOINT, "--configDir", directory)
        return JobManager(number, Child(name, command, self.directory), port)

    def _task_manager(self):
        # the start scripts would derive these
        memory = {
            "taskmanager.numberOfTaskSlots": 2,
            "taskmanager.cpu.cores": 1.0,
            "taskmanager.memory.framework.heap.size": "64m",
            "taskmanager.memory.framework.off-heap.size": "64m",
            "taskmanager.memory.task.heap.size": "128m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.managed.size": "0m",
            "taskmanager.memory.network.min": "16m",
            "taskmanager.memory.network.max": "16m",
            "taskmanager.memory.jvm-metaspace.size": "128m",
            "taskmanager.memory.jvm-overhead.min": "64m",
            "taskmanager.memory.jvm-overhead.max": "64m",
        }
        directory = self._configure("taskmanager", self.backend.whole_quorum(), memory)
        return Child("taskmanager", self._java(400, TASK_MANAGER, "--configDir", directory), self.directory)

    def start(self):
        for manager in self.managers:
            manager.start()
        self.task_manager.start()
        until("a leader and a standby", 90, self.settled)
        until("the TaskManager to register", 60, lambda: (self.get("/overview") or {}).get("slots-total") == 2)

    def candidates(self):
        """The znodes of the JobManagers that lead or wait to; None where it can't be told now."""
        znodes = self.backend.znodes(LATCH)
        return None if znodes is None else [znode for znode in znodes if "latch-" in znode]

    def settled(self):
        """One JobManager leads, the other waits."""
        leaders = [manager for manager in self.managers if manager.alive() and manager.leads()]
        return len(leaders) == 1 and len(self.candidates() or []) == 2

    def leader(self):
        leaders = [manager for manager in self.managers if manager.alive() and manager.leads()]
        check(len(leaders) == 1, f"{len(leaders)} JobManagers lead, by their logs")
        return leaders[0]

    def other(self, manager):
        return self.managers[1 - manager.number]

    def get(self, path):
        """What the first JobManager that knows answers."""
        for manager in self.managers:
            if manager.alive() and (answer := http(manager.rest + path)) is not None:
                return answer
        return None

    def cli(self, *args):
        environment = {**os.environ, "FLINK_CONF_DIR": str(self.directory / "conf-cli")}
        run = subprocess.run(
            self._java(200, CLI, *args), env=environment, capture_output=True, text=True, timeout=120
        )
        with open(self.directory / "cli.log", "a") as log:
            log.write(run.stdout + run.stderr)
        if run.returncode:
            raise Failed(f"flink {args[0]} failed, see {self.directory}/cli.log")
        return run.stdout

    def submit(self):
        out = self.cli("run", "-d", f"{self.options.target}/job.jar", self.reports, RECORDS_PER_SECOND)
        self.job = re.search(r"JobID ([0-9a-f]{32})", out).group(1)

    def job_details(self):
        return self.get(f"/jobs/{self.job}") or {}

    def job_runs(self):
        """The job and each of its tasks are RUNNING."""
        details = self.job_details()
        return details.get("state") == "RUNNING" and all(v["status"] == "RUNNING" for v in details["vertices"])

    def checkpoints(self):
        return self.get(f"/jobs/{self.job}/checkpoints") or {}

    def _latest(self, kind):
        return ((self.checkpoints().get("latest") or {}).get(kind) or {}).get("id", 0)

    def completed(self):
        """The latest checkpoint completed under this leader, 0 for none."""
        return self._latest("completed")

    def restored(self):
        """The checkpoint this leader has restored last, 0 for none."""
        return self._latest("restored")

    def logged_checkpoint(self):
        """The latest checkpoint completed under any leader, by the logs."""
        found = [0]
        for manager in self.managers:
            for _, text in log_lines(manager.child.log):
                if match := COMPLETED.search(text):
                    found.append(int(match.group(1)))
        return max(found)
