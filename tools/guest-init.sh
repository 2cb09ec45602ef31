#!/bin/busybox sh
# shellcheck shell=dash
# The first process of run-qemu.sh's Linux guest: a shell, or the command of `guest --run`.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
while read -r module; do insmod "$module"; done </modules
while [ ! -b /dev/vda ]; do sleep 0.1; done
if [ -f /job ]; then
  stty -F /dev/ttyS1 -onlcr raw
  sh /job </dev/null >/dev/ttyS1 2>&1
  code=$?
  sync
  # The serial line must be empty before the power goes.
  stty -F /dev/ttyS1 sane >/dev/null
  echo "guest-exit $code" >/dev/console
else
  echo
  echo "/dev/vda is the mirrored disk: $(cat /sys/block/vda/size) sectors. Try: mkfs.ext4 /dev/vda && mount /dev/vda /mnt"
  setsid cttyhack sh
fi
umount /mnt 2>/dev/null
sync
poweroff -f
