package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Report is what a build leaves for people and pipelines, whether it went well or not:
// out/TARGET/report.json, and the same as text in report.txt.
type Report struct {
	Target string `json:"target"`
	// Failure is nil when the build went well. Of a failed one, Steps say what succeeded,
	// and Artefacts are what was published before it failed.
	Failure   *Failure    `json:"failure,omitempty"`
	Finished  time.Time   `json:"finished"`
	Wall      float64     `json:"wall_seconds"`
	CPU       float64     `json:"cpu_seconds"`
	Warnings  []StepNote  `json:"warnings"`
	Artefacts []Published `json:"artefacts"`
	// Budgets are the limits of sizes that were checked, with what is used of them.
	Budgets []Use `json:"budgets,omitempty"`
	// Replaced are files of inputs that others are used in place of.
	Replaced []StepReplacement `json:"replaced,omitempty"`
	Steps    []StepReport      `json:"steps"`
	// Signed are the signatures of the artefacts, when the build was to sign.
	Signed *Signed `json:"signed,omitempty"`
	// Recipe is what the build was made of besides its source tree. A failed one has none.
	Recipe *Recipe `json:"recipe,omitempty"`
}

// Recipe is what a build is made of besides its source tree: with both anybody can make the
// same again.
type Recipe struct {
	// Settings are environment variables, without those that have their default.
	Settings map[string]string `json:"settings"`
	// Secrets are variables of which only the SHA-256 is recorded; Files those that name
	// files, with path and SHA-256.
	Secrets map[string]string     `json:"secrets,omitempty"`
	Files   map[string]RecipeFile `json:"files,omitempty"`
	// Lock is the text of parts.lock with the packages that were used.
	Lock string `json:"lock"`
	// Go is the version of the tool chain.
	Go string `json:"go"`
}

// RecipeFile is a file that a setting names. A directory has no digest.
type RecipeFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256,omitempty"`
}

// StepNote is a warning with the step that gave it.
type StepNote struct {
	Step string `json:"step"`
	Text string `json:"text"`
}

// StepReport is one step of a report. Times are of the run that made the output,
// which for a cached step was an earlier one.
type StepReport struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // done, cached, failed or "not run"
	Cached   bool      `json:"cached"`
	Error    string    `json:"error,omitempty"` // of a failed step
	Why      string    `json:"why"`
	Key      string    `json:"key"`
	Output   string    `json:"output"`
	Wall     float64   `json:"wall_seconds"`
	CPU      float64   `json:"cpu_seconds"`
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"`
	Contains []Content `json:"contains,omitempty"`
}

// The states of a step in a report.
const (
	stateDone   = "done"
	stateCached = "cached"
	stateFailed = "failed"
	stateNotRun = "not run" // another step failed before
)

// Failure is why a build failed.
type Failure struct {
	Kind string `json:"kind"` // as in docs/exit-codes.md, like Code
	Code int    `json:"code"`
	// Step is the one that failed first; "" when none did: the build failed before its
	// first step or after its last one.
	Step string `json:"step,omitempty"`
	Text string `json:"text"` // the whole error
}

// newFailure describes an error; nil for nil.
func newFailure(res *Result, err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{Kind: kindName(err), Code: int(fault.Of(err)), Text: err.Error()}
	if len(res.Failed) > 0 {
		f.Step = res.Failed[0].Name
	}
	return f
}

// newReport summarizes a build; err is nil when it went well.
func newReport(res *Result, published []Published, err error) *Report {
	r := &Report{
		Target: res.Target, Finished: time.Now(), Wall: res.Wall.Seconds(), CPU: res.CPU.Seconds(),
		Artefacts: published, Warnings: []StepNote{}, Replaced: res.Replaced, Budgets: res.Uses,
		Failure: newFailure(res, err),
	}
	if published == nil {
		r.Artefacts = []Published{}
	}
	for _, s := range res.Steps {
		rec := s.Record
		for _, w := range rec.Warnings {
			r.Warnings = append(r.Warnings, StepNote{s.Name, w})
		}
		state := stateDone
		if s.Cached {
			state = stateCached
		}
		r.Steps = append(r.Steps, StepReport{
			Name: s.Name, State: state, Cached: s.Cached, Why: s.Why, Key: rec.Key, Output: rec.Output, Wall: rec.Wall,
			CPU: rec.CPU, Files: rec.Files, Bytes: rec.Bytes, Contains: rec.Contains,
		})
	}
	for _, s := range res.Failed {
		r.Steps = append(r.Steps, StepReport{Name: s.Name, State: stateFailed, Error: s.Err.Error()})
	}
	for _, name := range res.NotRun {
		r.Steps = append(r.Steps, StepReport{Name: name, State: stateNotRun})
	}
	return r
}

// ReportName is the build report's name below out/TARGET; every build leaves one.
const ReportName = "report.json"

// ReportText is the name of the report as text.
const ReportText = "report.txt"

// Save writes report.json and report.txt into dir.
func (r *Report) Save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing the build report")
	}
	if err := atomicfile.Write(filepath.Join(dir, ReportName), append(data, '\n'), 0o644); err != nil {
		return fault.Wrap(fault.IO, err, "writing the build report")
	}
	err = atomicfile.Write(filepath.Join(dir, ReportText), r.Text(), 0o644)
	return fault.Wrap(fault.IO, err, "writing the build report")
}

// Text returns the report as text for people.
func (r *Report) Text() []byte {
	var text bytes.Buffer
	end := "built"
	if f := r.Failure; f != nil {
		end = fmt.Sprintf("FAILED (%s, code %d)", f.Kind, f.Code)
	}
	fmt.Fprintf(&text, "%s, %s %s in %.1f s, %.1f s of CPU\n", r.Target, end, r.Finished.Format(time.DateTime), r.Wall, r.CPU)
	if r.Failure != nil {
		fmt.Fprintln(&text, r.Failure.Text)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&text, "WARNING %s: %s\n", w.Step, w.Text)
	}
	for _, one := range r.Replaced {
		fmt.Fprintln(&text, Line(Event{Type: Replaced, Step: one.Step, Text: one.String()}))
	}
	t := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	if len(r.Budgets) > 0 {
		fmt.Fprintln(t, "\nBUDGET\tUSED\tLIMIT\t")
	}
	for _, u := range r.Budgets {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f %%\n", u, Size(u.Bytes), Size(u.Limit), u.Percent())
	}
	for _, a := range r.Artefacts {
		fmt.Fprintf(t, "\n%s\t%s\ton disk %s\tsha256 %s\n", a.Path, sizeText(a.Bytes), sizeText(a.Allocated), a.SHA256)
		for _, c := range a.Contains {
			fmt.Fprintf(t, "    %s\t%s\n", c.Name, sizeText(c.Bytes))
		}
	}
	if s := r.Signed; s != nil {
		fmt.Fprintf(t, "\nsigned with the %s key %.16s: %s\n", s.Algorithm, s.KeySHA256, strings.Join(s.Files, ", "))
	}
	fmt.Fprintln(t, "\nSTEP\tSTATE\tWALL s\tCPU s\tSIZE\tWHY")
	for _, s := range r.Steps {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%s\t%s\n", s.Name, s.State, s.Wall, s.CPU, sizeText(s.Bytes), s.Why)
	}
	_ = t.Flush() // cannot fail: it writes to memory
	return text.Bytes()
}

// maxReport bounds the size of a report, in bytes.
const maxReport = 64 << 20

// LoadReport reads report.json as [Report.Save] wrote it.
func LoadReport(name string) (*Report, error) {
	text, err := bounded.ReadRegular(name, maxReport)
	if err != nil {
		return nil, fault.New(fault.Missing, "reading the report of a build: %w", err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the report %s", name)
	}
	return &r, nil
}
