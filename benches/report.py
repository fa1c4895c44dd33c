"""From samples to tables: medians, ratios, and what the issue asks for. No processes, no clock."""

import statistics

SERVERS = ["zookeeper", "etcd", "embedded"]
READS = ["get", "exists", "children"]
WRITES = ["set", "set-one", "create", "create-own", "sequential", "ephemeral", "create-delete", "multi"]
ONE_AT_A_TIME = ["create", "set"]
RAW_SINGLE = "0x1"  # of benches/limit.rs: flat, one in flight


class Samples:
    """By workload and shape, then server: a dictionary for each round."""

    def __init__(self, rows=None):
        self.rows = rows or {}

    def add(self, workload, shape, server, sample):
        self.rows.setdefault(f"{workload} {shape}", {}).setdefault(server, []).append(sample)

    def values(self, workload, shape, server, field):
        """The figures of all rounds; none where one of them failed or none was run."""
        rounds = self.rows.get(f"{workload} {shape}", {}).get(server, [])
        figures = [one.get(field) for one in rounds]
        return [] if None in figures else figures

    def median(self, workload, shape, server, field="rate"):
        figures = self.values(workload, shape, server, field)
        return statistics.median(figures) if figures else None

    def ratio(self, workload, shape, server, field="rate"):
        """The server's median to ZooKeeper's."""
        mine, base = self.median(workload, shape, server, field), self.median(workload, shape, "zookeeper", field)
        return mine / base if mine is not None and base else None


def least(samples, server, workloads, shapes, measure=None):
    """The smallest ratio of all, and whose it is; nothing unless all were measured."""
    measure = measure or samples.ratio
    ratios = [(measure(workload, shape, server), f"{workload} {shape}") for workload in workloads for shape in shapes]
    if any(ratio is None for ratio, _ in ratios):
        return None, ""
    return min(ratios)


def single_to_raw(samples):
    def measure(workload, shape, server):
        mine, raw = samples.median(workload, shape, server), samples.median("limit", RAW_SINGLE, "raw")
        return mine / raw if mine is not None and raw else None

    return measure


def quotient(one, other):
    return (None if one is None or not other else one / other), ""


class Target:
    """A row of what must be reached: for each store a goal, whether more or less is better, and how it is measured."""

    def __init__(self, text, goals, measure, unit="x", at_most=False):
        self.text, self.goals, self.measure, self.unit, self.at_most = text, goals, measure, unit, at_most

    def reached(self, samples, server):
        """What was reached, as it stands in the table, and whether it is enough: None where it was not measured."""
        value, whose = self.measure(samples, server)
        if value is None:
            return "not measured", None
        met = value <= self.goals[server] if self.at_most else value >= self.goals[server]
        return f"{figure(value)}{' ' if self.unit else ''}{self.unit}{f' ({whose})' if whose else ''}", met

    def goal(self, server):
        if server not in self.goals:
            return ""
        words = "at most " if self.at_most else ""
        return f"{words}{self.goals[server]:g}{' ' if self.unit else ''}{self.unit}"


def both(etcd, embedded):
    return {"etcd": etcd, "embedded": embedded}


def writes_at_once(samples, server):
    """On etcd held against etcd's own, on the embedded store against ZooKeeper."""
    measure = single_to_raw(samples) if server == "etcd" else None
    return least(samples, server, ONE_AT_A_TIME, ["1x1"], measure)


def field_ratio(workload, field):
    return lambda samples, server: (samples.ratio(workload, "", server, field), "")


def field_median(workload, field):
    return lambda samples, server: (samples.median(workload, "", server, field), "")


TARGETS = [
    Target(
        "reads (get, exists, children), 64 connections, and pipelined",
        both(2.5, 2.5),
        lambda samples, server: least(samples, server, READS, ["64x1", "1x64"]),
    ),
    Target("get, 1 connection", both(1.3, 1.3), lambda samples, server: least(samples, server, ["get"], ["1x1"])),
    Target(
        "writes (each workload), 64 and 256 connections",
        both(1.0, 2.0),
        lambda samples, server: least(samples, server, WRITES, ["64x1", "256x1"]),
    ),
    Target(
        "writes, 1 connection with 64 pipelined",
        both(1.0, 2.0),
        lambda samples, server: least(samples, server, WRITES, ["1x64"]),
    ),
    Target("write, 1 connection at a time (on etcd: to raw etcd's)", both(0.85, 1.0), writes_at_once),
    Target(
        "commits per second beside raw etcd's in the same shape",
        {"etcd": 0.7},
        lambda samples, _: quotient(
            samples.median("create-own", "64x1", "etcd"), samples.median("limit", "same", "raw")
        ),
    ),
    Target(
        "two servers writing under one parent, sum, to one server's",
        {"etcd": 0.8},
        lambda samples, _: quotient(samples.median("two-servers", "", "two"), samples.median("two-servers", "", "one")),
    ),
    Target(
        "64-watcher fan-out, events per second",
        both(2.0, 2.0),
        lambda samples, server: least(samples, server, ["fan-out"], ["1+64"]),
    ),
    Target("memory for the large tree (ours alone)", both(0.25, 0.25), field_ratio("tree", "memory"), at_most=True),
    Target("start with it until the first answer", both(6, 4), field_median("tree", "start"), "s", at_most=True),
    Target("many sessions: opening rate", both(0.4, 1.0), field_ratio("sessions", "rate")),
    Target("many sessions: lost while held", both(0, 0), field_median("sessions", "lost"), "", at_most=True),
    Target("many sessions: memory (ours alone)", both(0.25, 0.25), field_ratio("sessions", "memory"), at_most=True),
    Target("p99 of reads while the large tree is written", both(1.0, 1.0), field_ratio("tree", "p99_us"), at_most=True),
]


def figure(value):
    """Three digits at least, no more than are worth it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}".removesuffix(".00")


def spread(values, scale=1):
    """The median, and in brackets the least and the most."""
    if not values:
        return "–"
    values = [value * scale for value in values]
    return f"{figure(statistics.median(values))} ({figure(min(values))}–{figure(max(values))})"


def table(head, rows):
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def cost(samples, workload, shape, server):
    """Milliseconds of processor for 1,000 operations: ours, and etcd's added."""
    rounds = samples.values(workload, shape, server, "cpu")
    if not rounds:
        return "–"
    each = [statistics.median(values) for values in zip(*rounds)]
    return " + ".join(figure(value) for value in each)


def rates(samples):
    """Operations per second of each workload in each shape."""
    head = ["workload, shape", "ZooKeeper", "on etcd", "ratio", "embedded", "ratio"]
    head += ["p99 (ms)", "CPU: ZooKeeper", "CPU: on etcd", "CPU: embedded", "CPU: client"]
    rows = []
    for name in samples.rows:
        workload, _, shape = name.partition(" ")
        if shape in ("", "memory") or workload == "limit":
            continue
        row = [name, spread(samples.values(workload, shape, "zookeeper", "rate"))]
        for server in SERVERS[1:]:
            ratio = samples.ratio(workload, shape, server)
            row += [spread(samples.values(workload, shape, server, "rate")), figure(ratio) if ratio else "–"]
        p99 = [samples.median(workload, shape, server, "p99_us") for server in SERVERS]
        row.append(" / ".join("–" if value is None else figure(value / 1000) for value in p99))
        row += [cost(samples, workload, shape, server) for server in SERVERS]
        client = [samples.median(workload, shape, server, "client_cpu") for server in SERVERS]
        row.append(" / ".join("–" if value is None else figure(value) for value in client))
        rows.append(row)
    return table(head, rows)


def limits(samples):
    """What etcd takes by itself."""
    head = ["commits", "transactions/s", "etcd's CPU (ms for 1,000)"]
    rows = []
    for name, servers in samples.rows.items():
        workload, _, shape = name.partition(" ")
        if workload == "limit" and "raw" in servers:
            what = servers["raw"][0].get("what", shape)
            cells = [spread(samples.values("limit", shape, "raw", "rate")), cost(samples, "limit", shape, "raw")]
            rows.append([what, *cells])
    return table(head, rows)


# what is measured of the loads that are not a rate alone: workload, field, text
FIGURES = [
    ("sessions", "rate", "sessions opened per second"),
    ("sessions", "lost", "sessions lost while held"),
    ("sessions", "memory", "memory with them (MiB)"),
    ("sessions", "etcd_memory", "etcd's memory with them (MiB)"),
    ("tree", "rate", "znodes written per second"),
    ("tree", "reads", "reads meanwhile"),
    ("tree", "p50_us", "median of these reads (µs)"),
    ("tree", "p99_us", "p99 of these reads (µs)"),
    ("tree", "memory", "memory with the tree (MiB)"),
    ("tree", "etcd_memory", "etcd's memory with the tree (MiB)"),
    ("tree", "start", "start until the first answer (s)"),
    ("tree", "memory_after", "memory after that start (MiB)"),
]


def figures(samples):
    rows = []
    for workload, field, text in FIGURES:
        cells = [spread(samples.values(workload, "", server, field)) for server in SERVERS]
        if any(cell != "–" for cell in cells):
            rows.append([text, *cells])
    for server, text in [("one", "one server, creates under one parent (1/s)"), ("two", "two servers, their sum")]:
        values = samples.values("two-servers", "", server, "rate")
        if values:
            rows.append([text, "–", spread(values), "–"])
    return table(["", "ZooKeeper", "on etcd", "embedded"], rows)


def memories(samples):
    """The most that each server took in a workload, all shapes together: resident memory in MiB."""
    rows = []
    for name, servers in samples.rows.items():
        workload, _, shape = name.partition(" ")
        if shape == "memory":
            most = [servers.get(server, [{}])[0].get("hwm", []) for server in SERVERS]
            rows.append([workload, *(" + ".join(map(figure, parts)) or "–" for parts in most)])
    return table(["workload", "ZooKeeper (since its start)", "on etcd", "embedded"], rows)


def targets(samples):
    head = ["", "on etcd: must", "reached", "met", "embedded: must", "reached", "met"]
    rows = []
    for target in TARGETS:
        row = [target.text]
        for server in SERVERS[1:]:
            if server not in target.goals:
                row += ["", "", ""]
                continue
            reached, met = target.reached(samples, server)
            row += [target.goal(server), reached, {True: "yes", False: "no", None: ""}[met]]
        rows.append(row)
    return table(head, rows)


def replaced(page, begin, end, text):
    """The page with what is between the two marks replaced."""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page lacks {begin!r} or {end!r}")
    return before + begin + text + end + after
