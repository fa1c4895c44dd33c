#!/usr/bin/env bash
# Compares ZooKeeper 3.9.5, zketcd on etcd 3.6 and zketcd on its embedded store: starts all three on this machine, each
# with its own data directory and fsync on, loads them in turns, prints the medians.
#   compare.sh [--rounds N] [--dir DIR] [flags of benches/load.rs, such as --workloads get,create --shapes 1x1,64x1 --time 1s]
# A round that is not counted goes first: the JVM compiles what is hot while it runs.
# ZKETCD and ETCD name the binaries (target/release/zketcd and target/tools/etcd-3.6, built where they are missing).
# Leave the machine alone meanwhile. Java, Maven and ZooKeeper are installed where they are missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
rounds=3
dir=$root/target/bench
load_flags=()
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2 && shift 2 ;;
    --dir) dir=$2 && shift 2 ;;
    -h | --help) sed -n '2,8s/^# //p' "$0" && exit ;;
    *) load_flags+=("$1") && shift ;;
  esac
done

servers=(zookeeper etcd embedded)
declare -A port=([zookeeper]=28181 [etcd]=28182 [embedded]=28183)
etcd_client=http://127.0.0.1:28379
etcd_peer=http://127.0.0.1:28380
zketcd=${ZKETCD:-$root/target/release/zketcd}
etcd=${ETCD:-$root/target/tools/etcd-3.6}

fail() {
  echo "compare: $*" >&2
  exit 1
}

# --- what is needed

cd "$root"
[ -x "$zketcd" ] || cargo build --release --locked
[ -x "$etcd" ] || tests/tools/install.sh etcd-3.6
tests/tools/install.sh zookeeper
load=$(cargo bench --locked --no-run --bench load 2>&1 | tee /dev/stderr | sed -nE 's/.*Executable.*\((.*)\)$/\1/p')
[ -x "$load" ] || fail "cargo did not say where it built the load generator"

# --- the servers

mkdir -p "$dir"
run=$(mktemp -d "$dir/run.XXXXXX")
pids=()
stop() {
  trap - EXIT
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2> /dev/null || true
  wait
  rm -rf "$run"
}
trap stop EXIT
trap 'exit 1' INT TERM

# start NAME COMMAND...: in the background, its output in $run/NAME.log
start() {
  local name=$1
  shift
  "$@" > "$run/$name.log" 2>&1 &
  pids+=($!)
}

# serves NAME: waits until NAME answers `srvr` with its mode, 30 s at most
serves() {
  local answer
  for _ in $(seq 150); do
    answer=$( (exec 3<> "/dev/tcp/127.0.0.1/${port[$1]}" && printf srvr >&3 && cat <&3) 2> /dev/null || true)
    case $answer in *Mode:*) return ;; esac
    sleep 0.2
  done
  tail -n 20 "$run/$1.log" >&2
  fail "$1 does not serve"
}

cat > "$run/zoo.cfg" << CFG
dataDir=$run/zookeeper
clientPortAddress=127.0.0.1
clientPort=${port[zookeeper]}
tickTime=2000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
CFG
# slf4j has nothing to log with here: ZooKeeper is silent, as fast as can be
start zookeeper java -Xmx1g -cp "$root/target/tools/zookeeper/*" \
  org.apache.zookeeper.server.quorum.QuorumPeerMain "$run/zoo.cfg"
# room for what many rounds leave behind: nothing is compacted meanwhile
start etcd-itself "$etcd" --data-dir "$run/etcd" --quota-backend-bytes $((8 << 30)) --log-level warn \
  --listen-client-urls "$etcd_client" --advertise-client-urls "$etcd_client" \
  --listen-peer-urls "$etcd_peer" --initial-advertise-peer-urls "$etcd_peer" --initial-cluster "default=$etcd_peer"
start embedded "$zketcd" serve --listen "127.0.0.1:${port[embedded]}" --admin-listen none \
  --store embedded --data-dir "$run/embedded"
for _ in $(seq 150); do
  if (exec 3<> /dev/tcp/127.0.0.1/28379) 2> /dev/null; then break; fi
  sleep 0.2
done
start etcd "$zketcd" serve --listen "127.0.0.1:${port[etcd]}" --admin-listen none \
  --store etcd --etcd-endpoints "$etcd_client"
for server in "${servers[@]}"; do serves "$server"; done

# --- the rounds

for round in $(seq 0 "$rounds"); do
  for server in "${servers[@]}"; do
    echo "compare: round $round of $rounds, $server" >&2
    "$load" "127.0.0.1:${port[$server]}" "${load_flags[@]}" > "$run/lines" || {
      tail -n 20 "$run/$server.log" >&2
      fail "$server failed its load"
    }
    if [ "$round" -gt 0 ]; then sed "1d; s/^/$server /" "$run/lines" >> "$run/results"; fi
  done
done

# --- the report

# Milliseconds of one small write that is fsynced, where the servers' data is.
fsync_ms() {
  local begin=${EPOCHREALTIME/[.,]/}
  dd if=/dev/zero of="$run/probe" bs=4k count=200 oflag=dsync status=none
  awk -v us=$((${EPOCHREALTIME/[.,]/} - begin)) 'BEGIN { printf "%.2f", us / 200 / 1000 }'
}

echo "$(nproc) x $(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)," \
  "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r)," \
  "$(df --output=fstype "$run" | tail -n 1) where one 4 KiB write with fsync takes $(fsync_ms) ms; load $(cut -d ' ' -f 1-3 /proc/loadavg)"
echo "ZooKeeper 3.9.5 on Java $(java -version 2>&1 | sed -nE '1s/.*"(.*)".*/\1/p'), etcd $("$etcd" --version | sed -n '1s/.*: //p')," \
  "$("$zketcd" --version); the servers and the load generator share the machine"
echo "operations per second, medians of $rounds rounds, in brackets the ratio to ZooKeeper"
echo
awk '
  function median(list,   values, n, i, j, swap) {
    n = split(list, values)
    for (i = 2; i <= n; i++)
      for (j = i; j > 1 && values[j - 1] + 0 > values[j] + 0; j--) { swap = values[j]; values[j] = values[j - 1]; values[j - 1] = swap }
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
  }
  { row = sprintf("%-14s %11s %8s", $2, $3, $4)
    if (!(row in seen)) { seen[row] = 1; rows[++count] = row }
    rates[row, $1] = rates[row, $1] " " $5 }
  END {
    printf "%-14s %11s %8s %10s %18s %18s\n", "workload", "connections", "pipeline", "ZooKeeper", "zketcd on etcd", "zketcd embedded"
    for (r = 1; r <= count; r++) {
      row = rows[r]
      base = median(rates[row, "zookeeper"]); on_etcd = median(rates[row, "etcd"]); embedded = median(rates[row, "embedded"])
      scale = base ? base : 1
      printf "%s %10.0f %10.0f (%5.2f) %10.0f (%5.2f)\n", row, base, on_etcd, on_etcd / scale, embedded, embedded / scale
    }
  }' "$run/results"
