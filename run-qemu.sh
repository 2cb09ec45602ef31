#!/usr/bin/env bash
# Palisade's front door: builds the image, boots the pair under QEMU, and drives it. `./run-qemu.sh help` tells how.
set -euo pipefail
trap '' PIPE

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/lib.sh
. "$here/tools/lib.sh"
# shellcheck source=tools/net.sh
. "$here/tools/net.sh"
# shellcheck source=tools/arbiter.sh
. "$here/tools/arbiter.sh"
# shellcheck source=tools/console.sh
. "$here/tools/console.sh"
# shellcheck source=tools/node.sh
. "$here/tools/node.sh"
# shellcheck source=tools/pair.sh
. "$here/tools/pair.sh"
# shellcheck source=tools/guest.sh
. "$here/tools/guest.sh"
# shellcheck source=tools/image.sh
. "$here/tools/image.sh"

usage() {
  cat <<'TEXT'
./run-qemu.sh                      build if needed, boot the pair, wait until NBD answers; Ctrl-C stops all
./run-qemu.sh build                build the kernel alone: target/palisade.elf
./run-qemu.sh up --detach          the same as without a verb, but leave the pair running
    --size 1G          of each new disk (existing ones keep theirs)
    --volumes N        1 to 5 volumes (default 1)
    --mem 64M          memory of each node
    --smp N            processors of each node (default 1; one is used)
    --accel auto|kvm|tcg
    --machine q35|pc|microvm
    --nbd-ports A,B    host ports of the two exports (default 10809,10810)
    --http-ports A,B   the nodes' web servers (docs/HTTP.md), and host ports for them (default: none)
    --http-token T     who shows it to a web server may give commands (default: nobody may)
    --net user|tap     tap needs root: bridges and offloads in a network namespace
    --policy dont-care|resource-only|resource-and-stonith
                       fencing policy; with the latter two, palisade-arbiter is started too (docs/FENCING.md)
    --no-arbiter       the nodes ask nobody but each other
    --fence-timeout 30s
                       how long a fence may take before the pair's policy for that follows
    --auto-promote     a client that connects is reason enough for a node to become Primary, if it may
    --notify           the nodes have the arbiter run DRBD's handlers, which its configuration names (docs/ARBITER.md)
    --timeout 6s       a peer that was silent for so long is lost
    --metadata internal|external
                       at the end of each volume's disk (default), or on a small disk of its own
    --snapshot off|best-effort|required
                       what a resync overwrites is kept until it has ended (docs/RESYNC.md), and exported read-only
    --reserve 30M      room for that beside each new volume (default: enough for all of it)
    --snapshot-ports A,B
                       host ports of the snapshots' exports (default 10819,10820)
    --integrity crc32c|aes-256-gcm|chacha20-poly1305
                       of the link between the nodes; the latter two get a new random secret at every up
./run-qemu.sh exec NODE 'COMMAND'  one console command: output on stdout, exit 0, or 1 and the error
./run-qemu.sh console NODE         the serial console, interactive
./run-qemu.sh kill|start|pause|resume NODE        power cut, boot, freeze, thaw
./run-qemu.sh kill|start arbiter
./run-qemu.sh arbiter list|journal|...            a command of palisade-arbiter (docs/ARBITER.md)
./run-qemu.sh link cut|restore replication|management|export [NODE]
./run-qemu.sh link cut|restore peers              the management network between the nodes, but not to the arbiter
./run-qemu.sh grow --size SIZE [--volume N]
                                   enlarge both nodes' disks of a volume, for 'resize volN' on the console
./run-qemu.sh guest [--run 'COMMAND'] [--volume N]
                                   a Linux guest with the export as its virtio-blk disk /dev/vda
./run-qemu.sh image                build boot media for BIOS and UEFI: an ISO and a disk image with GRUB (docs/BOOT.md)
    --config FILE      the node's TOML, put beside the kernel
    --out DIR          where to (default target/image)
./run-qemu.sh status
./run-qemu.sh down                 stop everything; disks, configurations and logs stay

Nodes are a and b, the resource r0, the exports vol0, vol1, ... Every verb but build and image takes --dir DIR (default ./run).
TEXT
}

verb=up
case ${1:-} in
  -h | --help | help)
    usage
    exit 0
    ;;
  '' | --*) ;;
  *)
    verb=$1
    shift
    ;;
esac

case $verb in
  arbiter | build | image | up | exec | console | kill | start | pause | resume | link | grow | guest | status | down) ;;
  *) die "no verb '$verb': ./run-qemu.sh help lists them" ;;
esac

dir=$here/run detach='' size='' volumes=1 mem=64M smp=1 accel=auto machine=q35 port_a=10809 port_b=10810 http_a='' http_b='' http_token='' net=user policy=dont-care arbiter=1 auto_promote='' notify='' fence_timeout=30s peer_timeout=6s metadata=internal integrity=crc32c snapshot=off reserve=0 snapshot_a=10819 snapshot_b=10820
guest_command='' guest_volume=0 grow_size='' grow_volume=0 config='' out=$here/target/image
arguments=()

# one_of OPTION VALUE CHOICE... - the value must be one of the choices.
one_of() {
  local option=$1 value=$2 choice
  shift 2
  for choice; do [ "$value" != "$choice" ] || return 0; done
  die "$option $value: expected one of $*"
}
# whole OPTION VALUE LEAST MOST - the value must be a whole number within limits.
whole() {
  if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then die "$1 $2: expected a whole number from $3 to $4"; fi
}
# duration OPTION VALUE - the value must look like one; the nodes know the limits.
duration() {
  [[ $2 =~ ^[0-9]{1,6}(ms|s|min)$ ]] || die "$1 $2: expected a time like 500ms, 6s or 2min"
}
# two_ports OPTION VALUE EXAMPLE - the value must be two ports that differ; they are in ports then.
two_ports() {
  IFS=, read -ra ports <<<"$2"
  [[ $2 =~ ^[0-9]{1,5},[0-9]{1,5}$ ]] || die "$1 $2: expected two ports, like $3"
  whole "$1" "${ports[0]}" 1 65535 && whole "$1" "${ports[1]}" 1 65535
  ((ports[0] != ports[1])) || die "$1 $2: the two ports must differ"
}

take_option() {
  local amount
  case $verb:$1 in
    build:--dir | image:--dir) die "$verb has no option $1: ./run-qemu.sh help" ;;
    *:--dir)
      [ -n "$2" ] || die "--dir takes a directory"
      dir=$2
      ;;
    up:--size | grow:--size)
      amount=$(bytes "$2")
      if ((${amount:-0} < 1 << 20 || amount % 4096)); then die "--size $2: expected a size like 512M or 1G, at least 1M"; fi
      if [ "$verb" = grow ]; then grow_size=$2; else size=$2; fi
      ;;
    up:--volumes) whole "$1" "$2" 1 5 && volumes=$2 ;;
    up:--mem)
      amount=$(bytes "$2")
      if ((${amount:-0} < 32 << 20 || amount > 16 << 30)); then die "--mem $2: expected 32M to 16G"; fi
      mem=$2
      ;;
    up:--smp) whole "$1" "$2" 1 4 && smp=$2 ;;
    up:--accel) one_of "$1" "$2" auto kvm tcg && accel=$2 ;;
    up:--machine) one_of "$1" "$2" q35 pc microvm && machine=$2 ;;
    up:--net) one_of "$1" "$2" user tap && net=$2 ;;
    up:--policy) one_of "$1" "$2" dont-care resource-only resource-and-stonith && policy=$2 ;;
    up:--fence-timeout) duration "$1" "$2" && fence_timeout=$2 ;;
    up:--timeout) duration "$1" "$2" && peer_timeout=$2 ;;
    # Words of palisade-arbiter.
    arbiter:--timeout | arbiter:--address) arguments+=("$1" "$2") ;;
    up:--metadata) one_of "$1" "$2" internal external && metadata=$2 ;;
    up:--integrity) one_of "$1" "$2" crc32c aes-256-gcm chacha20-poly1305 && integrity=$2 ;;
    up:--nbd-ports) two_ports "$1" "$2" 10809,10810 && port_a=${ports[0]} port_b=${ports[1]} ;;
    up:--http-ports) two_ports "$1" "$2" 7791,7792 && http_a=${ports[0]} http_b=${ports[1]} ;;
    up:--http-token)
      [[ $2 =~ ^[A-Za-z0-9._~+/=-]{16,128}$ ]] || die "--http-token: expected 16 to 128 letters, digits and . _ ~ + / = -"
      http_token=$2
      ;;
    up:--snapshot-ports) two_ports "$1" "$2" 10819,10820 && snapshot_a=${ports[0]} snapshot_b=${ports[1]} ;;
    up:--snapshot) one_of "$1" "$2" off best-effort required && snapshot=$2 ;;
    up:--reserve)
      amount=$(bytes "$2")
      if ((${amount:-0} < 1 << 20 || amount % 4096)); then die "--reserve $2: expected a size like 30M or 1G, at least 1M"; fi
      reserve=$amount
      ;;
    image:--config)
      [ -n "$2" ] || die "--config takes a file"
      config=$2
      ;;
    image:--out)
      [ -n "$2" ] || die "--out takes a directory"
      out=$2
      ;;
    guest:--run) guest_command=$2 ;;
    grow:--volume) whole "$1" "$2" 0 15 && grow_volume=$2 ;;
    guest:--volume) whole "$1" "$2" 0 15 && guest_volume=$2 ;;
    *) die "$verb has no option $1: ./run-qemu.sh help" ;;
  esac
}

while (($#)); do
  case $1 in
    --detach)
      [ "$verb" = up ] || die "$verb has no option --detach: ./run-qemu.sh help"
      detach=1
      shift
      ;;
    --yes | --json)
      # Words of palisade-arbiter.
      [ "$verb" = arbiter ] || die "$verb has no option $1: ./run-qemu.sh help"
      arguments+=("$1")
      shift
      ;;
    --no-arbiter)
      [ "$verb" = up ] || die "$verb has no option --no-arbiter: ./run-qemu.sh help"
      arbiter=''
      shift
      ;;
    --notify)
      [ "$verb" = up ] || die "$verb has no option --notify: ./run-qemu.sh help"
      notify=1
      shift
      ;;
    --auto-promote)
      [ "$verb" = up ] || die "$verb has no option --auto-promote: ./run-qemu.sh help"
      auto_promote=1
      shift
      ;;
    --)
      shift
      arguments+=("$@")
      break
      ;;
    --*)
      (($# >= 2)) || die "$1 takes a value: ./run-qemu.sh help"
      take_option "$1" "$2"
      shift 2
      ;;
    *)
      arguments+=("$1")
      shift
      ;;
  esac
done

case $verb in
  build | image | up)
    ((${#arguments[@]} == 0)) || die "$verb takes no argument '${arguments[0]}': ./run-qemu.sh help"
    ;;
  *)
    use_dir
    load_settings
    ;;
esac
"verb_$verb" "${arguments[@]}"
