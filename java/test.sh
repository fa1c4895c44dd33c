#!/usr/bin/env bash
# Runs the tests of java/zketcd-test on target/release/zketcd: with the embedded store, and with an etcd of its own.
# The last line is `N passed, N failed`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

"$here/../tests/tools/install.sh" java
verify=(mvn -B --no-transfer-progress -Dstyle.color=never -f "$here/zketcd-test/pom.xml" verify)
status=0
"${verify[@]}" 2>&1 | tee -a "$log" || status=1
"$here/../tests/tools/with_etcd.py" "${verify[@]}" 2>&1 | tee -a "$log" || status=1
# Maven leaves the line open
echo
# surefire's lines, one a class: Tests run: 12, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: …
awk '/Tests run: .*Time elapsed/ {
  for (i = 1; i < NF; i++) count[$i] += $(i + 1)
} END {
  failed = count["Failures:"] + count["Errors:"]
  print count["run:"] - failed - count["Skipped:"] " passed, " failed " failed"
}' "$log"
exit "$status"
