#!/usr/bin/env bash
# Installs Java and Maven where they are missing, builds the job and gets the cluster's jars, plays the scenarios.
#   run.sh [--backend zketcd|zookeeper] [--rounds N] …     (run.py --help has them all)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
install=$here/../tools/install.sh
export PYTHONPATH=$here/../tools

"$install" java
mvn -q -B -Dstyle.color=never -f "$here/pom.xml" package
case " $* " in
  *zookeeper*) "$install" zookeeper ;;
esac
python3 -m unittest discover -q -s "$here"
exec python3 "$here/run.py" "$@"
