# shellcheck shell=bash
# One node: its disks, its configuration, its QEMU, and the verbs that act on it.

# image NODE VOLUME - the file behind a volume: a.img, a-vol1.img, ...
image() { if [ "$2" = 0 ]; then say "$1.img"; else say "$1-vol$2.img"; fi; }
# metadata_image NODE VOLUME - the file for its metadata, if that has a disk of its own: a-md0.img, ...
metadata_image() { say "$1-md$2.img"; }

# pick_accel - KVM only where the CPU shows vmx or svm: a /dev/kvm without either is a software hypervisor
# that emulates kernel code instruction by instruction.
pick_accel() {
  local usable=
  if grep -qwE 'vmx|svm' /proc/cpuinfo && [ -r /dev/kvm ] && [ -w /dev/kvm ]; then usable=1; fi
  case $accel in
    auto) if [ -n "$usable" ]; then accel=kvm; else accel=tcg; fi ;;
    kvm) [ -n "$usable" ] || die "--accel kvm: /dev/kvm is not usable here (it needs vmx or svm in the CPU's flags and access for $(id -un)); try --accel tcg" ;;
    *) ;;
  esac
}
accel_args() {
  # PALISADE_ACCEL: QEMU's own arguments, for measurements.
  if [ -n "${PALISADE_ACCEL:-}" ]; then
    say "$PALISADE_ACCEL"
  elif [ "$accel" = kvm ]; then
    say -accel kvm -cpu host
  else
    # The buffer for translated code is host memory; the image needs little of it.
    say -accel tcg,thread=multi,tb-size=16 -cpu max
  fi
}

# device KIND - the virtio device of the machine's bus. Without KVM there is no kernel that could take a doorbell for the
# guest: with ioeventfd it costs two system calls and wakes QEMU's main thread, without it the guest's processor hands
# the requests over itself.
device() {
  if [ "$machine" = microvm ]; then
    say "virtio-$1-device"
  elif [ "$accel" = tcg ]; then
    say "virtio-$1-pci,disable-legacy=on,ioeventfd=off"
  else
    say "virtio-$1-pci,disable-legacy=on"
  fi
}

machine_args() {
  case $machine in
    # The PIT calibrates the clock; without ACPI the debug-exit device is how `poweroff` ends QEMU.
    microvm) say -M microvm,acpi=off,pic=off,pit=on,rtc=on,isa-serial=on -global virtio-mmio.force-legacy=false -device isa-debug-exit,iobase=0xf4,iosize=4 ;;
    q35) say -M q35,vmport=off,sata=off,smbus=off ;;
    pc) say -M pc,vmport=off ;;
    *) die "no machine '$machine'" ;;
  esac
}

write_config() {
  local node=$1 peer=b index volume
  [ "$node" = a ] || peer=a
  {
    printf '%s\n' "# Node $node of the pair in $dir, written by run-qemu.sh. docs/CONFIG.md lists the keys."
    printf '%s\n' "[node]" "name = \"$node\""
    printf '%s\n' "[resource]" "name = \"r0\"" "fencing = \"$policy\""
    ! fences || say "fence-timeout = \"$fence_timeout\""
    [ -z "$auto_promote" ] || say "auto-promote = true"
    printf '%s\n' "[peer]" "name = \"$peer\"" "address = \"${replication_ip[$peer]}:7789\"" "integrity = \"$integrity\""
    [ -z "$secret" ] || say "secret = \"$secret\""
    [ "$peer_timeout" = 6s ] || printf '%s\n' "[net]" "timeout = \"$peer_timeout\""
    if fences; then
      printf '%s\n' "[management]" "peer = \"${management_ip[$peer]}:$management_port\""
      ! wants_arbiter || say "arbiter = \"${management_ip[host]}:$management_port\""
      [ -z "$notify" ] || say "notify = true"
    fi
    [ -z "$http_a" ] || printf '%s\n' "[http]" "port = $http_port"
    [ -z "$http_a" ] || [ -z "$http_token" ] || say "token = \"$http_token\""
    for index in 0 1 2; do
      printf '%s\n' "[[nic]]" "mac = \"$(mac "$node" $index)\"" "roles = [\"${networks[index]}\"]"
      case ${networks[index]} in
        replication) say "address = \"${replication_ip[$node]}/24\"" ;;
        management) say "address = \"${management_ip[$node]}/24\"" ;;
        export) say "address = \"$(export_ip "$node")/24\"" ;;
        *) ;;
      esac
    done
    [ "$net" != tap ] || printf '%s\n' "[export]" "floating-address = \"${tap_ip[floating]}\""
    for ((volume = 0; volume < volumes; volume++)); do
      printf '%s\n' "[[volume]]" "index = $volume" "serial = \"$node-vol$volume\""
      [ -z "$size" ] || say "size = \"${size}iB\""
      [ "$metadata" = internal ] || say "metadata = { disk = \"$node-md$volume\" }"
      [ "$snapshot" = off ] || printf '%s\n' "snapshot = \"$snapshot\"" "snapshot-reserve = \"${reserve}B\""
    done
  } >"$node.toml"
}

# boot NODE - start its QEMU; it goes to the background once its devices stand, or says what is wrong. io_uring spares
# the hand-over to a thread for every disk request, but not every QEMU and every host has it.
boot() {
  rm -f "$1.console" "$1.qmp"
  launch "$1" io_uring || { lacks_io_uring "$1" && launch "$1" threads; } || die "node $1: $(why_qemu_failed "$1")"
  [ "$accel" = kvm ] || yield_to_devices "$1"
}
lacks_io_uring() { grep -qE 'init linux io_uring ring|io_uring was specified' "$1.err"; }

# yield_to_devices NODE - without acceleration the guest's processor is a thread of QEMU that may keep a core busy; let
# QEMU's own threads, which move its disks' and networks' data, go before it.
yield_to_devices() {
  local task name
  for task in "/proc/$(<"$1.pid")/task"/*; do
    read -r name <"$task/comm" 2>/dev/null || continue
    case $name in
      CPU*) renice -n 10 -p "${task##*/}" >/dev/null 2>&1 || : ;;
      *) ;;
    esac
  done
}

# disk_args NAME SERIAL BACKEND - QEMU's arguments for one disk.
disk_args() { printf '%s\n' -blockdev "node-name=$1,$3" -device "$(device blk),drive=$1,serial=$2,num-queues=1,queue-size=256"; }

# launch NODE AIO
launch() {
  local node=$1 file volume args backend
  mapfile -t args < <(
    tr ' ' '\n' < <(machine_args && accel_args && netdev_args "$node")
    for ((volume = 0; volume < volumes; volume++)); do
      file=driver=raw,discard=unmap,file.driver=file,file.discard=unmap,file.aio=$2,file.filename
      # PALISADE_DISK: other backends for the volumes' disks, for tests; as -blockdev takes them, with the words NODE,
      # VOLUME and IMAGE to be replaced.
      backend=${PALISADE_DISK:-$file=IMAGE}
      backend=${backend//NODE/$node} backend=${backend//VOLUME/$volume} backend=${backend//IMAGE/$(image "$node" "$volume")}
      disk_args "vol$volume" "$node-vol$volume" "$backend"
      [ "$metadata" = internal ] || disk_args "md$volume" "$node-md$volume" "$file=$(metadata_image "$node" "$volume")"
    done
  )
  # PALISADE_QEMU_ARGS: for tests and experiments.
  # shellcheck disable=SC2086 # a list of words
  (
    close_locks
    "${netns[@]}" qemu-system-x86_64 -name "palisade-$tag-$node,debug-threads=on" -nodefaults -no-user-config -display none \
      -m "$mem" -smp "$smp" -kernel "$kernel" -initrd "$node.toml" "${args[@]}" ${PALISADE_QEMU_ARGS:-} \
      -chardev "socket,id=console,path=$node.console,server=on,wait=off,logfile=$node.log,logappend=on" -serial chardev:console \
      -qmp "unix:$node.qmp,server=on,wait=off" -pidfile "$node.pid" -daemonize </dev/null >"$node.err" 2>&1
  )
}

# why_qemu_failed NODE - QEMU's words as one line, with what to do where that is known.
why_qemu_failed() {
  local text
  text=$(grep -v 'module ui-' "$1.err" | tail -n 1 | sed 's/^qemu-system-x86_64: //')
  case $text in
    *'host forwarding rule'*) say "a port of node $1 is in use: choose others with --nbd-ports A,B, --snapshot-ports A,B or --http-ports A,B" ;;
    *'another process using the image'*) say "a disk image is in use by another process: $text" ;;
    *'attempt cancelled by timeout'*) say "no node serves the export; ./run-qemu.sh status$(dir_option) says why, and 'primary' on a node makes it serve" ;;
    *) say "QEMU: ${text:-ended without a word}" ;;
  esac
}

verb_kill() {
  (($# <= 1)) || die "kill takes one node"
  if [ "${1:-}" = arbiter ]; then
    kill_arbiter
    return
  fi
  check_node "${1:-}"
  must_run "$1"
  end_process "$1"
}

verb_start() {
  (($# <= 1)) || die "start takes one node"
  if [ "${1:-}" = arbiter ]; then
    boot_arbiter
    return
  fi
  check_node "${1:-}"
  ! alive "$1" || die "node $1 is running already"
  rm -f "$1.pid"
  check_images
  prepare_net
  # With both nodes gone, the helpers may be gone too.
  if ! alive wire; then start_wires; fi
  if ! alive float; then start_float; fi
  boot "$1"
  open_line "$1.console"
  console_answers 30 || die "node $1 does not answer on its console; its log is $dir/$1.log"
  close_line
}

verb_pause() {
  (($# <= 1)) || die "pause takes one node"
  check_node "${1:-}"
  must_run "$1"
  must_qmp "$1" '{"execute":"stop"}'
}
verb_resume() {
  (($# <= 1)) || die "resume takes one node"
  check_node "${1:-}"
  must_run "$1"
  must_qmp "$1" '{"execute":"cont"}'
}
