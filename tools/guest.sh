# shellcheck shell=bash
# A real Linux guest whose virtio-blk disk is the export: Debian's or Ubuntu's kernel and an initramfs of
# busybox, the modules for virtio and ext4, and e2fsprogs.

# find_linux - sets $linux to the newest kernel whose modules are here, the small cloud ones first.
find_linux() {
  local pattern candidate
  linux=
  for pattern in '*cloud*' '*'; do
    # shellcheck disable=SC2086 # a pattern
    for candidate in /boot/vmlinuz-$pattern; do
      [ -d "/lib/modules/${candidate#/boot/vmlinuz-}" ] && linux=${candidate#/boot/vmlinuz-}
    done
    [ -z "$linux" ] || break
  done
}

need_linux() {
  local package=linux-image-cloud-amd64
  grep -qw ubuntu /etc/os-release && package='linux-image-virtual'
  find_linux
  if [ -z "$linux" ] && [ "$(id -u)" = 0 ]; then
    warn "installing what is missing: apt-get install -y --no-install-recommends $package"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $package >/dev/null 2>&1 || :
    find_linux
  fi
  [ -n "$linux" ] || die "the guest needs a Linux kernel with its modules. Install with: sudo apt-get install -y --no-install-recommends $package"
  [ -r "/boot/vmlinuz-$linux" ] || die "/boot/vmlinuz-$linux is not readable for $(id -un): sudo chmod +r /boot/vmlinuz-$linux"
}

# build_initramfs FILE - the guest's root.
build_initramfs() {
  local root=$1.root file module
  rm -rf "$root"
  mkdir -p "$root"/{bin,sbin,proc,sys,dev,tmp,mnt,etc}
  cp "$(command -v busybox)" "$root/bin/busybox"
  for file in mke2fs e2fsck tune2fs; do
    file=$(command -v $file)
    cp -L "$file" "$root/sbin/"
    ldd "$file" | grep -o '/[^ ]*' | while read -r file; do
      mkdir -p "$root$(dirname "$file")"
      cp -Ln "$file" "$root$file"
    done
  done
  ln -s mke2fs "$root/sbin/mkfs.ext4"
  ln -s e2fsck "$root/sbin/fsck.ext4"
  ln -s /proc/mounts "$root/etc/mtab"
  for module in virtio_pci virtio_blk ext4; do
    modprobe -S "$linux" --show-depends $module | awk '$1 == "insmod" { print $2 }'
  done | awk '!seen[$0]++' >"$root/modules"
  # crc32c is what ext4 asks the kernel's crypto for at mount time, not a dependency that modprobe knows.
  modprobe -S "$linux" --show-depends crc32c_generic 2>/dev/null | awk '$1 == "insmod" { print $2 }' >>"$root/modules" || :
  while read -r file; do
    mkdir -p "$root$(dirname "$file")"
    cp "$file" "$root$file"
  done <"$root/modules"
  cp "$top/tools/guest-init.sh" "$root/init"
  chmod +x "$root/init"
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$1.new"
  mv "$1.new" "$1"
  rm -rf "$root"
}

verb_guest() {
  local initrd=$top/target/guest/initrd console code
  ((${#} == 0)) || die "guest takes no argument '$1'; a command for it: --run 'COMMAND'"
  ((guest_volume < volumes)) || die "there is no vol$guest_volume: the pair has $volumes volume(s)"
  need qemu-system-x86_64 busybox cpio mke2fs e2fsck modprobe
  need_linux
  if ! alive a && ! alive b; then die "neither node is running: ./run-qemu.sh up$(dir_option)"; fi
  ! alive guest || die "a guest is running already (process $(process_of guest))"
  initrd+=-$linux
  mkdir -p "$top/target/guest"
  if [ ! -s "$initrd" ] || [ "$top/tools/guest.sh" -nt "$initrd" ] || [ "$top/tools/guest-init.sh" -nt "$initrd" ]; then
    say "Building the guest's initramfs ..." >&2
    build_initramfs "$initrd"
  fi
  pick_accel
  rm -f guest.log
  cp "$initrd" guest.initrd
  if [ -n "$guest_command" ]; then
    # The kernel unpacks archives that are put behind each other.
    mkdir -p guest.job
    printf '%s\n' "$guest_command" >guest.job/job
    (cd guest.job && printf 'job\n' | cpio -o -H newc --quiet | gzip -1) >>guest.initrd
    rm -r guest.job
    # Kernel messages go to the log, the command's output here.
    console=(-serial file:guest.log -chardev "stdio,id=job,signal=off" -serial chardev:job)
  else
    say "A Linux guest; its disk /dev/vda is vol$guest_volume. 'poweroff' or Ctrl-A X ends it."
    console=(-chardev "stdio,id=tty,mux=on,signal=off,logfile=guest.log" -serial chardev:tty -mon chardev=tty)
  fi
  local args
  mapfile -t args < <(accel_args | tr ' ' '\n')
  code=0
  qemu-system-x86_64 -name "palisade-$tag-guest" -M q35,vmport=off -nodefaults -no-user-config -display none -no-reboot \
    "${args[@]}" -m 256M -kernel "/boot/vmlinuz-$linux" -initrd guest.initrd -append "console=ttyS0 quiet panic=-1" \
    -blockdev "driver=nbd,node-name=disk,discard=unmap,server.type=unix,server.path=nbd.sock,export=vol$guest_volume,reconnect-delay=63,open-timeout=30" \
    -device "virtio-blk-pci,drive=disk,disable-legacy=on,werror=stop,rerror=stop" \
    "${console[@]}" -pidfile guest.pid 2>guest.err || code=$?
  rm -f guest.pid guest.initrd
  ((code == 0)) || die "the guest did not start or run: $(why_qemu_failed guest)"
  [ -n "$guest_command" ] || return 0
  code=$(sed -n 's/^guest-exit \([0-9]*\).*/\1/p' guest.log)
  [ -n "$code" ] || die "the guest ended before its command did; its log is $dir/guest.log"
  exit "$code"
}
