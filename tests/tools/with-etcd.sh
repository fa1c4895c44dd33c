#!/usr/bin/env bash
# Runs a command with an etcd 3.6 that lasts as long as it: with-etcd.sh COMMAND…
# The command finds it by ZKETCD_ETCD_ENDPOINTS. Its data is in memory where that can be, and nothing is fsynced.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
etcd=$tools/../../target/tools/etcd-3.6

"$tools/install.sh" etcd-3.6
directory=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" etcd.XXXXXX)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid" 2> /dev/null || true; wait "$pid" || true; fi; rm -rf "$directory"' EXIT

# serves PORT: whether etcd says that it is healthy.
serves() {
  { exec 3<> "/dev/tcp/127.0.0.1/$1" && printf 'GET /health HTTP/1.0\r\n\r\n' >&3 && grep -q '"health":"true"' <&3; } 2> /dev/null
}

# Ports are drawn below those that outgoing connections are given. Where one is taken, etcd ends, and others are tried.
for _ in 1 2 3 4 5; do
  port=$((20000 + 2 * (RANDOM % 6000)))
  peer=http://127.0.0.1:$((port + 1))
  export ZKETCD_ETCD_ENDPOINTS=http://127.0.0.1:$port
  "$etcd" --name etcd --data-dir "$directory/data" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$ZKETCD_ETCD_ENDPOINTS" --advertise-client-urls "$ZKETCD_ETCD_ENDPOINTS" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "etcd=$peer" \
    > "$directory/log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2> /dev/null; do
    if serves "$port" && kill -0 "$pid" 2> /dev/null; then
      status=0
      "$@" || status=$?
      exit "$status"
    fi
    sleep 0.1
  done
  pid=
  rm -rf "$directory/data"
done
echo "no etcd: $(tail -n 3 "$directory/log")" >&2
exit 1
