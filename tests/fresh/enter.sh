#!/bin/sh
# Runs a command in a root folder as if the machine had nothing else:
#
#   unshare --mount --pid --fork --kill-child sh enter.sh ROOT USER FOLDER COMMAND [ARGUMENT...]
#
# The command runs as USER, in FOLDER of that root, with the environment and the standard streams that
# this script has. What is mounted here is in this script's own mount namespace. Whatever the command
# leaves running ends with this script, which is process 1 of its own process namespace.
set -eu
root=$1 user=$2 folder=$3
shift 3
# The PATH of an ordinary user leads neither to pivot_root nor to runuser.
path=$PATH
PATH=$PATH:/usr/sbin:/sbin

# pivot_root takes only a mount point, and sudo needs set-user-ID, which the file system of a
# temporary folder may not allow.
mount --bind "$root" "$root"
mount -o remount,bind,suid,dev,exec "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty kvm fuse; do
	[ -e "/dev/$node" ] || continue
	: >"dev/$node"
	mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts # 5 is Debian's group tty
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

# Not chroot: the kernel lets nobody make a user namespace there, which browsers and others do.
mkdir -p mnt/outside
pivot_root . mnt/outside
umount -l /mnt/outside
rmdir /mnt/outside
cd "$folder"
# No exec: the first process of a namespace has to wait for those that lost their parent. On one line,
# as the shell reads the next one only after an hour, and somebody may have edited this by then.
runuser -u "$user" -- env PATH="$path" "$@"; exit
