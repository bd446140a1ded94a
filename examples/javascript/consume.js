// Prints a line for each notification, until it is stopped or has printed COUNT of them.
//
//   npm ci
//   node consume.js [BOOTSTRAP_SERVERS [TOPIC [GROUP [COUNT]]]]

import { Consumer, FetchIsolationLevels, stringDeserializers } from '@platformatic/kafka'

const [
  servers = 'localhost:9092', topic = 'activity.notifications', group = 'activity-printer', wanted = Infinity
] = process.argv.slice(2)

// What was told already. Where telling twice does harm, keep the ids where the telling is kept.
const told = new Set()
const consumer = new Consumer({
  clientId: 'activity-printer',
  groupId: group,
  bootstrapBrokers: servers.split(','),
  deserializers: stringDeserializers
})
const stream = await consumer.consume({
  topics: [topic],
  isolationLevel: FetchIsolationLevels.READ_COMMITTED,
  autocommit: false,
  mode: 'committed',
  fallbackMode: 'earliest'
})
let printed = 0
for await (const message of stream) {
  const { id, activity } = JSON.parse(message.value)
  if (!told.has(id)) {
    console.log(id, message.key, `${activity.objectType}/${activity.objectId}`)
    told.add(id)
    if (told.size > 100_000) told.delete(told.values().next().value)
    printed++
  }
  // After the work, so that a crash repeats it rather than loses it.
  await message.commit()
  if (printed >= Number(wanted)) break
}
await consumer.close(true)
