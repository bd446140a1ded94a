// Posts a command and prints where it lies: PARTITION:OFFSET. The activity's id holds the record's timestamp too,
// which this client does not report.
//
//   npm ci
//   node post.js [BOOTSTRAP_SERVERS [TOPIC [OBJECT_ID]]]

import { compatibilityPartitioner, Producer, stringSerializers } from '@platformatic/kafka'

const [servers = 'localhost:9092', topic = 'activity.commands', objectId = 'w-9'] = process.argv.slice(2)

const command = {
  '@type': 'complete',
  objectType: 'workitem',
  objectId,
  targets: [{ targetId: 'anna', notify: true }],
  content: 'Approved.'
}
const producer = new Producer({
  clientId: 'activity-poster',
  bootstrapBrokers: servers.split(','),
  serializers: stringSerializers,
  acks: -1, // all
  idempotent: true,
  partitioner: compatibilityPartitioner // as the Java client places keys
})
try {
  const { offsets } = await producer.send({
    messages: [{
      topic,
      key: `workitem/${objectId}`,
      value: JSON.stringify(command),
      headers: { 'idempotency-key': `complete-workitem-${objectId}` }
    }]
  })
  console.log(`${offsets[0].partition}:${offsets[0].offset}`)
} finally {
  await producer.close()
}
