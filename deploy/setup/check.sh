#!/bin/sh
# `make check`: everything that reads the code without running it. Runs all, so that one run names every mistake.
set -u
cd "$(dirname "$0")/../.."
failed=

run() {
    what=$1
    shift
    printf '%s\n' "check: $what"
    "$@" || failed="$failed $what"
}

python=.venv/bin/python
run format $python -m ruff format --check --quiet .
run lint $python -m ruff check --quiet .
# Packages that APPs bring (apps/modbus/ec_modbus) stand in folders whose names are no Python names.
packages=$(find apps -mindepth 3 -maxdepth 3 -name __init__.py ! -path 'apps/*/vendor/*' -exec dirname {} \;)
# shellcheck disable=SC2086  # a list of words
run types $python -m mypy agent cloud_stub deploy tests $packages
run boundaries .venv/bin/lint-imports --no-logo
run sizes $python -m deploy.setup.sizes

if [ -n "$failed" ]; then
    echo "check: failed:$failed (\`make format\` mends what a tool can)" >&2
    exit 1
fi
echo "check: all is well"
