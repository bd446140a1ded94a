#!/bin/sh
# Posts the command on standard input, in one line. kcat prints neither where it lies nor its id.
#
#   echo '{"objectType": "workitem", "objectId": "w-9"}' | ./post.sh workitem/w-9 complete-w-9
#   ./post.sh RECORD_KEY IDEMPOTENCY_KEY [BOOTSTRAP_SERVERS [TOPIC]]

kcat -P -b "${3:-localhost:9092}" -t "${4:-activity.commands}" -k "$1" -H "idempotency-key=$2" \
    -X acks=all -X enable.idempotence=true -X partitioner=murmur2_random
