package build

import "time"

// EventType says what happened.
type EventType string

// The types of events. Every step that is looked at ends with exactly one of
// cached, done or failed, unless the build stops before it.
const (
	Started  EventType = "started"  // the build begins; Total is the number of steps
	Running  EventType = "running"  // a step begins; Why says why it is not taken from the cache
	Progress EventType = "progress" // a running step says how far it is
	Warning  EventType = "warning"  // something the user should know; the build goes on
	Message  EventType = "message"  // a line of text from a step
	Done     EventType = "done"     // a step ended well
	Cached   EventType = "cached"   // a step was skipped; Why says why
	Failed   EventType = "failed"   // a step failed; Text is the error, Kind its kind
	Replaced EventType = "replaced" // of an input, files are used in place of another's; a step that joins them is named
	Written  EventType = "written"  // a file below out/ was written; Text is its path
	Finished EventType = "finished" // the build ends, its last event; Kind and Code are empty when it went well
	Resulted EventType = "result"   // with events on the standard output, what the command prints there as JSON otherwise
)

// Event is one line of --events. Fields that do not apply are left out.
type Event struct {
	Time   time.Time `json:"time"`             // when, RFC 3339
	Type   EventType `json:"type"`             // one of the types above
	Target string    `json:"target,omitempty"` // the target that is built
	Step   string    `json:"step,omitempty"`   // the step's name
	Key    string    `json:"key,omitempty"`    // the step's key, SHA-256 in hex
	Output string    `json:"output,omitempty"` // digest of the step's output
	Why    string    `json:"why,omitempty"`    // why a step runs or is skipped
	Code   int       `json:"code,omitempty"`   // exit code of a failure, as in docs/exit-codes.md
	SHA256 string    `json:"sha256,omitempty"` // of a file that was written
	Text   string    `json:"text,omitempty"`   // a line for people: warning, error, path
	Kind   string    `json:"kind,omitempty"`   // kind of a failure, as in docs/exit-codes.md
	Done   int64     `json:"done,omitempty"`   // work done so far
	Total  int64     `json:"total,omitempty"`  // the whole work; left out when unknown
	Unit   string    `json:"unit,omitempty"`   // what Done and Total count: bytes, files
	Rate   float64   `json:"rate,omitempty"`   // units of Done in a second
	Left   float64   `json:"left_seconds,omitempty"`
	Bytes  int64     `json:"bytes,omitempty"` // size of the output or the file
	Wall   float64   `json:"wall_seconds,omitempty"`
	CPU    float64   `json:"cpu_seconds,omitempty"`
	// Result is the value of an event of that type.
	Result any `json:"result,omitempty"`
	// Replaced are the files of an event of that type.
	Replaced *Replacement `json:"replaced,omitempty"`
}

// Sink takes events. The builder calls it from one goroutine at a time.
type Sink interface {
	Event(Event)
}

// Sinks passes every event to each of several sinks.
type Sinks []Sink

// Event implements Sink.
func (s Sinks) Event(e Event) {
	for _, one := range s {
		one.Event(e)
	}
}

var _ Sink = Sinks(nil)
