// Posts a command and prints its id, from the delivery report. The processor decides whether it becomes an activity: run
// twice, the second command is a duplicate.
//
//   npm ci
//   node post.js [BOOTSTRAP_SERVERS [TOPIC [OBJECT_ID]]]

import kafkajs from 'kafkajs'

const { Kafka, logLevel, Partitioners } = kafkajs
const [servers = 'localhost:9092', topic = 'activity.commands', objectId = 'w-9'] = process.argv.slice(2)

function crc32c (bytes) {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc >>> 1 ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return ~crc >>> 0
}

function activityId (topic, timestamp, partition, offset) {
  const topicBits = BigInt(crc32c(Buffer.from(topic)) & 0xfff)
  const place = BigInt(partition) << 48n | BigInt(offset)
  const id = BigInt(timestamp) << 80n | 0x8n << 76n | topicBits << 64n | 0b10n << 62n | place
  return id.toString(16).padStart(32, '0').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

const command = {
  '@type': 'complete',
  objectType: 'workitem',
  objectId,
  targets: [{ targetId: 'anna', notify: true }],
  content: 'Approved.'
}
const kafka = new Kafka({ clientId: 'activity-poster', brokers: servers.split(','), logLevel: logLevel.ERROR })
const producer = kafka.producer({
  idempotent: true, // with acks=all
  createPartitioner: Partitioners.DefaultPartitioner // as the Java client places keys
})
await producer.connect()
try {
  const timestamp = Date.now()
  const [at] = await producer.send({
    topic,
    messages: [{
      key: `workitem/${objectId}`,
      value: JSON.stringify(command),
      headers: { 'idempotency-key': `complete-workitem-${objectId}` },
      timestamp: String(timestamp)
    }]
  })
  // With LogAppendTime, the broker returns the timestamp.
  const kept = at.logAppendTime === '-1' ? timestamp : at.logAppendTime
  const id = activityId(topic, kept, at.partition, at.baseOffset)
  console.log(id)
  console.error(`sent, not yet accepted: 'activity-stream log show ${id}' says what it became`)
} finally {
  await producer.disconnect()
}
