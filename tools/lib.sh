# shellcheck shell=bash
# Shared by ../run-qemu.sh's parts: messages, tools, the pair's directory, its saved settings and processes.

# The checkout, and the image that boots (PALISADE_KERNEL: another one, never built here).
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kernel=$(realpath -m "${PALISADE_KERNEL:-$top/target/palisade.elf}")

say() { printf '%s\n' "$*"; }
warn() { printf 'run-qemu: %s\n' "$*" >&2; }
die() {
  warn "$*"
  exit 1
}

# An ordinary user's PATH on Debian has no tools of the system.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# pause SECONDS - a sleep without a process.
exec {never}<> <(:)
pause() { read -r -t "$1" -u "$never" || :; }

# now_ms - milliseconds, for deadlines and the times that are printed.
now_ms() { printf '%s' "$((${EPOCHREALTIME/./} / 1000))"; }

# wait_until MILLISECONDS COMMAND... - run COMMAND every 10 ms until it succeeds; 1 when time is up.
wait_until() {
  local end=$(($(now_ms) + $1))
  shift
  until "$@"; do
    (($(now_ms) < end)) || return 1
    pause 0.01
  done
}

# The package that brings a tool or a file, on Debian and Ubuntu.
package_of() {
  case $1 in
    qemu-system-x86_64) say qemu-system-x86 ;;
    qemu-img | qemu-io) say qemu-utils ;;
    nbdinfo | nbdcopy) say libnbd-bin ;;
    ip) say iproute2 ;;
    busybox) say busybox-static ;;
    mke2fs | e2fsck) say e2fsprogs ;;
    modprobe) say kmod ;;
    flock) say util-linux ;;
    cc) say gcc ;;
    c++) say g++ ;;
    strip | objcopy | nm) say binutils ;;
    grub-mkimage) say grub-common ;;
    */grub/i386-pc/*) say grub-pc-bin ;;
    */grub/x86_64-efi/*) say grub-efi-amd64-bin ;;
    */OVMF/*) say ovmf ;;
    mformat | mmd | mcopy) say mtools ;;
    sfdisk) say fdisk ;;
    virt-xml-validate) say libvirt-clients libxml2-utils ;;
    systemd-analyze) say systemd ;;
    etcd) say etcd-server ;;
    promtool) say prometheus ;;
    chromedriver) say chromium chromium-driver ;;
    /usr/lib/drbd/*) say drbd-utils ;;
    *) say "$1" ;;
  esac
}

# need TOOL|/FILE... - each must be there: installed when run as root, otherwise named with the exact command.
need() {
  local tool missing=()
  for tool; do
    command -v "$tool" >/dev/null || [[ $tool = /* && -e $tool ]] || missing+=("$(package_of "$tool")")
  done
  ((${#missing[@]})) || return 0
  local command="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    warn "installing what is missing: $command"
    # shellcheck disable=SC2086 # the command is a list of words
    if { DEBIAN_FRONTEND=noninteractive $command || { apt-get update && DEBIAN_FRONTEND=noninteractive $command; }; } >/dev/null 2>&1; then
      return 0
    fi
  fi
  die "missing: ${missing[*]}. Install with: sudo $command"
}

check_node() {
  case ${1:-} in
    a | b) ;;
    '') die "which node? a or b" ;;
    *) die "no node '$1': the nodes are a and b" ;;
  esac
}

# use_dir - enter the pair's directory. Everything in it is used by relative names from here on: the path of
# a unix socket may have 107 bytes at most, and DIR may be long.
use_dir() {
  [ -d "$dir" ] || die "no pair in $dir: start one with ./run-qemu.sh up --dir $dir"
  cd "$dir" || die "cannot enter $dir"
  dir=$(pwd -P)
  tag=$(printf '%s' "$dir" | sha256sum | cut -c1-8)
}

# use_net - once the settings are known: how to run something where the export's addresses are.
use_net() {
  netns=()
  [ "$net" != tap ] || netns=(ip netns exec "palisade-$tag")
}

# The pair's settings, written by `up` and read by every later verb.
settings=(size volumes mem accel machine port_a port_b http_a http_b net policy arbiter auto_promote notify smp metadata integrity snapshot reserve snapshot_a snapshot_b)
save_settings() {
  local name
  for name in "${settings[@]}"; do printf '%s=%q\n' "$name" "${!name}"; done >pair.settings
}
load_settings() {
  [ -f pair.settings ] || die "no pair was started in $dir: ./run-qemu.sh up --dir $dir"
  # shellcheck disable=SC1091 # written by save_settings
  . ./pair.settings
  use_net
}

# process_of NAME - the pid in NAME.pid if that process is still ours: pids are used again by others. Ours
# carry the directory's tag in their command line or environment.
process_of() {
  local pid
  [ -s "$1.pid" ] && read -r pid <"$1.pid" || return 1
  grep -qazF "palisade-$tag" "/proc/$pid/cmdline" "/proc/$pid/environ" 2>/dev/null && say "$pid"
}
alive() { process_of "$1" >/dev/null; }
must_run() { alive "$1" || die "node $1 is not running: ./run-qemu.sh start $1$(dir_option)"; }

# dir_option - how to name this pair in a command that is printed: nothing for the default directory.
dir_option() { [ "$dir" = "$(cd "$top" && pwd -P)/run" ] || printf ' --dir %s' "$dir"; }

# spawn NAME COMMAND... - a helper process of the pair, in the background and in NAME.pid. It must not keep our
# locks open. What it says on its standard output goes to the file $log, if that is set.
spawn() {
  local name=$1
  shift
  (
    close_locks
    export PALISADE=palisade-$tag
    printf '%s\n' "$BASHPID" >"$name.pid"
    exec "${netns[@]}" setsid "$@" </dev/null >>"${log:-/dev/null}" 2>"$name.err"
  ) &
  disown
}
close_locks() {
  [ -z "${up_lock:-}" ] || exec {up_lock}>&-
  [ -z "${console_lock:-}" ] || exec {console_lock}>&-
}

# gone PID / end_process NAME - stop one of ours at once, as a power cut does, and wait until it is gone.
gone() { ! kill -0 "$1" 2>/dev/null || [ "$(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null)" = Z ]; }
end_process() {
  local pid
  if pid=$(process_of "$1"); then
    kill -9 "$pid" 2>/dev/null || :
    wait_until 5000 gone "$pid" || die "process $pid of $dir does not end"
  fi
  rm -f "$1.pid"
}
