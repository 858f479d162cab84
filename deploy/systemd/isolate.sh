#!/bin/sh
# The rules of agent/engine/hostrules.py, for the time before the agent runs. Each is made once, however often this runs.
# A host without IPv6 may lack ip6tables; without iptables no isolated network is ever made, and this fails aloud.
set -u
assure() {
    program=$1
    shift
    "$program" -w 5 -t mangle -C "$@" -m comment --comment ec-isolated -j DROP 2>/dev/null ||
        "$program" -w 5 -t mangle -I "$@" -m comment --comment ec-isolated -j DROP
}
bridges="${1:-eci-}+"
status=0
for program in iptables ip6tables; do
    for each in input out in; do
        case $each in
            input) assure $program INPUT -i "$bridges" ;;
            out) assure $program FORWARD -i "$bridges" ! -o "$bridges" ;;
            in) assure $program FORWARD ! -i "$bridges" -o "$bridges" ;;
        esac || [ $program = ip6tables ] || status=1
    done
done
exit $status
