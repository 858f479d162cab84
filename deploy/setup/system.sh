#!/bin/sh
# The distribution's packages that the gateway, its lab and its tests run on. Installs only what is missing, and only as
# root; else names it and exits 2. Debian 12 and 13.
set -eu
cd "$(dirname "$0")/../.."
. deploy/setup/say.sh
. deploy/setup/python.sh

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=
want() { missing="$missing $1"; }

need() { command -v "$2" >/dev/null || want "$1"; }   # need PACKAGE COMMAND
need docker.io dockerd
need iptables iptables
need iproute2 ip
need mosquitto mosquitto
need mosquitto-clients mosquitto_sub
need docker-registry docker-registry
need mmdebstrap mmdebstrap
need openssl openssl
need socat socat
need curl curl
need strace strace
need xfsprogs mkfs.xfs
docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
need faketime faketime
need xfsprogs mkfs.xfs
need e2fsprogs mkfs.ext4
installed busybox-static || want busybox-static   # a shared busybox would not run in an empty image
[ -e /etc/ssl/certs/ca-certificates.crt ] || want ca-certificates
[ -n "$PYTHON" ] || want python3
if [ -z "$PYTHON" ] || ! python_makes_venvs "$PYTHON"; then want python3-venv; fi
# Debian 12 ships the client within docker.io, Debian 13 in a package of its own.
client=
command -v docker >/dev/null || client=docker-cli

if [ -z "$missing" ] && { [ -z "$client" ] || ! may_install; }; then
    [ -z "$client" ] || give_up 2 "the docker client is missing ($(why_not_install))" \
        "install docker-cli (Debian 13) or docker.io (Debian 12) with apt-get"
    exit 0
fi
if ! may_install; then
    give_up 2 "packages are missing and may not be installed: $(why_not_install)" \
        "as root: apt-get update && apt-get install --no-install-recommends$missing${client:+ $client (where it exists)}"
fi

say "installing the distribution's packages:$missing${client:+ $client}"
export DEBIAN_FRONTEND=noninteractive
log=build/setup-apt.log
mkdir -p build
apt-get update >"$log" 2>&1 || give_up 1 "apt-get update failed (build/setup-apt.log)" "mend the package sources and run again"
if [ -n "$client" ] && apt-cache show docker-cli >/dev/null 2>&1; then missing="$missing docker-cli"; fi
# The lab starts a broker and a registry of its own, on loopback. The packages would start theirs too, the registry on every
# address of this machine: nobody asked for that.
services=
if [ -d /run/systemd/system ]; then
    for service in mosquitto docker-registry; do
        case " $missing " in *" $service "*) services="$services $service" ;; esac
    done
fi
for service in $services; do systemctl mask --runtime "$service" >>"$log" 2>&1; done
allow_services() {
    for service in $services; do
        systemctl unmask --runtime "$service" >>"$log" 2>&1 || true
        systemctl disable "$service" >>"$log" 2>&1 || true
    done
}
trap allow_services EXIT
# shellcheck disable=SC2086  # a list of words
apt-get install -y --no-install-recommends $missing >>"$log" 2>&1 </dev/null || {
    tail -n 15 "$log" >&2
    give_up 1 "apt-get install failed (above, and build/setup-apt.log)" "mend it and run again; set-up goes on where it stopped"
}
say "packages are in place"
