#!/bin/sh
state=$(systemctl is-system-running --wait)
read -r uptime rest </proc/uptime
echo "cumulet: $state $uptime" >/dev/console
