package vulns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// trackerEntry is what Debian's security tracker says of a vulnerability of a source package.
type trackerEntry struct {
	Releases map[string]trackerRelease `json:"releases"`
}

// trackerRelease is what it says of one release, named by its codename.
type trackerRelease struct {
	// Status is open, resolved or undetermined.
	Status string `json:"status"`
	// FixedVersion is that of resolved ones; "0" when the release was never affected.
	FixedVersion string `json:"fixed_version"`
	Urgency      string `json:"urgency"`
	NoDSAReason  string `json:"nodsa_reason"`
}

// tracker reads the file of Debian's security tracker: an object of source packages, each an object of
// vulnerabilities.
func (s *Scan) tracker(dec *json.Decoder, step func(), src *Source) error {
	src.Form = formTracker
	return members(dec, step, func(name string) error {
		places := s.index[key{debian, name}]
		return members(dec, step, func(vulnerability string) error {
			var e trackerEntry
			if err := dec.Decode(&e); err != nil {
				return fmt.Errorf("%s of %s: %w", vulnerability, name, err)
			}
			src.Records++
			for release := range e.Releases {
				s.see(debian + ":" + release)
			}
			for _, p := range places {
				out := e.entry(p.id)
				out.names, out.form = []string{vulnerability}, formTracker
				if err := s.add(p.component, out); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// members reads an object of a stream: each is called with a member's name when its value is next.
// step is called before everything that is read.
func members(dec *json.Decoder, step func(), each func(name string) error) error {
	if err := open(dec, step, '{'); err != nil {
		return err
	}
	for dec.More() {
		step()
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return fmt.Errorf("want a name, not %v", t)
		}
		step()
		if err := each(name); err != nil {
			return err
		}
	}
	step()
	_, err := dec.Token()
	return err
}

// open reads the beginning of an object or an array.
func open(dec *json.Decoder, step func(), want json.Delim) error {
	step()
	t, err := dec.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err == nil && t != want {
		err = fmt.Errorf("want %q at byte %d, not %v", rune(want), dec.InputOffset(), t)
	}
	return err
}

// entry returns what the tracker says of a package's version in its release. When the release is not
// known, all of them must agree.
func (t *trackerEntry) entry(id *identity) entry {
	if id.release != "" {
		release := debianCodename(id.release)
		r, there := t.Releases[release]
		if !there {
			return entry{state: Unknown, why: "it says nothing of " + release}
		}
		return r.entry(id, release)
	}
	var out entry
	for i, release := range slices.Sorted(maps.Keys(t.Releases)) {
		e := t.Releases[release]
		switch next := e.entry(id, release); {
		case i == 0:
			out = next
		case out.state != next.state:
			return entry{state: Unknown, severity: worse(out.severity, next.severity), why: "it is not known of which release the package is, and they differ"}
		default:
			out.severity = worse(out.severity, next.severity)
			if out.fixedIn != next.fixedIn {
				out.fixedIn = ""
			}
		}
	}
	if out.state == "" {
		out = entry{state: Unknown, why: "it says nothing of any release"}
	}
	return out
}

func (r *trackerRelease) entry(id *identity, release string) entry {
	out := entry{severity: severityOf(strings.TrimPrefix(r.Urgency, "end-of-life"))}
	switch r.Status {
	case "open":
		out.state, out.why = Affected, "open in "+release
		if r.NoDSAReason != "" {
			out.why += " (" + r.NoDSAReason + ")"
		}
		if r.Urgency == "end-of-life" {
			out.why += ", which has no more support"
		}
	case "undetermined":
		out.state, out.why = Investigation, "undetermined in "+release
	case "resolved":
		r.resolved(id, release, &out)
	default:
		out.state, out.why = Unknown, fmt.Sprintf("its status in %s is %q, which is not known", release, r.Status)
	}
	return out
}

// resolved compares a version with that which has the fix.
func (r *trackerRelease) resolved(id *identity, release string, out *entry) {
	if r.FixedVersion == "0" {
		out.state, out.why = NotAffected, release+" was never affected"
		return
	}
	if id.version == "" {
		out.state, out.why = Unknown, "the bill of materials has no version of the package"
		return
	}
	c, err := id.order(id.version, r.FixedVersion)
	switch {
	case err != nil:
		out.state, out.why = Unknown, err.Error()
	case c < 0:
		out.state, out.fixedIn = Affected, r.FixedVersion
		out.why = fmt.Sprintf("%s is affected, fixed in %s of %s", id.version, r.FixedVersion, release)
	default:
		out.state, out.fixedIn = Fixed, r.FixedVersion
		out.why = fmt.Sprintf("%s has the fix of %s", id.version, r.FixedVersion)
	}
}
