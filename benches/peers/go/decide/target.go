package decide

import (
	"slices"
	"strconv"
)

type identity struct {
	id, domain, name, kind string
	hasName                bool // which may be empty
}

type target struct {
	kind     string
	identity identity
	channel  string
	notify   bool
	from, to int // in the normal form, without notify
}

func (d *Decider) identity(value []byte, at string) identity {
	switch value[0] {
	case '"':
		return identity{id: d.bound(value, at, nil, false)}
	case '{':
		members, _ := d.split(value, false)
		return d.identityOf(d.once(members, at), at)
	default:
		d.problem(at, nil, "wrong_type", "expected a string or an identity")
		return identity{}
	}
}

func (d *Decider) identityOf(members []member, at string) (i identity) {
	var id, domain, name, kind field
	for _, m := range members {
		switch string(m.name) {
		case "id", "Id":
			d.set(&id, m, at)
		case "domain", "Domain":
			d.set(&domain, m, at)
		case "name", "Name":
			d.set(&name, m, at)
		case "type", "Type":
			d.set(&kind, m, at)
		default:
			d.problem(at, m.name, "unknown_property", "an identity has no such property")
		}
	}
	i.id = d.required(id, at, "id")
	if !domain.absent() {
		i.domain = d.bounded(domain, at)
	}
	if !name.absent() {
		i.name, i.hasName = d.bound(name.value, at, name.name, true), true
	}
	if !kind.absent() {
		i.kind = d.word(kind, at, identityTypes)
	}
	return i
}

func (d *Decider) readTargets(value []byte) {
	name := []byte("targets")
	if value[0] != '[' && value[0] != 'n' {
		d.problem("", name, "wrong_type", "expected an array of targets")
		return
	}
	var elements [][]byte
	if value[0] == '[' {
		elements = d.elements(value)
	}
	if len(elements) == 0 {
		d.problem("", name, "no_targets", `omit "targets" to publish to everyone`)
	}
	if len(elements) > maxTargets {
		d.problem("", name, "too_many_targets", "at most 1000")
		elements = elements[:maxTargets]
	}
	const few = 16
	var first map[target]int
	if len(elements) > few {
		first = make(map[target]int, len(elements))
	}
	for index, element := range elements {
		t, ok := d.target(element, "/targets/"+strconv.Itoa(index))
		if !ok {
			continue
		}
		same, found := -1, false
		if first != nil {
			same, found = first[t.audience()]
		} else {
			same = slices.IndexFunc(d.targets, func(other target) bool { return other.audience() == t.audience() })
			found = same >= 0
		}
		if found {
			d.targets[same].notify = d.targets[same].notify || t.notify
			continue
		}
		if first != nil {
			first[t.audience()] = len(d.targets)
		}
		d.targets = append(d.targets, t)
	}
}

// audience is equal for equal audiences.
func (t *target) audience() target {
	return target{kind: t.kind, channel: t.channel, identity: identity{id: t.identity.id, domain: t.identity.domain}}
}

// target returns false where there is a problem that leaves nothing to compare.
func (d *Decider) target(value []byte, at string) (t target, ok bool) {
	t.kind = "Identity"
	if value[0] == '"' {
		t.identity = d.identity(value, at)
		return t, true
	}
	if value[0] != '{' {
		d.problem(at, nil, "wrong_type", "expected an identity or a target")
		return t, false
	}
	members, _ := d.split(value, false)
	members = d.once(members, at)
	if isIdentity(members) {
		t.identity = d.identityOf(members, at)
		return t, true
	}
	var kind, id, notify, name field
	for _, m := range members {
		switch string(m.name) {
		case "@type", "type":
			d.set(&kind, m, at)
		case "targetId":
			d.set(&id, m, at)
		case "notify":
			d.set(&notify, m, at)
		case "name":
			d.set(&name, m, at)
		default:
			d.problem(at, m.name, "unknown_property", "a target has no such property")
		}
	}
	if !notify.absent() {
		t.notify = notify.value[0] == 't'
		if notify.value[0] != 't' && notify.value[0] != 'f' {
			d.problem(at, notify.name, "wrong_type", "expected true or false, found "+string(notify.value))
		}
	}
	if kind.absent() && id.absent() {
		d.problem(at, nil, "missing", `expected "@type" or "targetId"`)
		return t, false
	}
	if !kind.absent() {
		t.kind = d.word(kind, at, targetTypes)
	}
	switch t.kind {
	case "Identity":
		if id.absent() {
			d.problem(at, []byte("targetId"), "missing", "it is required")
		} else {
			t.identity = d.identity(id.value, at+"/targetId")
		}
	case "Members":
		if !id.absent() {
			t.channel = d.bounded(id, at)
		}
	case "Everyone", "Public":
		if !id.absent() {
			d.problem(at, id.name, "unexpected_target_id", "a target of type "+t.kind+" has none")
		}
	default:
		return t, false
	}
	if !name.absent() {
		d.nameBeside(&t, id, name, at)
	}
	return t, true
}

// nameBeside reads the name that stands beside an identity's id, which is a string.
func (d *Decider) nameBeside(t *target, id, name field, at string) {
	switch {
	case t.kind == "Identity" && (id.absent() || id.value[0] == '"'):
		t.identity.name, t.identity.hasName = d.bound(name.value, at, name.name, true), true
	case t.identity.hasName:
		d.problem(at, name.name, "duplicate_property", "two names of the same identity")
	default:
		d.problem(at, name.name, "unknown_property", "only an identity that is a string has a name beside it")
	}
}

// isIdentity tells an identity from a target by an id, and by no property that only a target has.
func isIdentity(members []member) bool {
	id := false
	for _, m := range members {
		switch string(m.name) {
		case "id", "Id":
			id = true
		case "@type", "targetId", "notify":
			return false
		}
	}
	return id
}
