package workspace

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/junit"
)

// suiteOf returns the report of a boot: a case for the device as a whole, with the error of the run,
// and one for each container.
func suiteOf(s emulator.Summary, err error) junit.Suite {
	boot := junit.Case{Class: s.Target, Name: "boot", Seconds: s.BootSeconds, Output: strings.Join(s.LastLines, "\n")}
	if err != nil {
		boot.Failure = err.Error()
	}
	suite := junit.Suite{Name: s.Target, Seconds: s.BootSeconds, Cases: []junit.Case{boot}}
	failures := map[string]emulator.Failure{}
	for _, f := range s.Failures {
		failures[f.Container] = f
	}
	for _, c := range s.Containers {
		one := junit.Case{Class: s.Target + ".containers", Name: c.Name}
		if f, ok := failures[c.Name]; ok {
			one.Failure, one.Output = f.Reason, strings.Join(f.LastLines, "\n")
		} else if !emulator.Reached(c) {
			one.Failure = fmt.Sprintf("it is %s instead of %s", c.Status, c.StatusGoal)
			if c.StatusReason != "" {
				one.Failure += " (" + c.StatusReason + ")"
			}
		}
		suite.Cases = append(suite.Cases, one)
	}
	return suite
}

// bootLine sums up a boot in a line.
func bootLine(s emulator.Summary, err error) string {
	if err != nil {
		return fmt.Sprintf("boot of %s failed (%s) after %.0f s", s.Target, fault.Of(err), s.BootSeconds)
	}
	return fmt.Sprintf("boot of %s: %d containers at their goals after %.0f s by %s", s.Target, len(s.Containers), s.BootSeconds, s.Accelerator)
}

// unbooted returns the report of a run that has not booted anything.
func unbooted(target string, err error) junit.Suite {
	return junit.Suite{Name: target, Cases: []junit.Case{{Class: target, Name: "boot", Error: err.Error()}}}
}

// list writes what a build has published into the file that the user names, also when it failed.
func (w *Workspace) list(report *build.Report) error {
	if w.List == "" || report == nil {
		return nil
	}
	type artefact struct {
		Path   string `json:"path"` // as the user sees it: below the directory of results
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
	}
	all := []artefact{}
	for _, a := range report.Artefacts {
		all = append(all, artefact{a.Path, a.Bytes, a.SHA256})
	}
	text, err := json.MarshalIndent(map[string]any{"target": report.Target, "directory": w.Out(report.Target), "artefacts": all}, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, err, "listing the results")
	}
	return fault.Wrap(fault.IO, atomicfile.Write(w.path(w.List), append(text, '\n'), 0o644), "writing the list of results (--artefacts)")
}
