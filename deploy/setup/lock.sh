#!/bin/sh
# Writes the lock files: full, with hashes, and without the host of any package index.
# Run by `make lock`. Pass --upgrade to take newer versions; otherwise the locked ones stay.
set -eu
cd "$(dirname "$0")/../.."
UV_VERSION=0.13.8

if [ ! -x .venv/bin/python ]; then
    echo "lock: there is no .venv; run 'make setup' first" >&2
    exit 2
fi
.venv/bin/python -m pip install --quiet "uv==$UV_VERSION"

compile() {
    out=$1
    shift
    # --universal: one lock for every platform and every Python from 3.11 on, with markers.
    .venv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
        --custom-compile-command "make lock" --output-file "$out" $upgrade "$@"
    if grep -nE '://|--(index-url|extra-index-url|find-links|trusted-host)|^-e |file:' "$out"; then
        echo "lock: $out names an index or a path (above); it would bind everyone to this machine" >&2
        exit 1
    fi
    echo "lock: $out $(grep -c '==' "$out") packages"
}

upgrade=${1:-}
compile requirements.lock pyproject.toml
compile requirements-dev.lock --extra cloud --extra dev --constraint requirements.lock pyproject.toml
compile requirements-build.lock --constraint requirements-dev.lock deploy/setup/build.in
compile requirements-data.lock --no-deps deploy/setup/data.in
# An APP's own libraries; they go into its image, never into the gateway (see deploy/images/vendor.py).
for wanted in apps/*/requirements.in; do
    [ ! -e "$wanted" ] || compile "${wanted%.in}.lock" --constraint requirements-dev.lock "$wanted"
done
