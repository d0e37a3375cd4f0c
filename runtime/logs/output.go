package logs

import (
	"fmt"
	"strings"
)

// Output is a set of outputs for messages, one bit each (manual: logs, output types).
type Output int

// The outputs, with the bits that /config shows.
const (
	nullSink         Output = 1 << iota // discard
	SingleFile                          // one JSON object a line in <dir>/<rev>/pv.log
	FileTree                            // <dir>/<rev>/<platform>/<source>
	Stdout                              // everything
	StdoutContainers                    // containers only
	StdoutPantavisor                    // the runtime only
	StdoutDirect                        // the runtime, written at once by the caller
	updateLog                           // the log of an update; always on
)

var outputNames = []string{"nullsink", "singlefile", "filetree", "stdout", "stdout.containers", "stdout.pantavisor", "stdout_direct"}

// ParseOutputs reads the comma-separated list of PV_LOG_SERVER_OUTPUTS. It returns the
// known outputs, and an error with all unknown names. An empty list is [FileTree].
func ParseOutputs(list string) (Output, error) {
	var out Output
	var unknown []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		found := name == ""
		for i, known := range outputNames {
			if name == known {
				out, found = out|1<<i, true
			}
		}
		if !found {
			unknown = append(unknown, name)
		}
	}
	if out == 0 {
		out = FileTree
	}
	if len(unknown) > 0 {
		return out, fmt.Errorf("reading PV_LOG_SERVER_OUTPUTS: unknown output %q; use %s", unknown, strings.Join(outputNames, ", "))
	}
	return out, nil
}

// String returns the comma-separated list.
func (o Output) String() string {
	var names []string
	for i, name := range outputNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
