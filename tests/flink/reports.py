"""What the job's counters wrote down (see Counter.java): is the state continuous across restores?"""

from processes import check


class Reports:
    def __init__(self, directory):
        self.directory = directory

    def attempts(self):
        """How often a subtask has started."""
        return sum(1 for _ in self.directory.glob("*.report"))

    def _in_order(self):
        for path in sorted(self.directory.glob("*.report"), key=lambda p: int(p.name.split("-")[0])):
            # a line not yet ended is still being written
            yield path.name, [line.split() for line in path.read_text().split("\n")[:-1]]

    def verify(self):
        """Each restore continues at exactly what its checkpoint held; returns the records counted so far.

        Within an attempt the counter compares its state with the source's sequence by itself. Across attempts
        the state found must be the checkpoint's: a job that began anew would agree with a source that did so too.
        """
        snapshots = {}  # checkpoint -> key -> count
        fresh = set()  # the subtasks that began without a checkpoint
        total = 0
        for name, lines in self._in_order():
            base = {}
            for words in lines:
                kind, rest = words[0], words[1:]
                check(kind not in ("gap", "repeat"), f"{name}: {' '.join(words)} (key, state, source)")
                if kind == "start" and rest[0] != "-":
                    check(int(rest[0]) in snapshots, f"{name}: restored checkpoint {rest[0]}, which nobody took")
                    base = snapshots[int(rest[0])]
                elif kind == "start":
                    subtask = name.split("-")[1]
                    check(subtask not in fresh, f"{name}: subtask {subtask} began anew, without a checkpoint")
                    fresh.add(subtask)
                elif kind == "first":
                    key, count = rest[0], int(rest[1])
                    held = base.get(key, 0)
                    check(count == held, f"{name}: key {key} was {held} in the checkpoint and {count} after")
                elif kind == "snapshot":
                    counts = {key: int(count) for key, _, count in (pair.partition("=") for pair in rest[1:])}
                    merged = snapshots.setdefault(int(rest[0]), dict(base))
                    merged.update(counts)
                    total = max(total, sum(merged.values()))
        return total
