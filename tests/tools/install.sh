#!/usr/bin/env bash
# Installs what building and testing zketcd needs, each tool only where it is missing:
#   install.sh [rust] [protoc] [etcd-3.4] [etcd-3.6] [java] [zookeeper] [cargo-fuzz] [cargo-deny]
#              [zookeeper-c] [python] [go] [node] [valgrind]
# Debian packages come through apt (as root, or with sudo), everything else stays in the user's directories
# and in target/tools. A second run changes nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=$root/target/tools
export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/local/go/bin

say() { echo "tools: $*" >&2; }

fail() {
  say "$*"
  exit 1
}

has() { command -v "$1" > /dev/null 2>&1; }

# at_least HAVE WANT: whether version HAVE is WANT or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Brings apt's lists up to date, once.
update_lists() {
  if [ -n "${lists_updated:-}" ]; then return; fi
  lists_updated=1
  as_root apt-get update -q > /dev/null || say "apt-get update failed: going on with the lists that are there"
}

apt() {
  has apt-get || fail "please install $* (there is no apt-get here)"
  if [ "$(id -u)" -ne 0 ] && ! has sudo; then fail "please run as root: apt-get install $*"; fi
  say "installing $* with apt"
  update_lists
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" > /dev/null
}

rust_version() { rustc --version 2> /dev/null | awk '{ print $2 }'; }

# A C compiler and its headers: the TLS library has parts in C.
c_compiler() {
  echo 'int main(void) { return 0; }' > "$tools/probe.c"
  if ! cc -o "$tools/probe" -include stdlib.h "$tools/probe.c" 2> /dev/null; then apt gcc libc6-dev; fi
  rm -f "$tools/probe" "$tools/probe.c"
}

get_rust() {
  local wanted
  wanted=$(sed -nE 's/^rust-version = "([0-9.]+)"/\1/p' "$root/Cargo.toml")
  c_compiler
  if has cargo && has rustc && at_least "$(rust_version)" "$wanted"; then return; fi
  if ! has rustup; then
    if has apt-cache && update_lists && apt-cache show rustup > /dev/null 2>&1; then
      apt rustup
    else
      has curl || apt curl ca-certificates
      say "installing Rust with rustup"
      curl --proto '=https' --tlsv1.2 -fsSL https://sh.rustup.rs |
        sh -s -- -y -q --profile minimal --component clippy,rustfmt --no-modify-path
    fi
  fi
  if ! has cargo || ! at_least "$(rust_version || true)" "$wanted"; then
    say "bringing Rust up to $wanted or later, for this directory"
    rustup toolchain install stable --profile minimal --component clippy,rustfmt
    (cd "$root" && rustup override set stable)
  fi
  at_least "$(cd "$root" && rust_version)" "$wanted" ||
    fail "rustc $(rust_version) at $(command -v rustc) is older than $wanted and goes before rustup's: see PATH"
}

# protoc, and the well-known types that etcd's files import: they are in a package of their own, which is only recommended.
get_protoc() {
  echo 'syntax = "proto3"; import "google/protobuf/descriptor.proto";' > "$tools/probe.proto"
  if ! protoc --proto_path="$tools" --descriptor_set_out=/dev/null probe.proto 2> /dev/null; then
    apt protobuf-compiler libprotobuf-dev
  fi
  rm -f "$tools/probe.proto"
}

# etcd_version BINARY: 3.4.23, or nothing.
etcd_version() { "$1" --version 2> /dev/null | sed -nE 's/^etcd Version: ([0-9.]+).*/\1/p'; }

# etcd 3.4, from Debian: the installed one, else unpacked from its package without installing it, as that would
# start a service.
get_etcd-3.4() {
  local link=$tools/etcd-3.4 unpacked=$tools/etcd-server
  case $(etcd_version "$link") in 3.4.*) return ;; esac
  case $(etcd_version /usr/bin/etcd) in 3.4.*)
    ln -sfn /usr/bin/etcd "$link"
    return
    ;;
  esac
  has apt-get || fail "etcd 3.4 comes from Debian's etcd-server: please put one at $link"
  say "unpacking Debian's etcd-server"
  rm -rf "$unpacked"
  mkdir -p "$unpacked"
  apt-cache show etcd-server > /dev/null 2>&1 || update_lists
  (cd "$unpacked" && apt-get download -q etcd-server > /dev/null && dpkg-deb -x etcd-server_*.deb .)
  ln -sfn etcd-server/usr/bin/etcd "$link"
  case $(etcd_version "$link") in
    3.4.*) ;;
    *) fail "this system's etcd-server is no 3.4: please put an etcd 3.4 at $link" ;;
  esac
}

# A go that can build what tests/tools/etcd/go.mod asks for. From 1.21 on, go fetches a newer toolchain itself;
# an older one (Debian 12 has 1.19) is made to fetch it in the same way: as a module, its checksum verified.
go_command() {
  local wanted have module directory
  wanted=$(sed -nE 's/^go ([0-9.]+)$/\1/p' "$root/tests/tools/etcd/go.mod")
  has go || apt golang-go
  have=$(go env GOVERSION)
  if at_least "${have#go}" 1.21; then
    command -v go
    return
  fi
  module=golang.org/toolchain@v0.0.1-go$wanted.$(go env GOOS)-$(go env GOARCH)
  say "${have} is too old, fetching go$wanted"
  directory=$(GOFLAGS=-modcacherw go mod download -json "$module" | sed -nE 's/.*"Dir": "(.*)".*/\1/p')
  # what go itself does with a toolchain it has fetched
  chmod -R u+wx "$directory/bin" "$directory/pkg/tool"
  cp -f "$directory/src/_go.mod" "$directory/src/go.mod"
  echo "$directory/bin/go"
}

# etcd 3.6, built by a module that requires it.
get_etcd-3.6() {
  local wanted go
  wanted=$(sed -nE 's|^require go.etcd.io/etcd/server/v3 v([0-9.]+)$|\1|p' "$root/tests/tools/etcd/go.mod")
  if [ "$(etcd_version "$tools/etcd-3.6")" = "$wanted" ]; then return; fi
  go=$(cd / && go_command)
  say "building etcd $wanted (a minute or two, once)"
  (cd "$root/tests/tools/etcd" && GOROOT='' GOTOOLCHAIN=auto CGO_ENABLED=0 "$go" build -trimpath -o "$tools/etcd-3.6" .)
  [ "$(etcd_version "$tools/etcd-3.6")" = "$wanted" ] || fail "$tools/etcd-3.6 does not run, or is not $wanted"
}

java_major() { java -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p'; }

# A JDK and Maven.
get_java() {
  if ! has javac || [ "$(java_major)" -lt 17 ]; then apt openjdk-17-jdk-headless; fi
  if ! has mvn; then apt maven; fi
}

# The jars of the ZooKeeper that ours is compared with, from Maven; zookeeper/run.sh starts one.
get_zookeeper() {
  local pom=$root/tests/tools/zookeeper/pom.xml jars=$tools/zookeeper
  get_java
  # complete, and of this pom
  if cmp -s "$pom" "$jars/pom.xml"; then return; fi
  say "getting ZooKeeper's jars"
  rm -rf "$jars"
  mvn -q -B -Dstyle.color=never -f "$pom" package
  cp "$pom" "$jars/pom.xml"
}

get_cargo-fuzz() {
  if ! cargo fuzz --version > /dev/null 2>&1; then
    say "installing cargo-fuzz"
    cargo install -q --locked cargo-fuzz
  fi
  # libFuzzer is written in C++
  if ! has c++; then apt g++; fi
}

get_cargo-deny() {
  if cargo deny --version > /dev/null 2>&1; then return; fi
  say "installing cargo-deny (a minute or two, once)"
  # unoptimised it is built much sooner, and checks these few hundred crates in a second all the same
  cargo install -q --locked --debug --config profile.dev.debug=false cargo-deny
}

# ZooKeeper's client library for C, and a compiler for it.
get_zookeeper-c() {
  c_compiler
  if ! cc -fsyntax-only -include zookeeper/zookeeper.h -x c /dev/null 2> /dev/null; then apt libzookeeper-mt-dev; fi
}

# A Python that can make environments of its own.
get_python() {
  if ! python3 -c 'import ensurepip, venv' 2> /dev/null; then apt python3-venv; fi
}

get_go() {
  if ! has go; then apt golang-go; fi
}

get_node() {
  if ! has node || ! has npm; then apt nodejs npm; fi
}

# Rust's optimised binaries run under Debian's valgrind as they are.
get_valgrind() {
  if ! has valgrind; then apt valgrind; fi
}

mkdir -p "$tools"
for tool in "$@"; do
  case $tool in
    rust | protoc | etcd-3.4 | etcd-3.6 | java | zookeeper | cargo-fuzz | cargo-deny) "get_$tool" ;;
    zookeeper-c | python | go | node | valgrind) "get_$tool" ;;
    *) fail "unknown tool: $tool" ;;
  esac
done
