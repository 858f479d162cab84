# Shared by the set-up scripts: one voice, and one way to give up.
# Sourced, not run. Every script is run from the project's root.
PATH=$PATH:${EC_SBIN-/usr/sbin:/sbin}   # dockerd, mosquitto and ip live there, and a plain user's PATH lacks them
export PATH

say() { printf '%s\n' "setup: $*"; }

# give_up CODE WHAT NEXT: says what is wrong and what to do about it.
give_up() {
    printf '%s\n' "setup: cannot go on: $2" "setup: what to do: $3" >&2
    exit "$1"
}

may_install() { [ "$(id -u)" = 0 ] && [ "${NO_INSTALL:-}" != 1 ] && command -v apt-get >/dev/null; }

why_not_install() {
    if [ "${NO_INSTALL:-}" = 1 ]; then echo "NO_INSTALL=1 is set"
    elif [ "$(id -u)" != 0 ]; then echo "this is not root"
    else echo "there is no apt-get here"; fi
}
