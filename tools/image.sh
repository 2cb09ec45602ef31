# shellcheck shell=bash
# Boot media: an ISO and a disk image with GRUB, each for BIOS and for UEFI (docs/BOOT.md). The same kernel, configuration,
# date and GRUB give the same bytes.

grub_bios=/usr/lib/grub/i386-pc
grub_efi=/usr/lib/grub/x86_64-efi

# Modules that every GRUB here has; nothing is loaded from the medium but grub.cfg, kernel and configuration.
grub_modules=(normal configfile multiboot2 test echo ls cat reboot halt serial terminal search search_fs_file)

# The disk image, in sectors of 512 bytes: GRUB's core in a partition of its own, then a FAT32 that is UEFI's system
# partition too. The last MiB has the second partition table. UUIDs and volume serials are fixed: nothing looks for them.
readonly core_start=34 esp_start=2048 esp_mib=36
readonly core_sectors=$((esp_start - core_start))
readonly disk_mib=$((esp_mib + 2))
readonly disk_id=50414c49-5341-4445-8000-000000000000
readonly fat_serial=50414c49

# image_epoch - the date of everything on the media: SOURCE_DATE_EPOCH, the commit's, or a fixed one.
image_epoch() {
  local epoch=${SOURCE_DATE_EPOCH:-}
  [ -n "$epoch" ] || epoch=$(git -C "$top" log -1 --format=%ct 2>/dev/null) || epoch=946684800
  # FAT's first and last year.
  if ! [[ $epoch =~ ^[0-9]{1,10}$ ]] || ((10#$epoch < 315532800 || 10#$epoch > 4354819199)); then
    die "SOURCE_DATE_EPOCH=$epoch: expected seconds since 1970, from 1980 to 2107"
  fi
  say "$epoch"
}

# grub_config - what GRUB does: boot at once, and leave the configuration out if the medium has none.
grub_config() {
  cat <<'CFG'
if serial --unit=0 --speed=115200; then
  terminal_input serial console
  terminal_output serial console
fi
set timeout=0
set default=0
menuentry 'Palisade' {
  multiboot2 /palisade/palisade.elf
  if [ -s /palisade/node.toml ]; then
    module2 /palisade/node.toml
  fi
}
CFG
}

# patch FILE OFFSET HEX... - bytes over those at OFFSET.
patch() {
  local file=$1 offset=$2
  shift 2
  # shellcheck disable=SC2059 # the format is the bytes
  printf "$(printf '\\x%s' "$@")" | dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
}
# little_endian NUMBER - its eight bytes, for patch.
little_endian() {
  local index
  for ((index = 0; index < 8; index++)); do printf '%02x ' $((($1 >> 8 * index) & 255)); done
}

# fat_copy IMAGE - the payload with its dates into a FAT.
fat_copy() { mmd -i "$1" ::/palisade && mcopy -m -i "$1" payload/palisade/* ::/palisade; }
# fat_loader IMAGE LOADER - UEFI's default loader.
fat_loader() { mmd -i "$1" ::/EFI ::/EFI/BOOT && mcopy -m -i "$1" "$2" ::/EFI/BOOT/BOOTX64.EFI; }

# make_disk OUT - the root is where GRUB was booted from.
make_disk() {
  local out=$1
  grub-mkimage -O i386-pc -d "$grub_bios" -p '(,gpt2)/palisade' -o core.img biosdisk part_gpt fat "${grub_modules[@]}"
  grub-mkimage -O x86_64-efi -d "$grub_efi" -p /palisade -o disk.efi part_gpt fat "${grub_modules[@]}"
  touch -d "@$epoch" disk.efi
  (($(stat -c %s core.img) <= core_sectors * 512)) || die "GRUB's core does not fit in its partition"
  truncate -s $((esp_mib << 20)) esp.img
  mformat -i esp.img -F -H $esp_start -v PALISADE -N $fat_serial -h 64 -s 32 -t $esp_mib ::
  fat_loader esp.img disk.efi
  fat_copy esp.img

  truncate -s $((disk_mib << 20)) "$out"
  sfdisk --quiet --no-reread --no-tell-kernel "$out" <<TABLE
label: gpt
label-id: $disk_id
first-lba: $core_start
start=$core_start, size=$core_sectors, type=21686148-6449-6E6F-744E-656564454649, uuid=${disk_id%0}1, name="BIOS boot"
start=$esp_start, size=$((esp_mib << 11)), type=C12A7328-F81F-11D2-BA4B-00C04FC93B4A, uuid=${disk_id%0}2, name="Palisade"
TABLE
  dd if=esp.img of="$out" bs=1M seek=$((esp_start >> 11)) conv=notrunc,sparse status=none
  # What grub-bios-setup would write, had it not to be root and have a block device: the boot code in front of the
  # partition table with the core's first sector at 0x5c (and, at 0x66, without the test for floppies); in the core's
  # first sector, at 0x1f4, where its second one is (grub-core/boot/i386/pc/{boot,diskboot}.S).
  dd if="$grub_bios/boot.img" of="$out" bs=440 count=1 conv=notrunc status=none
  # shellcheck disable=SC2046 # a list of words
  patch "$out" $((0x5c)) $(little_endian $core_start)
  patch "$out" $((0x66)) 90 90
  # shellcheck disable=SC2046
  patch core.img $((0x1f4)) $(little_endian $((core_start + 1)))
  dd if=core.img of="$out" bs=512 seek=$core_start conv=notrunc status=none
}

# make_iso OUT - under UEFI the root is not where GRUB was booted from (that is a FAT inside the ISO), so it is looked for
# by a file whose name depends on all content: another ISO that has it is the same.
make_iso() {
  local out=$1 id
  id=$(cat payload/palisade/* | sha256sum | cut -c 1-32)
  printf '%s\n' "search.file /palisade/$id root" "set prefix=(\$root)/palisade" >early.cfg
  mkdir -p iso/boot
  cp -p -R payload/palisade iso/
  say "$id" >"iso/palisade/$id"
  grub-mkimage -O i386-pc-eltorito -d "$grub_bios" -c early.cfg -p /palisade -o iso/boot/bios.img biosdisk part_gpt part_msdos iso9660 "${grub_modules[@]}"
  grub-mkimage -O x86_64-efi -d "$grub_efi" -c early.cfg -p /palisade -o iso.efi part_gpt part_msdos iso9660 "${grub_modules[@]}"
  touch -d "@$epoch" iso.efi
  truncate -s 1440K iso/boot/efi.img
  mformat -i iso/boot/efi.img -f 1440 -v PALISADE -N $fat_serial ::
  fat_loader iso/boot/efi.img iso.efi
  find iso -exec touch -h -d "@$epoch" {} +
  # It tells its version whatever it is told.
  xorriso -report_about WARNING -as mkisofs -quiet -o "$out" -r -J -V PALISADE \
    --modification-date="$(date -d "@$epoch" +%Y%m%d%H%M%S00)" --set_all_file_dates set_to_mtime \
    -b boot/bios.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info \
    --grub2-mbr "$grub_bios/boot_hybrid.img" --protective-msdos-label --gpt_disk_guid modification-date \
    -eltorito-alt-boot -e boot/efi.img -no-emul-boot -efi-boot-part --efi-boot-image iso 2>xorriso.err ||
    die "xorriso: $(tail -n 3 xorriso.err)"
}

verb_image() {
  local epoch scratch symbols file files=(palisade.elf)
  [ -z "$config" ] || [ -f "$config" ] || die "--config $config: no such file"
  [ -z "$config" ] || [ -r "$config" ] || die "--config $config: not readable for $(id -un)"
  if [ -n "$config" ] && { [ ! -s "$config" ] || (($(stat -Lc %s "$config") > 65536)); }; then
    die "--config $config: expected 1 to 65536 bytes of TOML (docs/CONFIG.md)"
  fi
  epoch=$(image_epoch)
  need grub-mkimage xorriso mformat mmd mcopy sfdisk "$grub_bios/boot.img" "$grub_efi/multiboot2.mod"
  kernel_ready
  mkdir -p "$out" || die "cannot make the directory $out"
  out=$(cd "$out" && pwd -P)
  [ -z "$config" ] || config=$(realpath "$config")
  # Beside the result, so that the last step is a rename.
  scratch=$(mktemp -d "$out/image.XXXXXX")
  # shellcheck disable=SC2064 # now, not then
  trap "rm -rf '$scratch'" EXIT
  cd "$scratch" || exit 1
  umask 022
  export TZ=UTC LC_ALL=C SOURCE_DATE_EPOCH=$epoch MTOOLS_SKIP_CHECK=1
  mkdir -p payload/palisade
  cp "$kernel" payload/palisade/palisade.elf
  grub_config >payload/palisade/grub.cfg
  [ -z "$config" ] || cp "$config" payload/palisade/node.toml
  chmod 644 payload/palisade/*
  touch -d "@$epoch" payload/palisade/*
  make_disk disk
  make_iso iso.out
  mv disk "$out/palisade.img"
  mv iso.out "$out/palisade.iso"
  install -m 644 payload/palisade/palisade.elf "$out/"
  symbols=${kernel%.elf}.debug.elf
  rm -f "$out/palisade.debug.elf"
  if [ -f "$symbols" ]; then
    install -m 644 "$symbols" "$out/palisade.debug.elf"
    files+=(palisade.debug.elf)
  fi
  (cd "$out" && sha256sum "${files[@]}" palisade.img palisade.iso >SHA256SUMS)
  say "In $out:"
  for file in palisade.iso palisade.img "${files[@]}" SHA256SUMS; do say "  $file"; done
  [ -n "$config" ] ||
    say "The media have no configuration and will serve nothing. Give --config, or put one on the disk image:
  mcopy -o -i $out/palisade.img@@$((esp_start * 512)) node.toml ::/palisade/"
}
