#!/bin/sh
# rootfs.sh ROOT BUSYBOX: what every base image has: users, /tmp, and busybox for each tool that ROOT lacks.
set -eu
root=$1
busybox=$2

mkdir -p "$root/etc" "$root/tmp" "$root/root" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/data"
# From Debian 13 on packages hold /usr/bin and /usr/lib only, and a package that is not wanted here makes the links.
for folder in bin sbin lib lib32 lib64 libx32; do
    if [ -d "$root/usr/$folder" ] && [ ! -e "$root/$folder" ]; then ln -s "usr/$folder" "$root/$folder"; fi
done
[ -L "$root/bin" ] || mkdir -p "$root/bin"
[ -e "$root/bin/busybox" ] || cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ -e "$root/bin/$applet" ] || [ -e "$root/usr/bin/$applet" ] || ln -s /bin/busybox "$root/bin/$applet"
done
chmod 1777 "$root/tmp"
# APPs run as uid 1000 by habit; a named volume mounted at /data takes this owner on first use.
chown 1000:1000 "$root/data" 2>/dev/null || true
cat >"$root/etc/passwd" <<'USERS'
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:app:/data:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
USERS
cat >"$root/etc/group" <<'GROUPS'
root:x:0:
app:x:1000:
nogroup:x:65534:
GROUPS
