#!/bin/sh
# Installs the agent on a gateway, from this checkout: /opt/ecgw (program), /etc/ecgw (files, only where they are missing),
# and the systemd unit. Run it again to upgrade; it never touches state, site files or running APPs.
#   sh deploy/install.sh             as root
#   DESTDIR=/some/root sh ...        into another root, for building an image of a gateway; nothing is started
set -eu
cd "$(dirname "$0")/.."
. deploy/setup/say.sh
. deploy/setup/python.sh
say() { printf '%s\n' "install: $*"; }

root=${DESTDIR:-}
[ -n "$root" ] || [ "$(id -u)" = 0 ] || give_up 2 "this is not root" "run it as root, or with DESTDIR=/some/root"
[ -n "$PYTHON" ] || give_up 2 "no Python >= 3.11 was found" "apt-get install python3 python3-venv"
python_makes_venvs "$PYTHON" || give_up 2 "$PYTHON cannot make virtual environments" "apt-get install python3-venv"
if [ -z "$root" ] && ! command -v dockerd >/dev/null; then
    give_up 2 "there is no Docker engine" "apt-get install docker.io, and run again"
fi

home=/opt/ecgw
target=$root$home
log=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$work" "$log"' EXIT
trap 'exit 130' INT TERM
run() {
    "$@" >>"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        give_up 1 "this failed (above): $*" "mend it and run again; the program that was installed before is untouched"
    }
}

# A release is a folder of its own, and $home/bin is a link that changes in one step: an upgrade that fails half-way leaves
# the old program, and an agent that runs keeps the files that it runs from.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# The content decides: sources, locks and interpreter. An install of what is there already does nothing.
content=$({ "$PYTHON" -V; cat requirements.lock requirements-build.lock pyproject.toml
    find agent cloud_stub -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 cat; } | sha256sum | cut -c1-12)
release=releases/$version-$content
if [ -e "$target/$release/.complete" ]; then
    say "release $version ($content) is installed already"
else
    say "installing release $version ($content) into $target/$release"
    rm -rf "${target:?}/$release"
    mkdir -p "$target/releases"
    run "$PYTHON" -m venv "$target/$release"
    pip="$target/$release/bin/python -m pip --disable-pip-version-check"
    run $pip install --require-hashes -r requirements.lock
    run $pip install --require-hashes -r requirements-build.lock
    # Built from a copy, so that the checkout stays as it is.
    cp -R agent cloud_stub pyproject.toml README.md LICENSE "$work/"
    run $pip install --no-deps --no-build-isolation "$work"
    run $pip uninstall --yes setuptools
    # A console script names its interpreter by path, and that is the one on the gateway.
    [ -z "$root" ] || sed -i "1s|^#!.*|#!$home/$release/bin/python|" "$target/$release/bin/ecgw"
    touch "$target/$release/.complete"
fi
mkdir -p "$target/bin" "$root/usr/local/bin"
ln -sfn "../$release/bin/ecgw" "$target/bin/.ecgw.new"
mv -T "$target/bin/.ecgw.new" "$target/bin/ecgw"
ln -sfn "$home/bin/ecgw" "$root/usr/local/bin/ecgw"

# The release before stays for going back by hand; older ones go.
ls -1dt "$target"/releases/*/ | tail -n +3 | while read -r old; do
    [ "$old" = "$target/$release/" ] || rm -rf "$old"
done

if [ ! -e "$root/etc/ecgw" ]; then
    mkdir -p "$root/etc/ecgw/apps.d" "$root/etc/ecgw/devices.d" "$root/etc/ecgw/points.d" "$root/etc/ecgw/rules.d"
    cp deploy/gateway.minimal.yaml "$root/etc/ecgw/gateway.yaml"
    chmod 0750 "$root/etc/ecgw"
    say "wrote $root/etc/ecgw/gateway.yaml; every setting is explained in the project's config/"
else
    say "$root/etc/ecgw is there and stays as it is"
fi

mkdir -p "$root/etc/systemd/system" "$target/lib"
cp deploy/systemd/isolate.sh "$target/lib/isolate.sh"
for unit in ecgw ecgw-isolation; do
    if ! cmp -s "deploy/systemd/$unit.service" "$root/etc/systemd/system/$unit.service"; then
        cp "deploy/systemd/$unit.service" "$root/etc/systemd/system/$unit.service"
        say "wrote $root/etc/systemd/system/$unit.service"
    fi
done

if [ -n "$root" ]; then
    say "done; on the gateway: systemctl enable --now ecgw-isolation ecgw"
elif [ -d /run/systemd/system ]; then
    run systemctl daemon-reload
    run systemctl enable --now ecgw-isolation
    run systemctl enable ecgw
    run systemctl restart ecgw
    say "done; ecgw runs. Look at it with: ecgw status; journalctl -u ecgw"
else
    say "done. No service manager runs here, so start it yourself: $home/bin/ecgw run --config /etc/ecgw --state /var/lib/ecgw"
fi
