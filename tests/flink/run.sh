#!/usr/bin/env bash
# Installs Java and Maven where they are missing, builds the job and gets the cluster's jars, plays the scenarios.
#   run.sh [--backend zketcd|zookeeper] [--rounds N] …     (run.py --help has them all)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

java_major() { java -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p'; }

missing=()
if ! command -v javac > /dev/null || [ "$(java_major)" -lt 17 ]; then missing+=(openjdk-17-jdk-headless); fi
if ! command -v mvn > /dev/null; then missing+=(maven); fi
if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi

mvn -q -B -Dstyle.color=never -f "$here/pom.xml" package
case " $* " in
  *zookeeper*) mvn -q -B -Dstyle.color=never -f "$here/zookeeper/pom.xml" package ;;
esac
python3 -m unittest discover -q -s "$here"
exec python3 "$here/run.py" "$@"
