#!/usr/bin/env bash
# The figures of docs/PERFORMANCE.md in one run: Palisade and, where its directory is ($ANCHOR_DIR, default
# ../shared/anchor), the DRBD pair, under the same QEMU, in turns. Prints a table and writes target/bench.json.
# usage: ./bench.sh [--seconds N] [--rounds N] [--markdown] [--only palisade|anchor] | --instructions | --floods
# --floods: what 4 KiB reads and writes keep while the web server and the console of their node are flooded; target/floods.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tools/lib.sh
. tools/lib.sh

[ "$(id -u)" = 0 ] || die "the comparison runs on taps and bridges in network namespaces: run it as root"
need qemu-system-x86_64 socat flock python3 ip fio nbdinfo
./run-qemu.sh build
exec python3 tools/bench.py "$@"
