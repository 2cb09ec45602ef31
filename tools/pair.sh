# shellcheck shell=bash
# The pair as a whole: up, its first synchronisation, status, down.

# bytes SIZE - 64M, 1G, 4096: in bytes; nothing for what is no size.
bytes() {
  [[ $1 =~ ^([0-9]{1,10})([KMGT]?)$ ]] || return 0
  local n=$((10#${BASH_REMATCH[1]}))
  case ${BASH_REMATCH[2]} in
    K) n=$((n << 10)) ;;
    M) n=$((n << 20)) ;;
    G) n=$((n << 30)) ;;
    T) n=$((n << 40)) ;;
    *) ;;
  esac
  say "$n"
}

# disk_bytes BYTES - the disk for a volume of so many bytes: it holds the volume's metadata too (docs/ONDISK.md), and its
# reserve for a snapshot.
disk_bytes() { say $(($1 + reserve + (1 << 20) + ($1 + reserve) / 16384 / 4096 * 4096)); }

port_free() { ! (exec {probe}<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Every image there is must be usable before anything boots.
check_images() {
  local node volume file length first
  for ((volume = 0; volume < volumes; volume++)); do
    first=
    for node in a b; do
      if [ "$metadata" = external ] && ! [ -f "$(metadata_image $node $volume)" ]; then
        die "the disk for metadata $dir/$(metadata_image $node $volume) is missing; restore it, or start with empty disks: --dir with a new directory"
      fi
      file=$(image $node $volume)
      [ -e "$file" ] || die "the disk $dir/$file is missing; restore it, or start with empty disks: --dir with a new directory"
      [ -f "$file" ] || die "the disk $dir/$file is not a regular file"
      if [ ! -r "$file" ] || [ ! -w "$file" ]; then die "the disk $dir/$file is not readable and writable for $(id -un)"; fi
      length=$(stat -Lc %s "$file")
      ((length >= 1 << 20 && length % 4096 == 0)) || die "the disk $dir/$file is broken: $length bytes, expected a multiple of 4096 and at least 1 MiB"
      [ "$first" = "" ] || [ "$first" = "$length" ] || die "the disks of vol$volume differ in size: $first bytes on a, $length on b"
      first=$length
    done
  done
}

# prepare_images - make what is missing. Sets origin: blank (all made now) or used.
prepare_images() {
  local node volume file made=0 found=0 want rest
  want=$(bytes "${size:-1G}")
  if [ "$snapshot" = off ]; then
    reserve=0
  elif ((reserve == 0)); then
    # All of the volume, and the tables: two pages for every 336.
    reserve=$((want + (want / 128 + 4096) / 4096 * 4096))
  fi
  rest=$(($(disk_bytes "$want") - want))
  [ "$metadata" = external ] || want=$((want + rest))
  for ((volume = 0; volume < volumes; volume++)); do
    for node in a b; do
      file=$(image $node $volume)
      if [ -e "$file" ]; then
        found=$((found + 1))
        [ -z "$size" ] || [ ! -f "$file" ] || [ "$(stat -Lc %s "$file")" = "$want" ] ||
          die "the disk $dir/$file has $(stat -Lc %s "$file") bytes, not the $want that --size $size needs; leave --size out to use it as it is"
      else
        made=$((made + 1))
        missing_image=$file
      fi
    done
  done
  ((found == 0 || made == 0)) || die "$dir has some of its disks but not $missing_image: restore it, or use another --dir"
  if ((found == 0)); then
    for ((volume = 0; volume < volumes; volume++)); do
      for node in a b; do
        truncate -s "$want" "$(image $node $volume)" || die "cannot make a disk image in $dir"
        [ "$metadata" = internal ] || truncate -s "$rest" "$(metadata_image $node $volume)" || die "cannot make a disk image in $dir"
      done
    done
    size=${size:-1G}
    origin=blank
    return
  fi
  check_images
  origin=used
}

# enlarge NODE DISK FILE BYTES - a disk of a node that runs, by its name in QEMU, or the image of one that does not.
enlarge() {
  local length
  length=$(stat -Lc %s "$3") || die "the disk $dir/$3 is missing"
  ((length < $4)) || die "the disk $dir/$3 has $length bytes already, $4 were asked for: disks only grow"
  if alive "$1"; then
    must_qmp "$1" "{\"execute\":\"block_resize\",\"arguments\":{\"node-name\":\"$2\",\"size\":$4}}"
  else
    truncate -s "$4" "$3" || die "cannot enlarge $dir/$3"
  fi
}

verb_grow() {
  local node want md
  (($# == 0)) || die "grow takes options only: ./run-qemu.sh help"
  [ -n "$grow_size" ] || die "grow takes --size SIZE, what the volume is to have"
  ((grow_volume < volumes)) || die "there is no vol$grow_volume: the pair has $volumes"
  want=$(bytes "$grow_size")
  md=$(($(disk_bytes "$want") - want))
  [ "$metadata" = external ] || want=$((want + md))
  for node in a b; do
    enlarge $node "vol$grow_volume" "$(image $node "$grow_volume")" "$want"
    if [ "$metadata" = external ] && (($(stat -Lc %s "$(metadata_image $node "$grow_volume")") < md)); then
      # What is there stays whole until it has moved behind itself.
      enlarge $node "md$grow_volume" "$(metadata_image $node "$grow_volume")" \
        $((md + $(stat -Lc %s "$(metadata_image $node "$grow_volume")")))
    fi
  done
  say "Both disks have $want bytes now. ./run-qemu.sh exec a 'resize vol$grow_volume --size=$grow_size'$(dir_option) uses them."
}

verb_build() {
  command -v cargo >/dev/null ||
    die "missing: cargo. Install Rust with: curl https://sh.rustup.rs -sSf | sh (rust-toolchain.toml picks the version)"
  need cc strip objcopy
  "$top/tools/build-kernel.sh"
}

kernel_ready() {
  if [ -n "${PALISADE_KERNEL:-}" ]; then
    [ -r "$kernel" ] || die "no kernel image at $kernel (from PALISADE_KERNEL)"
  else
    verb_build >&2 || die "the kernel does not build"
  fi
}

verb_up() {
  local node started
  kernel_ready
  arbiter_ready
  need qemu-system-x86_64 socat flock python3
  mkdir -p "$dir" || die "cannot make the directory $dir"
  use_dir
  use_net
  exec {up_lock}>>up.lock
  flock -n "$up_lock" || die "another ./run-qemu.sh is starting the pair in $dir"
  for node in a b; do
    ! alive $node || die "a pair is running in $dir already; end it with ./run-qemu.sh down$(dir_option)"
  done
  clean_dir
  pick_accel
  if [ "$net" = user ]; then
    for node in "$port_a" "$port_b"; do
      port_free "$node" || die "port $node is in use: choose others with --nbd-ports A,B"
    done
    for node in $http_a $http_b; do
      port_free "$node" || die "port $node is in use: choose others with --http-ports A,B"
    done
    [ "$snapshot" = off ] || for node in "$snapshot_a" "$snapshot_b"; do
      port_free "$node" || die "port $node is in use: choose others with --snapshot-ports A,B"
    done
  fi
  trap 'end_pair' EXIT
  trap 'exit 130' INT TERM HUP
  prepare_net
  prepare_images
  save_settings
  secret=
  if [ "$integrity" != crc32c ] || fences; then secret=$(head -c 33 /dev/urandom | base64); fi
  rm -f a.log b.log arbiter.log
  for node in a b; do write_config $node; done
  write_arbiter_config
  say "Booting a and b in $dir ($machine, $accel, $mem of memory each) ..."
  start_wires
  ! wants_arbiter || start_arbiter
  start_float
  started=$(now_ms)
  boot a &
  node=$!
  boot b || exit 1
  wait "$node" || exit 1
  first_sync
  if [ -n "$serving" ]; then
    greets a || die "node a is Primary but its NBD server does not answer at $(export_address a); its log is $dir/a.log"
    say "NBD answers after $(($(now_ms) - started)) ms."
  fi
  wait_until 10000 test -S nbd.sock || die "tools/float.py does not start: $(tail -n 1 float.err)"
  next_steps
  if [ -n "$detach" ]; then
    trap - EXIT
  else
    say "Ctrl-C stops the pair."
    exec {up_lock}>&-
    while alive a || alive b; do pause 1; done
    say "Both nodes have ended."
  fi
}

# first_sync - new disks get their metadata, and since this script has just made them it knows that they are
# identical. Disks that were used before say themselves what they are; node a becomes Primary if it may.
first_sync() {
  local node volume
  serving=
  if [ "$origin" = blank ]; then
    for node in b a; do
      open_line $node.console
      # A UART loses what comes before the kernel has set it up. The banner may be out before the line is open: it is in the log.
      wait_until 5000 grep -q 'Type help' $node.log || :
      for ((volume = 0; volume < volumes; volume++)); do
        wait_until 20000 accepted "create-md vol$volume" || refused $node
      done
      [ $node = a ] || close_line
    done
    # The node says so when the nodes have met; by then it also listens. If that was missed, asking finds out.
    await_words 10 'connected to peer' || :
    wait_until 20000 accepted 'new-current-uuid --clear-bitmap' || refused a
    wait_until 10000 accepted primary || refused a
    serving=1
  else
    open_line a.console
    console_answers 60 || die "node a does not answer on its console; its log is $dir/a.log"
    wait_until 20000 decided primary || :
    if [ "$mark_value" = 0 ]; then
      serving=1
    else
      warn "node a does not become Primary: ${lines[*]:-no answer on its console}"
    fi
  fi
  close_line
}
accepted() { run_command "$1" 20 && [ "$mark_value" = 0 ]; }
# decided COMMAND - accepted, or refused for a reason that waiting does not change.
decided() { accepted "$1" || [[ "${lines[*]}" == *create-md* ]]; }
refused() {
  local why="${lines[*]:-no answer on its console}"
  warn "node $1 refuses: $why"
  close_line
  [[ "$why" != *'not connected'* ]] || why_not_met
  die "its log is $dir/$1.log"
}

# why_not_met - what can be seen from here of two nodes that run and do not find each other: whether frames are sent and
# received. It asks twice, since a counter that stands still is the sign.
why_not_met() {
  local node wire
  [ "$net" != user ] || alive wire || warn "the cable between the nodes has ended: $(tail -n 1 wire.err)"
  for _ in 1 2; do
    for node in a b; do
      open_line $node.console
      if run_command net 10; then warn "$node: ${lines[*]}"; else warn "$node does not answer on its console"; fi
      close_line
    done
    pause 2
  done
  for node in a b; do
    # Whether QEMU ever got its end of the cable.
    qmp $node '{"execute":"human-monitor-command","arguments":{"command-line":"info network"}}' >&2 || :
  done
  # What of the cable's own sockets is full.
  if wire=$(process_of wire) && command -v ss >/dev/null; then ss -xp | grep -F "pid=$wire," >&2 || :; fi
}

# greets NODE - its NBD server sends its greeting.
greets() { wait_until 10000 greets_now "$(export_address "$1")"; }
# shellcheck disable=SC2016 # for the inner shell
greets_now() {
  local probe='exec 3<>"/dev/tcp/$0/$1" && IFS= read -r -t 1 -N 8 magic <&3 && [ "$magic" = NBDMAGIC ]'
  "${netns[@]}" bash -c "$probe" "${1%:*}" "${1##*:}" 2>/dev/null
}

next_steps() {
  local volume option
  option=$(dir_option)
  if [ "$origin" = blank ]; then
    say "The disks are new and blank, so identical: no first synchronisation was needed."
  elif [ -n "$serving" ]; then
    say "The disks were used before, and their metadata say that a's data is the latest."
  else
    say "Node a is not Primary. What to do, the nodes say:"
    say "  ./run-qemu.sh status$option"
  fi
  say "Clients (these addresses follow the Primary):"
  for ((volume = 0; volume < volumes; volume++)); do say "  nbd+unix:///vol$volume?socket=$dir/nbd.sock"; done
  say "Node a is nbd://$(export_address a)/vol0, node b nbd://$(export_address b)/vol0; a standby holds its greeting back."
  [ "$snapshot" = off ] || say "What a resync overwrites is nbd://$(snapshot_address a)/vol0@before-resync on a, nbd://$(snapshot_address b)/vol0@before-resync on b, while it goes on."
  [ "$net" != tap ] || say "nbd://${tap_ip[floating]}:$nbd_port/vol0 is whichever node is Primary."
  [ -z "$http_a" ] || say "Web:     http://$(http_address a)/ and http://$(http_address b)/"
  [ "$net" != tap ] || say "These addresses are in the network namespace palisade-$tag: ip netns exec palisade-$tag ..."
  say "Console: ./run-qemu.sh console a$option    (Ctrl-] leaves)"
  say "Next:    ./run-qemu.sh guest$option        a Linux guest whose disk is the export"
  if fences; then
    say "         ./run-qemu.sh kill a$option; ./run-qemu.sh exec b primary$option    a power cut and the failover"
  else
    say "         ./run-qemu.sh kill a$option; ./run-qemu.sh exec b 'primary --force'$option    a power cut and the failover"
  fi
  say "         ./run-qemu.sh status$option; ./run-qemu.sh down$option"
}

verb_status() {
  local node code=0
  (($# == 0)) || die "status takes no argument but --dir"
  for node in a b; do
    if alive $node; then
      say "== node $node ($(qmp_state $node))"
      if [ "$(qmp_state $node)" != paused ]; then (verb_exec $node status) || code=1; fi
    else
      say "== node $node (not running)"
      code=1
    fi
  done
  if wants_arbiter; then
    if alive arbiter; then
      say "== arbiter"
      (verb_arbiter list) || code=1
    else
      say "== arbiter (not running)"
      code=1
    fi
  fi
  return $code
}

# end_pair - stop every process, and leave nothing behind but the disks, their configuration and the logs.
end_pair() {
  local name
  for name in guest float wire switch arbiter a b; do end_process $name; done
  remove_net
  clean_dir
  rm -f up.lock
}
# What a pair leaves in its directory when it was not stopped by `down`.
clean_dir() { rm -f ./*.pid ./*.console ./*.qmp ./*.replication ./*.management ./[ab].lock ./*.err nbd.sock arbiter.socket cut.peers; }

verb_down() {
  (($# == 0)) || die "down takes no argument but --dir"
  end_pair
}
