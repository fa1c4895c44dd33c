#!/usr/bin/env python3
"""Writes the table of results in docs/COMPATIBILITY.md from what the suites left in target/results.

    tests/results.py [RESULT.json …]      (default: target/results/*.json)

A suite writes one file for each server that it ran against, after a whole run, target/results/NAME.json:

    {
      "suite": "Curator 5.9.0",      what ran
      "store": "embedded",           zookeeper (the real one, 3.9.5), or zketcd on: embedded, memory, etcd-3.4, etcd-3.6
      "passed": 525,                 cases that passed, in each round
      "failed": 0,                   cases that failed, in any round
      "excluded": 5,                 cases that were left out, for reasons that are written down (0)
      "flaky": 0,                    cases that passed only when repeated, and do so on ZooKeeper too (0)
      "rounds": 3,                   how often all of it ran (1)
      "date": "2026-11-25",          the day it ended (the file's own)
      "note": "seeds 1 to 20000"     anything else, short ("")
    }

What is in brackets holds where a field is left out; other fields are the suite's own affair. A row of the table whose
suite and store have no such file stays as it is, so it does not matter which machine ran which suite.
"""

import datetime
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "COMPATIBILITY.md"
BEGIN, END = "<!-- results: made by `make results` -->\n", "<!-- end of results -->\n"
COLUMNS = ["suite", "store", "passed", "failed", "excluded", "flaky", "rounds", "date", "note"]
STORES = ["zookeeper", "embedded", "memory", "etcd-3.4", "etcd-3.6"]


def read(path):
    """One row: a file's cells, as they stand in the table."""
    result = json.loads(path.read_text())
    day = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
    result = {"excluded": 0, "flaky": 0, "rounds": 1, "date": day, "note": ""} | result
    if result["store"] not in STORES:
        raise SystemExit(f"{path}: store {result['store']!r} is none of {', '.join(STORES)}")
    return [f"{result[column]:,}" if isinstance(result[column], int) else result[column] for column in COLUMNS]


def table(text, new):
    """The rows that `text` has, replaced and joined by the new ones."""
    old = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    rows = {tuple(row[:2]): row for row in old + new}
    order = sorted(rows.values(), key=lambda row: (row[0], STORES.index(row[1])))
    lines = [[column.capitalize() for column in COLUMNS], ["---"] * len(COLUMNS)] + order
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main():
    paths = [pathlib.Path(name) for name in sys.argv[1:]] or sorted((ROOT / "target" / "results").glob("*.json"))
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    text, after = rest.split(END)
    PAGE.write_text(before + BEGIN + table(text, [read(path) for path in paths]) + END + after)


if __name__ == "__main__":
    main()
