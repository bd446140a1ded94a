package decide

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxText        = 512
	maxTargets     = 1000
	maxAttachments = 100
)

var (
	identityTypes    = []string{"User", "OrganizationUnit", "Position", "Group"}
	targetTypes      = []string{"Identity", "Everyone", "Members", "Public"}
	attachmentTypes  = []string{"file", "link", "video"}
	foreignAudiences = []string{"cc", "bto", "bcc", "audience", "audiences", "recipient", "recipients", "notify"}
	rfc3339          = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$`)
)

// entry that is valid, with aliases resolved and defaults filled in. Its targets and attachments are the Decider's.
type entry struct {
	verb, objectType, objectID, publishedAt, content string
	actor                                            *identity
	hasContent                                       bool
	free                                             []member
}

type attachment struct {
	kind, id string
	free     []member
}

func (d *Decider) entry(members []member) *entry {
	var verb, actor, objectType, objectID, publishedAt, targets, attachments, content field
	e := &entry{}
	for _, m := range members {
		switch string(m.name) {
		case "@type", "type":
			d.set(&verb, m, "")
		case "actor":
			d.set(&actor, m, "")
		case "objectType":
			d.set(&objectType, m, "")
		case "objectId":
			d.set(&objectID, m, "")
		case "publishedAt", "published":
			d.set(&publishedAt, m, "")
		case "targets":
			d.set(&targets, m, "")
		case "attachments", "attachment":
			d.set(&attachments, m, "")
		case "content":
			d.set(&content, m, "")
		default:
			if isAlmostTargets(m.name) {
				d.problem("", m.name, "misspelt_targets", `did you mean "targets"?`)
			} else if isForeignAudience(m) {
				d.problem("", m.name, "foreign_audience", `put its audience in "targets"`)
			}
			e.free = append(e.free, m)
		}
	}
	e.verb = "share"
	if !verb.absent() {
		e.verb = d.bounded(verb, "")
	}
	if !actor.absent() {
		who := d.identity(actor.value, "/actor")
		e.actor = &who
	}
	e.objectType = d.required(objectType, "", "objectType")
	e.objectID = d.required(objectID, "", "objectId")
	if !publishedAt.absent() {
		e.publishedAt = d.dateTime(publishedAt)
	}
	if targets.value == nil {
		d.targets = append(d.targets, target{kind: "Everyone"})
	} else {
		d.readTargets(targets.value)
	}
	if !attachments.absent() {
		d.readAttachments(attachments)
	}
	if !content.absent() {
		e.content, e.hasContent = d.text(content.value, "", content.name)
	}
	return e
}

// text reads any string.
func (d *Decider) text(value []byte, at string, name []byte) (string, bool) {
	if value[0] != '"' {
		d.problem(at, name, "wrong_type", "expected a string, found "+string(value))
		return "", false
	}
	text, ok := unquote(value)
	if !ok {
		d.problem(at, name, "unpaired_surrogate", "half of a surrogate pair")
		return "", false
	}
	return string(text), true
}

// bound reads a string that is bound by the rules of ids and names.
func (d *Decider) bound(value []byte, at string, name []byte, mayBeEmpty bool) string {
	text, ok := d.text(value, at, name)
	if !ok {
		return ""
	}
	if text == "" && !mayBeEmpty {
		d.problem(at, name, "empty", "expected at least one character")
	}
	if len(text) > maxText && utf8.RuneCountInString(text) > maxText {
		d.problem(at, name, "too_long", "at most 512 characters")
	}
	for _, c := range text {
		if c < 0x20 || c >= 0x7f && c < 0xa0 {
			d.problem(at, name, "control_character", "no control characters")
			break
		}
	}
	return text
}

func (d *Decider) bounded(f field, at string) string { return d.bound(f.value, at, f.name, false) }

func (d *Decider) required(f field, at, name string) string {
	if f.absent() {
		d.problem(at, []byte(name), "missing", "it is required")
		return ""
	}
	return d.bounded(f, at)
}

func (d *Decider) word(f field, at string, known []string) string {
	text, ok := d.text(f.value, at, f.name)
	if ok && !slices.Contains(known, text) {
		d.problem(at, f.name, "unknown_value", "expected one of "+strings.Join(known, ", "))
	}
	return text
}

func (d *Decider) dateTime(f field) string {
	text, ok := d.text(f.value, "", f.name)
	if !ok {
		return ""
	}
	if _, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text)); err != nil || !rfc3339.MatchString(text) {
		d.problem("", f.name, "bad_date_time", "expected a date-time with offset (RFC 3339), found "+text)
	}
	return text
}

func (d *Decider) readAttachments(f field) {
	if f.value[0] != '[' {
		d.problem("", f.name, "wrong_type", "expected an array of attachments")
		return
	}
	elements := d.elements(f.value)
	if len(elements) > maxAttachments {
		d.problem("", f.name, "too_many_attachments", "at most 100")
		elements = elements[:maxAttachments]
	}
	for index, element := range elements {
		at := "/" + string(f.name) + "/" + strconv.Itoa(index)
		d.attachments = append(d.attachments, d.attachment(element, at))
	}
}

func (d *Decider) attachment(value []byte, at string) attachment {
	a := attachment{kind: "file"}
	switch value[0] {
	case '"':
		a.id = d.bound(value, at, nil, false)
	case '{':
		var kind, id field
		members, _ := d.split(value, false)
		for _, m := range d.once(members, at) {
			switch string(m.name) {
			case "@type":
				d.set(&kind, m, at)
			case "id":
				d.set(&id, m, at)
			default:
				a.free = append(a.free, m)
			}
		}
		if !kind.absent() {
			a.kind = d.word(kind, at, attachmentTypes)
		}
		a.id = d.required(id, at, "id")
	default:
		d.problem(at, nil, "wrong_type", "expected a file's id or an attachment")
	}
	return a
}

func isForeignAudience(m member) bool {
	if len(m.name) < 2 || len(m.name) > 10 {
		return false
	}
	name := strings.ToLower(string(m.name))
	return slices.Contains(foreignAudiences, name) || name == "to" && (m.value[0] == '{' || m.value[0] == '[')
}

// isAlmostTargets in another case, or with one letter added, left out or changed, or two swapped.
func isAlmostTargets(name []byte) bool {
	if len(name) < 6 || utf8.RuneCount(name) > 8 {
		return false
	}
	a, b := []rune(string(bytes.ToLower(name))), []rune("targets")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	switch {
	case len(a) < len(b):
		return slices.Equal(a, b[1:])
	case len(a) > len(b):
		return slices.Equal(a[1:], b)
	case len(a) == 0 || slices.Equal(a[1:], b[1:]):
		return true
	default:
		return a[0] == b[1] && a[1] == b[0] && slices.Equal(a[2:], b[2:])
	}
}
