#!/bin/sh
# Builds the kernel image: $CARGO_TARGET_DIR/palisade.elf (default target/palisade.elf), and beside it, with symbols
# for addr2line, palisade.debug.elf. Arguments go to cargo. See docs/decisions/0001-host-target-freestanding.md.
#
# The same sources give the same bytes wherever they lie and whoever builds them; tools/reproduce.sh proves it.
set -eu
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}
triple=x86_64-unknown-linux-gnu

# An explicit --target keeps these flags away from build scripts and procedural macros, which run on this machine.
# Panics name source files: the places of this checkout and of cargo's are left out of their names.
separator=$(printf '\037')
flags=
for flag in -Crelocation-model=static -Ccode-model=small -Ctarget-cpu=x86-64-v2 -Cforce-frame-pointers=yes \
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" "--remap-path-prefix=$(pwd -P)=palisade"; do
    flags=$flags${flags:+$separator}$flag
done
CARGO_ENCODED_RUSTFLAGS=$flags cargo build --package kernel --bin kernel --release --target "$triple" "$@"

built=$target_dir/$triple/release/kernel
# See the linker script: the loops that take most of the time must not lie across pages.
for function in memcpy memset replication::crc32c::extend; do
    nm --demangle --print-size "$built" | {
        found=
        while read -r start size _ name; do
            [ "$name" = "$function" ] || continue
            found=1
            [ $((0x$start / 4096)) = $(((0x$start + 0x$size - 1) / 4096)) ] && continue
            echo "build-kernel.sh: $function lies across two pages: see kernel/kernel.ld" >&2
            exit 1
        done
        [ -n "$found" ]
    } || { echo "build-kernel.sh: $function is not where kernel/kernel.ld puts it" >&2; exit 1; }
done

# The commit goes into the finished image: see kernel/src/version.rs.
revision=$(git describe --always --abbrev=12 --exclude='*' --dirty 2>/dev/null || echo unknown)
scratch=$(mktemp -d "$target_dir/revision.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
printf '%s' "$revision" | cut -c 1-47 | tr -d '\n' >"$scratch/revision"
truncate -s 48 "$scratch/revision"
objcopy --update-section ".revision=$scratch/revision" "$built" "$scratch/debug"
strip --strip-all -o "$scratch/image" "$scratch/debug"
mv "$scratch/debug" "$target_dir/palisade.debug.elf"
mv "$scratch/image" "$target_dir/palisade.elf"
