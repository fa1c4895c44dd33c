#!/usr/bin/env bash
# Runs a standalone ZooKeeper 3.9.5 on 127.0.0.1, in the foreground: what zketcd is compared with.
#   run.sh PORT DATADIR [TICK [SWEEP]]
# TICK: tickTime in milliseconds (500: sessions from 1 s on); sessions last 60 s or 20 ticks at most, whichever is more.
# SWEEP: milliseconds between two looks for empty containers and expired TTL nodes (50).
# ZOOKEEPER_OPTIONS: more options for the JVM. The super user is super:test. Nothing is fsynced.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=$1 data=$2 tick=${3:-500} sweep=${4:-50}

"$here/../install.sh" zookeeper
mkdir -p "$data"
cat > "$data/zoo.cfg" << CFG
dataDir=$data
clientPort=$port
clientPortAddress=127.0.0.1
tickTime=$tick
minSessionTimeout=$((2 * tick))
maxSessionTimeout=$((20 * tick > 60000 ? 20 * tick : 60000))
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
extendedTypesEnabled=true
CFG
# the digest is that of super:test
# shellcheck disable=SC2086 # options are words
exec java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData \
  -Djava.net.preferIPv4Stack=true -Dzookeeper.jmx.log4j.disable=true -Dzookeeper.forceSync=no \
  -Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU= \
  -Dznode.container.checkIntervalMs="$sweep" -Dzookeeper.extendedTypesEnabled=true \
  -Dzookeeper.4lw.commands.whitelist='*' ${ZOOKEEPER_OPTIONS:-} \
  -cp "$here/../../../target/tools/zookeeper/*" org.apache.zookeeper.server.quorum.QuorumPeerMain "$data/zoo.cfg"
