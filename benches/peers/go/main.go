// franz-go's GroupTransactSession, as in its exactly-once example, and SQLite through database/sql. The log is written while
// the output is on its way; both are waited for before the Kafka transaction ends.
//
// Exactly-once, and safe to kill: a batch is in the log before its transaction commits, and the log ignores commands that it
// has. What it gives up is in the package decide and in docs/performance.md.
//
// By hand: GOEXPERIMENT=jsonv2 CGO_CFLAGS=-O2 go build -o peer . && ./peer SERVERS GROUP COMMANDS NOTIFICATIONS REJECTIONS FILE;
// SIGTERM ends it.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"peers/decide"
)

const (
	batch    = 10_000
	maxTrace = 4096
)

func main() {
	servers, group, commands, notifications, rejections, file := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]
	ctx := context.Background()
	events := open(file)
	session := must(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(servers),
		kgo.TransactionalID(group+"-go"),
		kgo.TransactionTimeout(10*time.Second),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(commands),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.FetchMaxBytes(4<<20),
		kgo.FetchMaxPartitionBytes(2<<20),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(100_000),
	))
	deciders := make([]*decide.Decider, runtime.GOMAXPROCS(0))
	for i := range deciders {
		deciders[i] = decide.New(commands)
	}
	for {
		fetches := session.PollRecords(ctx, batch)
		fetches.EachError(func(topic string, partition int32, err error) { log.Print(topic, partition, err) })
		records := fetches.Records()
		if len(records) == 0 {
			continue
		}
		check(session.Begin())
		decisions := decideAll(deciders, records)
		appended := make(chan error, 1)
		go func() { appended <- events.append(records, decisions) }()
		promise := kgo.AbortingFirstErrPromise(session.Client())
		for i, record := range records {
			for _, output := range outputs(record, decisions[i], notifications, rejections) {
				session.Produce(ctx, output, promise.Promise())
			}
		}
		check(<-appended)
		err := promise.Err()
		committed, endErr := session.End(ctx, err == nil)
		check(endErr)
		if !committed {
			// The same commands are polled again.
			log.Print("aborted: ", err)
		}
	}
}

// decideAll shares the records among as many goroutines as there are deciders.
func decideAll(deciders []*decide.Decider, records []*kgo.Record) []*decide.Decision {
	decisions := make([]*decide.Decision, len(records))
	var all sync.WaitGroup
	for worker, decider := range deciders {
		all.Go(func() {
			for i := len(records) * worker / len(deciders); i < len(records)*(worker+1)/len(deciders); i++ {
				record := records[i]
				decisions[i] = decider.Decide(record.Value, record.Timestamp.UnixMilli(), record.Partition, record.Offset)
			}
		})
	}
	all.Wait()
	return decisions
}

var (
	specVersion = header("ce_specversion", "1.0")
	source      = header("ce_source", "activity-stream")
	kind        = header("ce_type", "activity-stream.notification")
	contentType = header("content-type", "application/json")
	stage       = header("__connect.errors.stage", "decide")
)

func header(key, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: key, Value: []byte(value)}
}

func outputs(command *kgo.Record, decision *decide.Decision, notifications, rejections string) []*kgo.Record {
	if decision.Problems != nil {
		problems := must(json.Marshal(decision.Problems))
		headers := append(command.Headers[:len(command.Headers):len(command.Headers)],
			header("__connect.errors.topic", command.Topic),
			header("__connect.errors.partition", strconv.Itoa(int(command.Partition))),
			header("__connect.errors.offset", strconv.FormatInt(command.Offset, 10)),
			stage,
			header("__connect.errors.exception.class.name", decision.Problems[0].Code),
			kgo.RecordHeader{Key: "__connect.errors.exception.message", Value: problems})
		return []*kgo.Record{{Topic: rejections, Key: command.Key, Value: command.Value, Headers: headers}}
	}
	if len(decision.Notifications) == 0 {
		return nil
	}
	at, subject := header("ce_time", decision.Time), header("ce_subject", decision.ObjectType+"/"+decision.ObjectID)
	traces := traces(command.Headers)
	all := make([]*kgo.Record, len(decision.Notifications))
	for i, n := range decision.Notifications {
		headers := append([]kgo.RecordHeader{specVersion, header("ce_id", n.ID), source, kind, at, subject, contentType}, traces...)
		all[i] = &kgo.Record{Topic: notifications, Key: n.Key, Value: n.Value, Headers: headers}
	}
	return all
}

// traces are the last of each trace header, where it has a value.
func traces(headers []kgo.RecordHeader) (all []kgo.RecordHeader) {
	for _, name := range []string{"traceparent", "tracestate"} {
		for i := len(headers) - 1; i >= 0; i-- {
			if headers[i].Key != name {
				continue
			}
			if length := len(headers[i].Value); length > 0 && length <= maxTrace {
				all = append(all, headers[i])
			}
			break
		}
	}
	return all
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// check ends the process on an error; what was under way comes again.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
