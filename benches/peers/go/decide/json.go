package decide

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"io"
	"strings"
)

// Repeated names are reported where they count; halves of surrogate pairs where a string is read.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

var (
	errNoObject = errors.New("no object")
	escapes     = strings.NewReplacer("~", "~0", "/", "~1")
)

// member of an object: its name without escapes, and its value as it is in the text. The quoted name is for free properties.
type member struct{ name, quoted, value []byte }

// field of an object, which may have several names. The first that is given counts.
type field struct{ name, value []byte }

func (f *field) absent() bool { return f.value == nil || f.value[0] == 'n' }

func (d *Decider) set(f *field, m member, at string) {
	if f.value != nil {
		d.problem(at, m.name, "duplicate_property", "two names of the same field")
		return
	}
	f.name, f.value = m.name, m.value
}

// split an object into its members. Only of the whole command is it not known that it is an object, and JSON.
func (d *Decider) split(text []byte, whole bool) ([]member, error) {
	d.in = *bytes.NewBuffer(text)
	d.dec.Reset(&d.in, lenient...)
	if d.dec.PeekKind() != '{' {
		if _, err := d.dec.ReadValue(); err != nil {
			return nil, err
		}
		return nil, firstOf(d.end(), errNoObject)
	}
	d.dec.ReadToken()
	start := len(d.members)
	for d.dec.PeekKind() != '}' {
		quoted, err := d.raw(text)
		if err != nil {
			return nil, err
		}
		value, err := d.raw(text)
		if err != nil {
			return nil, err
		}
		d.members = append(d.members, member{quoted: quoted, value: value})
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return nil, err
	}
	if whole {
		if err := d.end(); err != nil {
			return nil, err
		}
	}
	return d.members[start:len(d.members):len(d.members)], nil
}

func (d *Decider) elements(text []byte) (all [][]byte) {
	d.in = *bytes.NewBuffer(text)
	d.dec.Reset(&d.in, lenient...)
	d.dec.ReadToken()
	for d.dec.PeekKind() != ']' {
		value, _ := d.raw(text)
		all = append(all, value)
	}
	return all
}

// raw is the next value, as a slice of the text.
func (d *Decider) raw(text []byte) ([]byte, error) {
	value, err := d.dec.ReadValue()
	end := d.dec.InputOffset()
	return text[end-int64(len(value)) : end], err
}

func (d *Decider) end() error {
	if _, err := d.dec.ReadToken(); err != io.EOF {
		return firstOf(err, errors.New("something follows the value"))
	}
	return nil
}

// firstOf is the first error that is one.
func firstOf(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// once reads the names, reports those that are repeated, and keeps the first of each.
func (d *Decider) once(members []member, at string) []member {
	const few = 16
	var seen map[string]bool
	if len(members) > few {
		seen = make(map[string]bool, len(members))
	}
	kept := members[:0]
	for _, m := range members {
		name, ok := unquote(m.quoted)
		if !ok {
			d.problem(at, nil, "unpaired_surrogate", "half of a surrogate pair in a property's name")
			continue
		}
		m.name = name
		repeated := seen[string(name)]
		if seen != nil {
			seen[string(name)] = true
		} else {
			for i := range kept {
				repeated = repeated || bytes.Equal(kept[i].name, name)
			}
		}
		if repeated {
			d.problem(at, name, "duplicate_property", "the property is repeated")
		} else {
			kept = append(kept, m)
		}
	}
	return kept
}

// unquote returns the text of a JSON string.
func unquote(quoted []byte) ([]byte, bool) {
	inside := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inside, '\\') < 0 {
		return inside, true
	}
	text, err := jsontext.AppendUnquote(nil, quoted)
	return text, err == nil
}

func nesting(json []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(json); i++ {
		switch c := json[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
