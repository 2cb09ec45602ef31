#!/bin/sh
# Builds the kernel image: $CARGO_TARGET_DIR/palisade.elf (default target/palisade.elf), and beside it, with symbols
# for addr2line, palisade.debug.elf. Arguments go to cargo. See docs/decisions/0001-host-target-freestanding.md.
set -eu
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}
triple=x86_64-unknown-linux-gnu

# An explicit --target keeps these flags away from build scripts and procedural macros, which run on this machine.
RUSTFLAGS="-C relocation-model=static -C code-model=small -C target-cpu=x86-64-v2 -C force-frame-pointers=yes" \
    cargo build --package kernel --bin kernel --release --target "$triple" "$@"

built=$target_dir/$triple/release/kernel
cp "$built" "$target_dir/palisade.debug.elf"
strip --strip-all -o "$target_dir/palisade.elf.new" "$built"
mv "$target_dir/palisade.elf.new" "$target_dir/palisade.elf"
