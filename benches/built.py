"""What cargo builds for the benches."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def executables(*names):
    """Builds these benches, optimised, and gives their paths in the same order."""
    command = ["cargo", "bench", "--locked", "--no-run", "--message-format", "json-render-diagnostics"]
    command += [word for name in names for word in ("--bench", name)]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    artifacts = [artifact for artifact in map(json.loads, lines) if artifact.get("executable")]
    return [next(one["executable"] for one in artifacts if one["target"]["name"] == name) for name in names]
