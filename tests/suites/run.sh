#!/usr/bin/env bash
# Installs what the suites need, gets their jars, runs them: run.sh [--suite flink|curator] [--store embedded|etcd|zookeeper] …
# (run.py --help has all options). The last line is `N passed, N failed`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$here/../tools

python3 -m unittest discover -q -s "$here"

"$tools/install.sh" java
for pom in "$here"/*/pom.xml; do
  mvn -q -B --no-transfer-progress -Dstyle.color=never -f "$pom" package
done
mvn -q -B --no-transfer-progress -Dstyle.color=never -f "$here/../../java/zketcd-test/pom.xml" compile
case " $* " in
  *" --store etcd "* | *" --store=etcd "*)
    # a class that needs more says so in classes.txt: etcd itself allows it
    export ETCD_MAX_TXN_OPS=65536 ETCD_MAX_REQUEST_BYTES=16777216
    exec "$tools/with_etcd.py" "$here/run.py" "$@"
    ;;
esac
exec python3 "$here/run.py" "$@"
