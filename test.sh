#!/usr/bin/env bash
# Everything that must hold before a change goes in. `./test.sh quick` leaves the QEMU pairs out; SEEDS=N sets how
# many simulator runs there are (default 5000).
# shellcheck disable=SC2317 # functions are called by `step`
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
# shellcheck source=tools/lib.sh
. tools/lib.sh

case ${1:-} in
  '' | quick) ;;
  *) die "usage: ./test.sh [quick]" ;;
esac
quick=${1:-}

command -v cargo >/dev/null || die "missing: cargo. Install Rust from https://rustup.rs; rust-toolchain.toml picks the version"
need cc shellcheck
[ -n "$quick" ] || need qemu-system-x86_64 qemu-io nbdcopy nbdinfo fio socat flock python3 busybox cpio mke2fs modprobe \
  grub-mkimage xorriso mcopy sfdisk nm virt-xml-validate systemd-analyze /usr/lib/grub/i386-pc/boot.img /usr/lib/grub/x86_64-efi/multiboot2.mod /usr/share/OVMF/OVMF_CODE_4M.fd \
  etcd promtool chromedriver /usr/lib/drbd/crm-fence-peer.9.sh

names=() results=() failed=0
# step NAME COMMAND... - run it, note how it went and how long it took; go on in any case.
step() {
  local name=$1 begun=$SECONDS result=ok
  shift
  say "== $name"
  "$@" || { result=FAILED && failed=1; }
  names+=("$name") results+=("$result $((SECONDS - begun)) s")
}

crates=(admin boot ctl drivers fencing fuzz mdtool net replication resync sim palisade-arbiter)
host_crates() {
  printf -- '-p %s ' "${crates[@]}"
  say
}

lint_host() {
  local packages
  read -ra packages < <(host_crates)
  cargo clippy --quiet "${packages[@]}" -p e2e --all-targets -- -D warnings
}
lint_kernel() { cargo clippy --quiet -p kernel --release --target x86_64-unknown-linux-gnu -- -D warnings; }
lint_scripts() {
  shellcheck -x -a run-qemu.sh && shellcheck -x test.sh bench.sh fuzz.sh && shellcheck tools/guest-init.sh tools/build-kernel.sh tools/reproduce.sh .ci/run examples/arbiter/drbdsetup
}
unit_tests() {
  local packages
  read -ra packages < <(host_crates)
  if command -v cargo-nextest >/dev/null; then
    cargo nextest run --no-fail-fast --status-level fail "${packages[@]}"
  else
    cargo test --quiet --no-fail-fast "${packages[@]}"
  fi && cargo test --quiet -p e2e --test layers --test pages
}
fencing_simulator() { cargo run --quiet --profile sim -p sim -- --fencing --seeds "0..${FENCING_SEEDS:-200}"; }
simulator() { cargo run --quiet --profile sim -p sim -- --seeds "0..${SEEDS:-5000}"; }
pairs() {
  local tests=() name
  for name in e2e/tests/*.rs; do
    name=$(basename "$name" .rs)
    [ "$name" = layers ] || [ "$name" = pages ] || tests+=(--test "$name")
  done
  # Images in memory where there is enough of it: the tests are about bytes, not about this machine's disk.
  if [ -z "${TMPDIR:-}" ] && (($(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) > 2 << 20)); then
    export TMPDIR=/dev/shm
  fi
  # One at a time: each has two or three virtual machines.
  cargo test --quiet --no-fail-fast -p e2e "${tests[@]}" -- --test-threads=1
}

step format cargo fmt --all -- --check
step "clippy, host crates" lint_host
step "clippy, kernel" lint_kernel
step shellcheck lint_scripts
step "unit and property tests, layers" unit_tests
step "simulator, ${SEEDS:-5000} seeds" simulator
step "simulator with fencing, ${FENCING_SEEDS:-200} seeds" fencing_simulator
step "kernel build" ./run-qemu.sh build
[ -n "$quick" ] || step "QEMU pairs with real clients" pairs

say
say "Summary:"
for index in "${!names[@]}"; do printf '  %-34s %s\n' "${names[index]}" "${results[index]}"; done
exit $failed
