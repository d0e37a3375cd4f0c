package vulns

import "encoding/json"

// osvSpecific is what is known of the members that each database of OSV has of its own.
type osvSpecific struct {
	severity       string
	files, imports []string
}

// specific reads such members. Those that are not known, or have another type, are passed over.
func specific(text json.RawMessage) (o osvSpecific) {
	var members struct {
		Severity, Urgency            json.RawMessage
		ProgramFiles, Files, Imports json.RawMessage
	}
	if len(text) == 0 || json.Unmarshal(text, &members) != nil {
		return o
	}
	for _, word := range []json.RawMessage{members.Severity, members.Urgency} {
		var w string
		if json.Unmarshal(word, &w) == nil {
			o.severity = worse(o.severity, severityOf(w))
		}
	}
	for _, list := range []json.RawMessage{members.ProgramFiles, members.Files} {
		var files []string
		if json.Unmarshal(list, &files) == nil {
			o.files = append(o.files, files...)
		}
	}
	var imports []struct{ Path string }
	if json.Unmarshal(members.Imports, &imports) == nil {
		for _, i := range imports {
			o.imports = append(o.imports, i.Path)
		}
	}
	return o
}
