#!/bin/sh
# A running Docker engine. One that runs is used as it is; where a service manager is, it is asked to start it; else dockerd
# is started in the background (build/lab/dockerd.log, .pid) and left running. `engine.sh stop` ends only that one.
set -eu
cd "$(dirname "$0")/../.."
. deploy/setup/say.sh

lab=build/lab
pid_file=$lab/dockerd.pid

is_dockerd() { [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ]; }
answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

if [ "${1:-start}" = stop ]; then
    pid=$(cat "$pid_file" 2>/dev/null || true)
    if is_dockerd "$pid"; then
        say "stopping the engine that set-up had started (pid $pid)"
        kill "$pid"
        for _ in $(seq 300); do is_dockerd "$pid" || break; sleep 0.1; done
    else
        say "no engine was started from here; nothing to stop"
    fi
    rm -f "$pid_file"
    exit 0
fi

answers && exit 0
if [ "$(id -u)" != 0 ]; then
    give_up 2 "the Docker engine does not answer this user" \
        "start it as root (systemctl start docker, or 'make setup' as root), and add this user to the group 'docker'"
fi
mkdir -p "$lab"

if [ -d /run/systemd/system ] && command -v systemctl >/dev/null && systemctl cat docker.service >/dev/null 2>&1; then
    say "starting docker.service"
    systemctl start docker.service || give_up 1 "docker.service does not start" "see: journalctl -u docker.service"
else
    # Control groups: something mounts them on nearly every machine; on a bare one nothing did.
    if ! grep -qE ' /sys/fs/cgroup[ /]' /proc/self/mounts; then
        say "mounting the control groups"
        if ! mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; then
            mount -t tmpfs -o mode=755 none /sys/fs/cgroup
            for group in $(awk '!/^#/ && $4 == 1 {print $1}' /proc/cgroups); do
                mkdir -p "/sys/fs/cgroup/$group"
                mount -t cgroup -o "$group" none "/sys/fs/cgroup/$group" || rmdir "/sys/fs/cgroup/$group"
            done
        fi
    fi
    # A pid file that outlived its process stops the engine when another process has that number now.
    for stale in /run/docker.pid /run/docker/containerd/containerd.pid; do
        pid=$(cat "$stale" 2>/dev/null || true)
        case "$(cat "/proc/${pid:-none}/comm" 2>/dev/null)" in
            dockerd | containerd) ;;
            *) rm -f "$stale" ;;
        esac
    done
    say "starting dockerd in the background (log: $lab/dockerd.log)"
    setsid dockerd >"$lab/dockerd.log" 2>&1 </dev/null &
    echo $! >"$pid_file"
fi

deadline=$(($(date +%s) + 90))
until answers; do
    pid=$(cat "$pid_file" 2>/dev/null || true)
    if [ -n "$pid" ] && ! is_dockerd "$pid" && ! kill -0 "$pid" 2>/dev/null; then
        tail -n 15 "$lab/dockerd.log" >&2
        give_up 1 "dockerd ended while starting (above, and $lab/dockerd.log)" "mend what it names and run again"
    fi
    [ "$(date +%s)" -lt "$deadline" ] || give_up 1 "the Docker engine did not answer within 90 s" "see $lab/dockerd.log"
    sleep 0.2
done
say "the Docker engine answers ($(docker version --format '{{.Server.Version}}'))"
