# shellcheck shell=bash
# The pair's arbiter, palisade-arbiter: started with the pair when its policy fences, unless --no-arbiter.
#
# The nodes reach it at management_ip[host]. With --net tap that is an address of the bridge, and the arbiter listens there;
# otherwise management.py passes on what comes there to a loopback address of this pair's own, so that no port has to be chosen.

management_port=7790

# fences - whether the policy asks anybody for a fence.
fences() { [ "$policy" != dont-care ]; }
wants_arbiter() { fences && [ -n "$arbiter" ]; }

# The program: PALISADE_ARBITER, or built here.
arbiter_program() { realpath -m "${PALISADE_ARBITER:-${CARGO_TARGET_DIR:-$top/target}/sim/palisade-arbiter}"; }
arbiter_ready() {
  wants_arbiter || return 0
  local program
  program=$(arbiter_program)
  if [ -n "${PALISADE_ARBITER:-}" ]; then
    [ -x "$program" ] || die "no palisade-arbiter at $program (from PALISADE_ARBITER)"
  else
    command -v cargo >/dev/null ||
      die "missing: cargo, which builds palisade-arbiter. Install Rust with: curl https://sh.rustup.rs -sSf | sh"
    (cd "$top" && cargo build --quiet --profile sim -p palisade-arbiter) >&2 || die "palisade-arbiter does not build"
  fi
}

# arbiter_address - where it listens.
arbiter_address() {
  if [ "$net" = tap ]; then
    say "${management_ip[host]}:$management_port"
  else
    say "127.$((0x${tag:0:2})).$((0x${tag:2:2})).$((1 + 0x${tag:4:2} % 254)):$management_port"
  fi
}

write_arbiter_config() {
  wants_arbiter || return 0
  # Numbers and identity of disks that are no more must not count for new ones.
  [ "$origin" != blank ] || rm -f arbiter.redb
  printf '%s\n' "# The arbiter of the pair in $dir, written by run-qemu.sh. docs/ARBITER.md tells more." \
    "listen = \"$(arbiter_address)\"" "store = \"arbiter.redb\"" \
    "[[resource]]" "name = \"r0\"" "nodes = [\"a\", \"b\"]" "secret = \"$secret\"" >arbiter.toml
}

start_arbiter() {
  end_process arbiter
  rm -f arbiter.socket
  log=arbiter.log spawn arbiter "$(arbiter_program)" arbiter.toml
  wait_until 10000 test -S arbiter.socket || die "palisade-arbiter does not start: $(tail -n 1 arbiter.err)"
}

# The verbs that act on it as on a node.
kill_arbiter() {
  alive arbiter || die "the arbiter is not running: ./run-qemu.sh start arbiter$(dir_option)"
  end_process arbiter
}
boot_arbiter() {
  wants_arbiter || die "this pair has no arbiter: ./run-qemu.sh up --policy resource-and-stonith"
  ! alive arbiter || die "the arbiter is running already"
  start_arbiter
}

verb_arbiter() {
  wants_arbiter || die "this pair has no arbiter: ./run-qemu.sh up --policy resource-and-stonith"
  (($#)) || die "arbiter takes a command of palisade-arbiter: ./run-qemu.sh arbiter list"
  "$(arbiter_program)" arbiter.toml "$@"
}
