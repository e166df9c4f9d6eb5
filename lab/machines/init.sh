#!/bin/bash
# First process of a lab's namespaces: nothing but loopback is there, and everything that is started later is reaped here.
set -u
ip link set lo up
mkdir -p /run/netns /run/systemd
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/systemd
mount --bind "$1" /etc/hosts
echo ready > "$2"
trap 'exit 0' TERM
while :; do sleep infinity & wait $!; done
