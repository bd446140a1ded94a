// Package decide decides on one command, with the standard library's encoding/json/jsontext: objects are split level by
// level into slices of the command's own text.
//
// Gives up: idempotency keys, CloudEvents, replies, limits of problems' and output's bytes, leap seconds.
package decide

import (
	"bytes"
	"hash/crc32"
	"strconv"
	"time"
	"unicode/utf8"

	"encoding/json/jsontext"
)

const (
	maxValue    = 512 << 10
	maxNesting  = 64
	maxProblems = 100
)

type Problem struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

type Notification struct {
	ID         string
	Key, Value []byte
}

// Decision has problems, or everything else.
type Decision struct {
	Problems                       []Problem
	JSON                           []byte
	ObjectType, ObjectID, Time, ID string
	Notifications                  []Notification
}

// Decider is for one goroutine.
type Decider struct {
	topicBits   uint64
	in          bytes.Buffer
	dec         *jsontext.Decoder
	problems    []Problem
	members     []member
	targets     []target
	attachments []attachment
	out         []byte
	second      int64
	formatted   string
}

func New(topic string) *Decider {
	checksum := crc32.Checksum([]byte(topic), crc32.MakeTable(crc32.Castagnoli))
	d := &Decider{topicBits: uint64(checksum & 0xfff), second: -1}
	d.dec = jsontext.NewDecoder(&d.in, lenient...)
	return d
}

// Decide reads one record's value.
func (d *Decider) Decide(value []byte, timestamp int64, partition int32, offset int64) *Decision {
	d.problems, d.members, d.targets, d.attachments = nil, d.members[:0], d.targets[:0], d.attachments[:0]
	entry, ok := d.read(value)
	if !ok || d.problems != nil {
		return &Decision{Problems: d.problems}
	}
	decision := &Decision{ObjectType: entry.objectType, ObjectID: entry.objectID, Time: d.utc(timestamp), ID: d.id(timestamp, partition, offset)}
	if entry.publishedAt == "" {
		entry.publishedAt = decision.Time
	}
	d.write(entry, decision)
	return decision
}

func (d *Decider) read(value []byte) (*entry, bool) {
	switch {
	case value == nil:
		d.problem("", nil, "tombstone", "the record has no value")
	case len(value) > maxValue:
		d.problem("", nil, "too_large", "at most 524288 bytes")
	case !utf8.Valid(value):
		d.problem("", nil, "not_utf8", "expected UTF-8")
	default:
		// Counted first, since almost no command has more brackets than levels that are allowed.
		if bytes.Count(value, []byte("{"))+bytes.Count(value, []byte("[")) > maxNesting && nesting(value) > maxNesting {
			d.problem("", nil, "too_deep", "at most 64 levels of nesting")
		}
		members, err := d.split(value, true)
		switch {
		case err == errNoObject:
			d.problem("", nil, "not_an_object", "expected an object")
		case err != nil:
			d.problem("", nil, "not_json", err.Error())
		default:
			return d.entry(d.once(members, "")), true
		}
	}
	return nil, false
}

// problem is at a member of the object at the pointer, or at the pointer itself where there is no name.
func (d *Decider) problem(at string, name []byte, code, message string) {
	if name != nil {
		at += "/" + escapes.Replace(string(name))
	}
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{at, code, message})
	} else if len(d.problems) == maxProblems {
		d.problems = append(d.problems, Problem{"", "too_many_problems", "more than 100"})
	}
}

// id is a UUID of version 8.
func (d *Decider) id(timestamp int64, partition int32, offset int64) string {
	const hex = "0123456789abcdef"
	halves := [2]uint64{uint64(timestamp)<<16 | 0x8000 | d.topicBits, 1<<63 | uint64(partition)<<48 | uint64(offset)}
	text := make([]byte, 0, 36)
	for nibble := range 32 {
		if nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20 {
			text = append(text, '-')
		}
		text = append(text, hex[halves[nibble/16]>>(60-4*(nibble%16))&15])
	}
	return string(text)
}

// utc formats a timestamp with milliseconds. Neighbours share their second, which is formatted once.
func (d *Decider) utc(timestamp int64) string {
	if second := timestamp / 1000; second != d.second {
		d.second, d.formatted = second, time.Unix(second, 0).UTC().Format("2006-01-02T15:04:05.")
	}
	return d.formatted + strconv.FormatInt(1000+timestamp%1000, 10)[1:] + "Z"
}
