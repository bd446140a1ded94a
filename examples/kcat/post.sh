#!/bin/sh
# Posts the command on standard input, which may have several lines, and prints its id. The processor decides whether it
# becomes an activity: run twice, the second command is a duplicate.
#
#   ./post.sh workitem/w-9 complete-w-9 < command.json
#   ./post.sh RECORD_KEY IDEMPOTENCY_KEY [BOOTSTRAP_SERVERS [TOPIC]]
set -eu
servers=${3:-localhost:9092}
topic=${4:-activity.commands}

# kcat sends each line as a message, so line breaks become spaces. In JSON, both are only white space.
tr '\n' ' ' | kcat -P -b "$servers" -t "$topic" -k "$1" -H "idempotency-key=$2" \
    -X acks=all -X enable.idempotence=true -X partitioner=murmur2_random

# kcat does not report the offset, so this searches the last hundred commands of each partition for the last one with
# this key.
found=$(kcat -C -q -e -o -100 -b "$servers" -t "$topic" -X isolation.level=read_uncommitted -f '%T %p %o,%h,%k\n' |
    grep -F ",idempotency-key=$2,$1" | sort -n | tail -n 1)
if [ -z "$found" ]; then
    echo "posted, but not found among the last hundred commands of its partition, so the id is unknown" >&2
    exit 0
fi
set -- ${found%%,*}
crc=4294967295
for byte in $(printf %s "$topic" | od -An -v -tu1); do
    crc=$((crc ^ byte))
    for _ in 1 2 3 4 5 6 7 8; do crc=$((crc >> 1 ^ (crc & 1) * 0x82f63b78)); done
done
id=$(printf '%08x-%04x-8%03x-%04x-%012x' $(($1 >> 16)) $(($1 & 0xffff)) $(((crc ^ 0xffffffff) & 0xfff)) \
    $((0x8000 | $2)) "$3")
echo "$id"
echo "sent, not yet accepted: 'activity-stream log show $id' says what it became" >&2
