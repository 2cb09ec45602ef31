#!/usr/bin/env bash
# Coverage-guided fuzzing on the stable toolchain (docs/TESTING.md, "Fuzzing").
#
#     ./fuzz.sh list               the targets
#     ./fuzz.sh TARGET [SECONDS]   fuzz one (default 60 s), then fold what it found into fuzz/corpus
#     ./fuzz.sh all [SECONDS]      each in turn
#     ./fuzz.sh TARGET FILE        run one input, to see how it fails
#
# An input that fails is made small and kept in fuzz/crashes/TARGET, where `cargo test -p fuzz` tries it from
# then on; the run ends with 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tools/lib.sh
. tools/lib.sh
warn() { printf 'fuzz: %s\n' "$*" >&2; }

usage() { die "usage: ./fuzz.sh list | ./fuzz.sh TARGET|all [SECONDS] | ./fuzz.sh TARGET FILE"; }
# The corpus of a target that goes into the repository, in bytes at most.
corpus_max=$((128 << 10))

build() {
  need c++
  local host
  host=$(rustc -vV | sed -n 's/^host: //p')
  # LLVM's coverage instrumentation is in the stable compiler; only cargo-fuzz's way to it is not. With
  # --target, build scripts are left alone.
  local flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
  flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
  flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
  RUSTFLAGS="$flags" cargo build --quiet -p fuzz --features libfuzzer --profile fuzz --target "$host"
  fuzzer=${CARGO_TARGET_DIR:-target}/$host/fuzz/palisade-fuzz
}

targets() { sed -n 's/^ *name: "\(.*\)",$/\1/p' fuzz/src/*.rs | sort; }

# run TARGET ARGUMENT... - the fuzzer, politely.
run() { FUZZ_TARGET=$1 nice -n 15 "$fuzzer" "${@:2}"; }

# The last number that the fuzzer's log gives for a name: figure cov LOG.
figure() { grep -oE "\b$1: [0-9]+" "$2" | tail -n 1 | grep -oE '[0-9]+$' || say 0; }

# shrink TARGET - the crashes that are new become as small as ten seconds allow.
shrink() {
  local found small
  for found in "$work/crashes/$1"/*; do
    [ -e "$found" ] || continue
    mkdir -p "fuzz/crashes/$1"
    small=fuzz/crashes/$1/$(basename "$found")
    cp "$found" "$small"
    # What hangs or eats memory would do so again with every attempt.
    case $small in
      */crash-*)
        run "$1" -minimize_crash=1 -max_total_time=10 -exact_artifact_path="$work/small" "$found" >/dev/null 2>&1 || :
        [ ! -s "$work/small" ] || mv "$work/small" "$small"
        ;;
    esac
    warn "$1 fails: ./fuzz.sh $1 $small"
  done
}

# fold TARGET DIRECTORY... - the least inputs that cover what all of these cover become the corpus.
fold() {
  local new=$work/new/$1 file total=0
  rm -rf "$new" && mkdir -p "$new"
  run "$1" -set_cover_merge=1 -use_counters=0 "$new" "${@:2}" >"$work/$1.merge" 2>&1 || die "the corpora of $1 do not merge: $work/$1.merge"
  rm -rf "fuzz/corpus/$1" && mkdir -p "fuzz/corpus/$1"
  # Small ones first, as far as they fit.
  while read -r size file; do
    total=$((total + size))
    [ "$total" -le "$corpus_max" ] || break
    cp "$file" "fuzz/corpus/$1/"
  done < <(find "$new" -type f -printf '%s %p\n' | sort -n)
}

fuzz() {
  local target=$1 seconds=$2 log status=0
  log=$work/$target.log
  rm -rf "${work:?}/crashes/$target" "$work/seeds/$target"
  mkdir -p "$work/corpus/$target" "$work/seeds/$target" "$work/crashes/$target" "fuzz/corpus/$target"
  # What was found earlier on this machine and what the repository has; the seeds are written by the fuzzer.
  FUZZ_SEEDS=$work/seeds/$target run "$target" -max_total_time="$seconds" -print_final_stats=1 -timeout=120 -report_slow_units=60 \
    -rss_limit_mb=1024 -use_value_profile=1 -reload=0 -artifact_prefix="$work/crashes/$target/" \
    "$work/corpus/$target" "fuzz/corpus/$target" "$work/seeds/$target" >"$log" 2>&1 || status=1
  [ "$status" = 0 ] || shrink "$target"
  local crashes
  crashes=$(find "$work/crashes/$target" -type f | wc -l)
  [ "$crashes" != 0 ] || [ "$status" = 0 ] || die "$target did not run: see $log"
  [ "$crashes" != 0 ] || fold "$target" "$work/corpus/$target" "fuzz/corpus/$target" "$work/seeds/$target"
  say "$(date -u +%F) $target: $seconds s, $(figure stat::number_of_executed_units "$log") runs, $(figure cov "$log") edges, $(figure ft "$log") features, $crashes crashes" |
    tee -a "$work/results"
  return "$status"
}

(($# == 1 || $# == 2)) || usage
what=$1 argument=${2:-60}
if [ "$what" = list ]; then
  targets
  exit
fi
[ "$what" = all ] || targets | grep -qx -- "$what" || die "no target '$what': ./fuzz.sh list"
build
work=$(mkdir -p target/fuzz && realpath target/fuzz)
if [ -e "$argument" ]; then
  run "$what" "$argument"
  exit
fi
[[ $argument =~ ^[0-9]+$ ]] || usage
failed=0
if [ "$what" = all ]; then
  for target in $(targets); do fuzz "$target" "$argument" || failed=1; done
else
  fuzz "$what" "$argument" || failed=1
fi
exit $failed
