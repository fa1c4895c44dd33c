#!/usr/bin/env python3
"""Counts the instructions that a request of each kind costs, and holds them against those in instructions.txt.

    instructions.py              fails where a kind has grown by more than 10 %
    instructions.py --accept     writes the new figures: commit them with the change that needs them, and say why
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess

from built import ROOT, executables

TABLE = pathlib.Path(__file__).with_name("instructions.txt")
GROWTH = 1.10  # more than this times the recorded figure fails; two runs of the same code differ by well below 1 %
KINDS = (
    *("get", "exists", "children", "set", "set-one", "create", "create-own", "sequential", "ephemeral", "delete"),
    *("multi", "watched"),
)
HEAD = """\
# Instructions for each request, as callgrind counts them (`make instructions`): decoding, the engine, the store in
# memory, the answer; batches of 60 from 60 connections, 100 bytes of data. No sockets, no tasks, no kernel.
# They depend on the compiler and on the allocator (the server's), little on the machine: figures of another rustc may
# all differ by some per cent. A kind that grows by more than 10 % fails the check; `make instructions ACCEPT=1` records
# what is measured now, to be committed with the change that is worth it. What shrank should be recorded too.
"""


def read(text):
    """The compiler, and the figure of each kind."""
    rustc = re.search(r"^rustc (.*)$", text, re.M)
    figures = {kind: int(count) for kind, count in re.findall(r"^([a-z-]+) +(\d+)$", text, re.M)}
    return (rustc.group(1) if rustc else "unknown"), figures


def written(rustc, figures):
    return f"{HEAD}rustc {rustc}\n" + "".join(f"{kind:<12} {count:>7}\n" for kind, count in figures.items())


def compared(recorded, counted):
    """A line for each kind, and the kinds that have grown too much or are not recorded."""
    lines, grown = [], []
    for kind, count in counted.items():
        before = recorded.get(kind)
        if before is None or count > before * GROWTH:
            grown.append(kind)
        change = "not recorded" if before is None else f"{100 * (count / before - 1):+.1f} %"
        lines.append(f"{kind:<12} {count:>7}  {change}")
    return lines, grown


def count(program, kind):
    # only what happens within this function is counted, not making the requests and reading the answers
    callgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=instructions::counted*"]
    run = subprocess.run(["valgrind", *callgrind, program, kind], capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not collected or not int(collected.group(1)):
        raise SystemExit(f"instructions: {kind} was not counted:\n{run.stderr}")
    return round(int(collected.group(1)) / int(run.stdout))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="write the figures measured into instructions.txt")
    options = parser.parse_args()
    [program] = executables("instructions")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = dict(zip(KINDS, pool.map(lambda kind: count(program, kind), KINDS)))
    rustc = subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    rustc = rustc.removeprefix("rustc ").strip()
    before, recorded = read(TABLE.read_text() if TABLE.exists() else "")
    lines, grown = compared(recorded, counted)
    print("\n".join(lines))
    if options.accept:
        TABLE.write_text(written(rustc, counted))
    elif grown:
        compiler = f" (the compiler is rustc {rustc}, the figures are of {before})" if rustc != before else ""
        raise SystemExit(
            f"instructions: more than 10 % above {TABLE.name}, or not in it: {', '.join(grown)}{compiler}. "
            "Where it is worth it: make instructions ACCEPT=1, and commit the file"
        )


if __name__ == "__main__":
    main()
