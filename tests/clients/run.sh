#!/usr/bin/env bash
# Installs the clients where they are missing, builds their programs, and runs them against servers of its own.
#   run.sh [--store embedded|etcd|zookeeper] [--client c|kazoo|go|rust|node] …     (run.py --help has them all)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
built=$here/../../target/clients
install=$here/../tools/install.sh
export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/local/go/bin
export PYTHONPATH=$here/../tools PYTHONDONTWRITEBYTECODE=1

get_c() {
  "$install" zookeeper-c
  cc -std=gnu11 -O1 -g -Wall -Wextra -Werror -DTHREADED -pthread -o "$built/c" "$here"/c/*.c -lzookeeper_mt
}

get_kazoo() {
  local wants=$here/kazoo/requirements.txt
  "$install" python
  if cmp -s "$wants" "$built/kazoo/requirements.txt"; then return; fi
  rm -rf "$built/kazoo"
  python3 -m venv "$built/kazoo"
  "$built/kazoo/bin/python" -m pip install -q --disable-pip-version-check -r "$wants"
  cp "$wants" "$built/kazoo/requirements.txt"
}

get_go() {
  "$install" go
  (cd "$here/go" && CGO_ENABLED=0 go build -trimpath -o "$built/go" .)
}

get_rust() {
  "$install" rust
  cargo build -q --locked --manifest-path "$here/rust/Cargo.toml" --target-dir "$built/rust"
}

get_node() {
  local wants=$here/node/package-lock.json
  "$install" node
  if cmp -s "$wants" "$built/node/installed.json"; then return; fi
  mkdir -p "$built/node"
  cp "$here"/node/package*.json "$built/node"
  (cd "$built/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
  cp "$wants" "$built/node/installed.json"
}

# option NAME ARGS…: what the arguments give for an option.
option() {
  local name=$1
  shift
  printf '%s\n' "$@" | sed -n "/^--$name\$/{n;p;}; s/^--$name=//p"
}

mkdir -p "$built"
chosen=$(option client "$@")
for client in ${chosen:-c kazoo go rust node}; do "get_$client"; done
case $(option store "$@") in
  zookeeper) "$install" zookeeper ;;
  etcd) "$install" etcd-3.6 ;;
esac
exec python3 "$here/run.py" "$@"
