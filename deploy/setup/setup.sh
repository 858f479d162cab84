#!/bin/sh
# All set-up, in order, each step doing only what is missing. `make setup` runs this.
set -eu
cd "$(dirname "$0")/../.."
. deploy/setup/say.sh
mkdir -p build
# Two at once (a demo beside a test run) would install into each other.
exec 9>build/setup.lock
flock -w 900 9 || give_up 1 "another set-up has held build/setup.lock for 15 minutes" "look for it with: fuser build/setup.lock"

sh deploy/setup/system.sh 9>&-
sh deploy/setup/venv.sh 9>&-
sh deploy/setup/engine.sh start 9>&-
say "done"
