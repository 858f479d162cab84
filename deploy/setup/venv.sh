#!/bin/sh
# The virtual environment .venv with exactly the locked packages, and the project in it, editable.
# A stamp of everything that decides its content makes the next run a matter of milliseconds.
set -eu
cd "$(dirname "$0")/../.."
. deploy/setup/say.sh
. deploy/setup/python.sh
[ -n "$PYTHON" ] || give_up 2 "no Python >= 3.11 was found" "install python3 (Debian 12 or newer), or set EC_PYTHON to one"

root=$(pwd)
stamp_of() {
    { .venv/bin/python -V; echo "$root"
      cat requirements-dev.lock requirements-data.lock deploy/setup/venv.sh
      sed '/^\[tool\.pytest/,$d' pyproject.toml; } 2>/dev/null | sha256sum   # the tools' settings change nothing here
}
stamp=.venv/ec-stamp
if [ -x .venv/bin/python ] && [ "$(stamp_of)" = "$(cat "$stamp" 2>/dev/null)" ]; then exit 0; fi

if [ ! -x .venv/bin/python ] || ! python_fits .venv/bin/python; then
    say "making .venv with $("$PYTHON" -V)"
    "$PYTHON" -m venv --clear .venv || give_up 1 "$PYTHON could not make .venv (above)" "install python3-venv, or set EC_PYTHON"
fi
say "installing the locked packages"
export PIP_DISABLE_PIP_VERSION_CHECK=1
log=build/setup-pip.log
mkdir -p build
: >"$log"
run_pip() {
    .venv/bin/python -m pip "$@" >>"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        give_up 1 "pip $1 failed (above, and $log)" "check that a package index is reachable, and run again"
    }
}
run_pip install --require-hashes -r requirements-dev.lock
run_pip install --require-hashes --no-deps -r requirements-data.lock   # data files only; see deploy/setup/data.in
run_pip install --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
# The APPs' client is not part of the gateway's own distribution, but tests and tools import it.
echo "$root/apps/sdk" >"$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ecgw-sdk.pth"
stamp_of >"$stamp"
say ".venv is ready"
