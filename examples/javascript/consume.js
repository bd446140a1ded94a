// Prints a line for each notification, until it is stopped or has printed COUNT of them.
//
//   npm ci
//   node consume.js [BOOTSTRAP_SERVERS [TOPIC [GROUP [COUNT]]]]

import kafkajs from 'kafkajs'

const { Kafka, logLevel } = kafkajs
const [
  servers = 'localhost:9092', topic = 'activity.notifications', group = 'activity-printer-javascript', wanted = Infinity
] = process.argv.slice(2)

// Ids that were printed already. If repeating an effect does harm, store the ids together with the effect.
const printedIds = new Set()
const kafka = new Kafka({ clientId: 'activity-printer', brokers: servers.split(','), logLevel: logLevel.ERROR })
const consumer = kafka.consumer({ groupId: group, readUncommitted: false })
let printed = 0
let stop
const stopped = new Promise(resolve => { stop = resolve })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop)
consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
  if (restart) return
  console.error(error.message)
  process.exitCode = 1
  stop()
})

await consumer.connect()
await consumer.subscribe({ topics: [topic], fromBeginning: true })
await consumer.run({
  autoCommit: false,
  eachBatchAutoResolve: false,
  eachBatch: async ({ batch, resolveOffset, isRunning }) => {
    let next
    for (const message of batch.messages) {
      if (printed >= Number(wanted) || !isRunning()) break
      const { id, activity } = JSON.parse(message.value)
      if (!printedIds.has(id)) {
        console.log(id, String(message.key), `${activity.objectType}/${activity.objectId}`)
        printedIds.add(id)
        if (printedIds.size > 100_000) printedIds.delete(printedIds.values().next().value)
        printed++
      }
      resolveOffset(message.offset)
      next = String(BigInt(message.offset) + 1n)
    }
    // After the work, once for all of it: a crash then repeats work rather than losing it.
    if (next) await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }])
    if (printed >= Number(wanted)) stop()
  }
})
await stopped
await consumer.disconnect()
