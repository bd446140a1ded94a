#!/bin/sh
# Prints audience and value of each notification, and stops at the end. Without -e it waits for more. It commits no
# offsets, so it starts at the beginning each time.
#
#   ./consume.sh [BOOTSTRAP_SERVERS [TOPIC]]

kcat -C -q -e -o beginning -b "${1:-localhost:9092}" -t "${2:-activity.notifications}" \
    -X isolation.level=read_committed -f '%k %s\n'
