#!/usr/bin/env bash
# Builds the last commit's kernel and media twice, in different places, at different times and with another umask, time
# zone and name of cargo's directory, and compares every byte. Takes two full builds of the kernel. See docs/BOOT.md.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
git -C "$top" rev-parse --quiet --verify HEAD >/dev/null || {
  echo "reproduce: $top is no git checkout" >&2
  exit 1
}
config=$top/examples/a.toml
cargo_home=${CARGO_HOME:-$HOME/.cargo}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# build DIRECTORY CARGO_HOME UMASK TIME-ZONE
build() {
  mkdir -p "$1"
  git clone --quiet --no-hardlinks "$top" "$1/source"
  (
    umask "$3"
    unset CARGO_TARGET_DIR SOURCE_DATE_EPOCH PALISADE_KERNEL
    CARGO_HOME=$2 TZ=$4 "$1/source/run-qemu.sh" image --config "$config" --out "$1/out" >/dev/null
  )
}

# The second one sees the same crates by another path.
mkdir "$scratch/cargo"
for part in "$cargo_home"/*; do ln -s "$part" "$scratch/cargo/"; done
build "$scratch/a" "$cargo_home" 022 UTC
build "$scratch/another/and/deeper" "$scratch/cargo" 077 Asia/Tokyo

cat "$scratch/a/out/SHA256SUMS"
result=0
while read -r _ name; do
  cmp "$scratch/a/out/$name" "$scratch/another/and/deeper/out/$name" || result=1
done <"$scratch/a/out/SHA256SUMS"
[ $result = 0 ] && echo "reproduce: both builds of $(git -C "$top" rev-parse --short=12 HEAD) are the same, byte for byte"
exit $result
