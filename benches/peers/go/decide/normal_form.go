package decide

import (
	"bytes"
	"encoding/json/jsontext"
	"strconv"
	"strings"
)

var separators = strings.NewReplacer("%", "%25", "/", "%2F", ":", "%3A")

// write the normal form, and notifications, which are made of its parts.
func (d *Decider) write(e *entry, decision *Decision) {
	out := quote(append(d.out[:0], `{"@type":`...), e.verb)
	if e.actor != nil {
		out = e.actor.write(append(out, `,"actor":`...))
	}
	out = quote(append(out, `,"objectType":`...), e.objectType)
	out = quote(append(out, `,"objectId":`...), e.objectID)
	out = quote(append(out, `,"publishedAt":`...), e.publishedAt)
	before := len(out)
	for index := range d.targets {
		t := &d.targets[index]
		out = append(out, separator(index, `,"targets":[`)...)
		t.from = len(out)
		out = append(append(append(out, `{"@type":"`...), t.kind...), '"')
		if t.kind == "Identity" {
			out = t.identity.write(append(out, `,"targetId":`...))
		} else if t.channel != "" {
			out = quote(append(out, `,"targetId":`...), t.channel)
		}
		t.to = len(out)
		out = append(strconv.AppendBool(append(out, `,"notify":`...), t.notify), '}')
	}
	out = append(out, ']')
	after := len(out)
	for index, a := range d.attachments {
		out = append(out, separator(index, `,"attachments":[`)...)
		out = append(append(append(out, `{"@type":"`...), a.kind...), `","id":`...)
		out = append(writeFree(quote(out, a.id), a.free), '}')
	}
	if len(d.attachments) > 0 {
		out = append(out, ']')
	}
	if e.hasContent {
		out = quote(append(out, `,"content":`...), e.content)
	}
	out = append(writeFree(out, e.free), '}')
	d.out = out
	decision.JSON = bytes.Clone(out)
	for index := range d.targets {
		t := &d.targets[index]
		if !t.notify {
			continue
		}
		id := decision.ID + "/" + strconv.Itoa(index)
		value := make([]byte, 0, 160+before+t.to-t.from+len(out)-after)
		value = append(append(value, `{"id":"`...), id...)
		value = append(append(value, `","activityId":"`...), decision.ID...)
		value = append(append(value, `","target":`...), out[t.from:t.to]...)
		value = append(append(value, `},"activity":`...), out[:before]...)
		value = append(append(value, out[after:]...), '}')
		decision.Notifications = append(decision.Notifications, Notification{ID: id, Key: []byte(t.key(e)), Value: value})
	}
}

// separator of array elements; the first is preceded by the array's beginning.
func separator(index int, begin string) string {
	if index == 0 {
		return begin
	}
	return ","
}

func quote(out []byte, text string) []byte {
	// It never fails for valid UTF-8.
	out, _ = jsontext.AppendQuote(out, text)
	return out
}

func writeFree(out []byte, all []member) []byte {
	for _, m := range all {
		out = append(append(out, ','), m.quoted...)
		out = append(append(out, ':'), m.value...)
	}
	return out
}

func (i *identity) write(out []byte) []byte {
	out = quote(append(out, `{"id":`...), i.id)
	if i.domain != "" {
		out = quote(append(out, `,"domain":`...), i.domain)
	}
	if i.hasName {
		out = quote(append(out, `,"name":`...), i.name)
	}
	if i.kind != "" {
		out = quote(append(out, `,"type":`...), i.kind)
	}
	return append(out, '}')
}

// key is the record key of the audience's notifications.
func (t *target) key(e *entry) string {
	switch {
	case t.kind == "Identity" && t.identity.domain != "":
		return "Identity:" + encoded(t.identity.domain) + "/" + encoded(t.identity.id)
	case t.kind == "Identity":
		return "Identity:" + encoded(t.identity.id)
	case t.kind == "Members" && t.channel != "":
		return "Members:channel:" + encoded(t.channel)
	case t.kind == "Members":
		return "Members:object:" + encoded(e.objectType) + "/" + encoded(e.objectID)
	}
	return t.kind
}

func encoded(part string) string {
	if strings.ContainsAny(part, "/:%") {
		return separators.Replace(part)
	}
	return part
}
