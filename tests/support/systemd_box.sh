# Boots the distribution's systemd in namespaces of its own, over a throw-away copy of the file system.
# usage: systemd_box.sh FOLDER PYTHON SITE_PACKAGES SOURCE
# FOLDER/share is /box inside. Everything else that is written goes to memory, and ends with it.
set -eu
box=$1 python=$2 site=$3 source=$4
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$box/memory"
mkdir "$box/memory/upper" "$box/memory/work" "$box/memory/root"
root=$box/memory/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$box/memory/upper,workdir=$box/memory/work" "$root"

mount -t proc proc "$root/proc"
# The kernel is not this systemd's to set up.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : > "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
: > "$root/dev/console"

# The program where the unit has it, with the packages of the tests.
rm -rf "$root/opt/mailferry"
mkdir -p "$root/opt/mailferry/bin" "$root/opt/mailferry/site" "$root/opt/mailferry/source" "$root/box"
mount --bind "$site" "$root/opt/mailferry/site"
mount --bind "$source" "$root/opt/mailferry/source"
mount --bind "$box/share" "$root/box"
cat > "$root/opt/mailferry/bin/mailferry" <<END
#!/bin/sh
PYTHONPATH=/opt/mailferry/source:/opt/mailferry/site PYTHONDONTWRITEBYTECODE=1 export PYTHONPATH PYTHONDONTWRITEBYTECODE
exec $python -m mailferry "\$@"
END
chmod 755 "$root/opt/mailferry/bin/mailferry"
DESTDIR=$root bash "$source/../tools/service.sh" install

# Nothing but the journal beside it.
find "$root/lib/systemd/system" "$root/etc/systemd/system" -path '*.wants/*' -delete
: > "$root/etc/fstab"
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
cat > "$root/etc/systemd/system/box.target" <<'END'
[Unit]
Requires=systemd-journald.service
After=systemd-journald.service
AllowIsolate=yes
END
# Not chroot: for a service's own file system systemd moves mounts, which needs the real root.
mkdir "$root/outside"
cd "$root"
pivot_root . outside
umount -l /outside
mount --make-rshared /  # credentials are mounted by a helper of systemd's, and must be seen by the service
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=box.target --log-target=journal
