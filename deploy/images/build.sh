#!/bin/sh
# Makes the base images that APPs build FROM, out of the distribution's packages: no image registry is asked for anything.
#   ec/busybox:1  a static busybox and its applets, about 2 MB
#   ec/python:3   the distribution's Python standard library with busybox as its shell, about 64 MB
# An image that carries the hash of its recipe is left alone.
set -eu
cd "$(dirname "$0")/../.."
. deploy/setup/say.sh
mkdir -p build
exec 8>build/images.lock
flock -w 900 8 || give_up 1 "another build of the base images has held build/images.lock for 15 minutes" "end it"

recipe=$(cat deploy/images/build.sh deploy/images/rootfs.sh deploy/images/python-packages | sha256sum | cut -c1-16)
made_by_recipe() {
    [ "$(docker image inspect --format '{{index .Config.Labels "ec.recipe"}}' "$1" 2>/dev/null)" = "$recipe" ]
}

work=
clean_up() { [ -z "$work" ] || rm -rf "$work"; }
trap clean_up EXIT
trap 'exit 130' INT TERM

# pack ROOT TAR: the same bytes from the same files. Owners are kept where they could be set at all.
pack() {
    owner=
    [ "$(id -u)" = 0 ] || owner="--owner=0 --group=0"
    # shellcheck disable=SC2086  # a list of words
    tar --sort=name --mtime=@0 --numeric-owner $owner -C "$1" -cf "$2" .
}

# load TAR IMAGE TITLE CMD: an image of one layer, replacing the one made by an older recipe.
load() {
    before=$(docker image inspect --format '{{.Id}}' "$2" 2>/dev/null || true)
    docker import --change "LABEL ec.recipe=$recipe org.opencontainers.image.title=$3" --change "CMD $4" \
        --change "ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1" \
        "$1" "$2" >/dev/null || give_up 1 "the engine refused the image $2 (above)" "see that it has disk space: docker system df"
    [ -z "$before" ] || docker image rm "$before" >/dev/null 2>&1 || true   # stays while an APP's image builds on it
    say "image $2 is made ($(docker image inspect --format '{{.Size}}' "$2" | awk '{printf "%.1f MB", $1 / 1e6}'))"
}

if ! made_by_recipe ec/busybox:1; then
    say "making ec/busybox:1"
    work=$(mktemp -d)
    sh deploy/images/rootfs.sh "$work/root" /bin/busybox
    pack "$work/root" "$work/root.tar"
    load "$work/root.tar" ec/busybox:1 busybox '["sh"]'
    rm -rf "$work"
fi

if ! made_by_recipe ec/python:3; then
    say "making ec/python:3"
    work=$(mktemp -d)
    # Only Debian's own sources: a third party's would bring keys and packages that nobody asked for.
    # Their key is named because newer releases trust none by default.
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keyring" ] && signed="[signed-by=$keyring] " || signed=
    list_sources() {
        apt-get indextargets --format "deb $signed"'$(REPO_URI) $(RELEASE) main' \
            "Created-By: Packages" "Origin: Debian" "Component: main" | sort -u
    }
    list_sources >"$work/sources.list"
    if [ ! -s "$work/sources.list" ]; then
        may_install || give_up 2 "apt's package lists are empty ($(why_not_install))" "as root: apt-get update"
        apt-get update >build/images-apt.log 2>&1 || give_up 1 "apt-get update failed (build/images-apt.log)" "mend the sources"
        list_sources >"$work/sources.list"
    fi
    # The host's proxy and time-outs hold inside too.
    apt-config dump Acquire >"$work/apt.conf"
    packages=$(grep -v '^#' deploy/images/python-packages | paste -sd,)
    mmdebstrap --quiet --variant=extract --aptopt="$work/apt.conf" --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
        "" "$work/root" "$work/sources.list" >build/images-python.log 2>&1 || {
        tail -n 15 build/images-python.log >&2
        give_up 1 "mmdebstrap failed (above, and build/images-python.log)" "run again; apt-get update first where a package was not found"
    }
    rm -rf "$work/root/usr/share/doc" "$work/root/usr/share/man" "$work/root/usr/share/locale" "$work/root/var/cache" "$work/root/var/lib/apt"
    sh deploy/images/rootfs.sh "$work/root" /bin/busybox
    # No maintainer script ran, so what they would have made is made here.
    cat "$work"/root/usr/share/ca-certificates/mozilla/*.crt >"$work/root/etc/ssl/certs/ca-certificates.crt"
    # The root is read-only at run time: byte code that is not here now would be compiled at every start. (A few of the
    # library's own test files do not compile on purpose, hence the check of one that must.)
    chroot "$work/root" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3* >/dev/null 2>&1 || true
    ls "$work"/root/usr/lib/python3*/json/__pycache__/decoder.*.pyc >/dev/null 2>&1 ||
        give_up 1 "Python does not run inside the new image's root" "try: chroot $work/root /usr/bin/python3 -V"
    pack "$work/root" "$work/root.tar"
    load "$work/root.tar" ec/python:3 python '["python3"]'
fi
