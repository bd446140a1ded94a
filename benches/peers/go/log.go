package main

import (
	"database/sql"
	"encoding/json"
	"strings"

	_ "github.com/mattn/go-sqlite3"
	"github.com/twmb/franz-go/pkg/kgo"

	"peers/decide"
)

// rowsAtOnce in one INSERT: a call of database/sql costs more than a row.
const rowsAtOnce = 50

const (
	columns   = 6
	oneRow    = "(?, ?, ?, ?, ?, ?)"
	event     = "INSERT INTO events (partition, offset, timestamp, object_type, object_id, json) VALUES " + oneRow
	rejection = "INSERT INTO rejections VALUES (?, ?, ?, ?)"
	cursor    = "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (partition) DO UPDATE SET next = excluded.next"
)

var events = event + strings.Repeat(", "+oneRow, rowsAtOnce-1)

// eventLog has events, rejections and the next offset of each partition, in SQLite. A batch is one transaction.
type eventLog struct {
	db   *sql.DB
	next map[int32]int64
}

func open(file string) *eventLog {
	db := must(sql.Open("sqlite3", "file:"+file))
	db.SetMaxOpenConns(1)
	for _, statement := range []string{
		"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA cache_size = -16384", "PRAGMA wal_autocheckpoint = 16000",
		"CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL, object_type TEXT NOT NULL, object_id TEXT NOT NULL, json TEXT NOT NULL)",
		"CREATE TABLE IF NOT EXISTS rejections (partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL, problems TEXT NOT NULL, PRIMARY KEY (partition, offset)) WITHOUT ROWID",
		"CREATE TABLE IF NOT EXISTS cursors (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL)",
	} {
		must(db.Exec(statement))
	}
	l := &eventLog{db: db, next: map[int32]int64{}}
	rows := must(db.Query("SELECT partition, next FROM cursors"))
	defer rows.Close()
	for rows.Next() {
		var partition int32
		var next int64
		check(rows.Scan(&partition, &next))
		l.next[partition] = next
	}
	check(rows.Err())
	return l
}

func (l *eventLog) append(records []*kgo.Record, decisions []*decide.Decision) error {
	tx, err := l.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	many, err := tx.Prepare(events)
	if err != nil {
		return err
	}
	defer many.Close()
	values := make([]any, 0, columns*rowsAtOnce)
	for i, record := range records {
		if record.Offset < l.next[record.Partition] {
			continue
		}
		l.next[record.Partition] = record.Offset + 1
		decision, at := decisions[i], record.Timestamp.UnixMilli()
		if decision.Problems != nil {
			if _, err := tx.Exec(rejection, record.Partition, record.Offset, at, string(must(json.Marshal(decision.Problems)))); err != nil {
				return err
			}
			continue
		}
		values = append(values, int64(record.Partition), record.Offset, at, decision.ObjectType, decision.ObjectID, string(decision.JSON))
		if len(values) == cap(values) {
			if _, err := many.Exec(values...); err != nil {
				return err
			}
			values = values[:0]
		}
	}
	for ; len(values) > 0; values = values[columns:] {
		if _, err := tx.Exec(event, values[:columns]...); err != nil {
			return err
		}
	}
	for partition, next := range l.next {
		if _, err := tx.Exec(cursor, partition, next); err != nil {
			return err
		}
	}
	return tx.Commit()
}
