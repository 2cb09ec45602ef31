# shellcheck shell=bash
# Talking to a node: its serial console (interactive, and the machine mode behind `exec`) and QEMU's monitor.

# A node's serial line takes one client at a time. Whoever uses it holds NODE.lock; the interactive console
# writes its name into the lock file, so that `exec` can say what is in the way.
lock_console() {
  local holder=
  exec {console_lock}>>"$1.lock"
  flock -n "$console_lock" && return
  read -r holder <"$1.lock" || :
  [ "$holder" != console ] || die "the console of $1 is in use by './run-qemu.sh console $1': leave that first (Ctrl-])"
  flock -w 60 "$console_lock" || die "the console of $1 was busy for 60 s with another command"
}
unlock_console() { exec {console_lock}>&-; }

# open_line SOCKET / close_line - a two-way connection to a unix socket: read from fd $from, write to fd $to.
open_line() {
  coproc LINE { exec socat -t 0 - "UNIX-CONNECT:$1" 2>/dev/null; }
  line_process=$LINE_PID
  exec {from}<&"${LINE[0]}" {to}>&"${LINE[1]}"
}
close_line() {
  exec {to}>&- {from}<&-
  kill "$line_process" 2>/dev/null || :
  wait "$line_process" 2>/dev/null || :
}

# The machine mode: \x01ID COMMAND\r is answered by \x02ID, the output's lines, and \x03ID STATUS.
# send_command COMMAND - returns its ID in $sent.
command_count=0
send_command() {
  sent=$(printf 'x%x' $(((BASHPID * 1000 + command_count++) & 0xffffff)))
  { printf '\001%s %s\r' "$sent" "$1" >&"$to"; } 2>/dev/null
}

# await SECONDS MARK - read lines up to the one that ends in MARK (which may have an argument: in $mark_value);
# those before it are left in the array $lines. 1 when time is up or the line is closed.
await() {
  local end=$((${EPOCHREALTIME/./} + $(seconds_to_us "$1"))) line left
  lines=() mark_value=
  while :; do
    left=$((end - ${EPOCHREALTIME/./}))
    ((left > 0)) || return 1
    IFS= read -r -t "$(printf '%d.%06d' $((left / 1000000)) $((left % 1000000)))" line <&"$from" || return 1
    line=${line%$'\r'}
    case $line in
      *"$2") return 0 ;;
      *"$2 "*)
        mark_value=${line##*"$2 "}
        return 0
        ;;
      *) lines+=("$line") ;;
    esac
  done
}
seconds_to_us() {
  local whole=${1%.*} part=000000
  [ "$whole" = "$1" ] || part=$(printf '%-6s' "${1#*.}" | tr ' ' 0)
  printf '%s' $((10#${whole:-0} * 1000000 + 10#${part:0:6}))
}

# run_command COMMAND SECONDS - over the open line: output in $lines, status in $mark_value. 1: no answer.
run_command() {
  send_command "$1" || return 1
  await 5 $'\002'"$sent" && await "$2" $'\003'"$sent"
}

# console_answers SECONDS - wait for the console of the open line, which was opened before the kernel ran, to come
# up. What is written to a UART before the kernel has set it up is lost or torn: so wait for the banner, and in
# case that there is none ask again and again with something harmless.
console_answers() {
  local end=$(($(now_ms) + $(seconds_to_us "$1") / 1000))
  await_words 2 'Type help' || :
  while (($(now_ms) < end)); do
    send_command version || return 1
    if await 0.5 $'\002'"$sent"; then
      await 5 $'\003'"$sent"
      return
    fi
  done
  return 1
}
# await_words SECONDS WORDS - read the open line until a line has WORDS; 1 when time is up.
await_words() {
  local line end=$(($(now_ms) + $1 * 1000))
  while (($(now_ms) < end)); do
    IFS= read -r -t "$1" line <&"$from" || return 1
    case $line in *"$2"*) return 0 ;; *) ;; esac
  done
  return 1
}

verb_exec() {
  check_node "${1:-}"
  (($# == 2)) || die "exec takes a node and one command: ./run-qemu.sh exec a 'status'"
  [[ $2 != *[$'\001'-$'\037']* ]] || die "a console command has no control characters"
  need socat flock
  must_run "$1"
  lock_console "$1"
  open_line "$1.console"
  if ! run_command "$2" "${PALISADE_EXEC_SECONDS:-60}"; then
    close_line
    must_run "$1"
    [ "$(qmp_state "$1")" != paused ] || die "node $1 is paused: ./run-qemu.sh resume $1$(dir_option)"
    die "node $1 does not answer on its console; its log is $dir/$1.log"
  fi
  close_line
  if [ "$mark_value" = 0 ]; then
    ((${#lines[@]} == 0)) || printf '%s\n' "${lines[@]}"
  else
    ((${#lines[@]} == 0)) || printf '%s\n' "${lines[@]}" >&2
    exit 1
  fi
}

verb_console() {
  check_node "${1:-}"
  need socat flock
  must_run "$1"
  [ -t 0 ] || die "the console wants a terminal; for one command: ./run-qemu.sh exec $1 'COMMAND'"
  lock_console "$1"
  printf 'console\n' >"$1.lock"
  say "Console of node $1. Leave with Ctrl-] (the node goes on); 'help' lists the commands."
  socat "-,raw,echo=0,escape=0x1d" "UNIX-CONNECT:$1.console" || :
  : >"$1.lock"
  say
}

# qmp NODE REQUEST - one request to QEMU's monitor; its answer on stdout, 1 when it is an error.
qmp() (
  open_line "$1.qmp"
  trap close_line EXIT
  printf '{"execute":"qmp_capabilities"}\n%s\n' "$2" >&"$to"
  local line answers=0
  while IFS= read -r -t 10 line <&"$from"; do
    case $line in
      *'"return"'*) ((++answers < 2)) || { say "$line" && exit 0; } ;;
      *'"error"'*) say "$line" && exit 1 ;;
      *) ;;
    esac
  done
  exit 1
)
must_qmp() {
  local answer
  answer=$(qmp "$1" "$2") || die "QEMU of node $1 refused: ${answer:-no answer}"
}
qmp_state() { qmp "$1" '{"execute":"query-status"}' | grep -o '"status": *"[a-z-]*"' | cut -d'"' -f4; }
