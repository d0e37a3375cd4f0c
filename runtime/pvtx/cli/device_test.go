package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/meta"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// engine is that of a device which runs what it is told.
type engine struct {
	mu      sync.Mutex
	busy    int // how many commands are answered with 503
	fails   bool
	updates []api.Update
	// blockers are in the answer to a dry run.
	blockers []api.UpdateBlocker
}

func (e *engine) Resolve(int) (ctrl.Caller, error)         { return ctrl.Caller{Name: "sdk", Mgmt: true}, nil }
func (e *engine) Containers() ([]api.Container, error)     { return nil, nil }
func (e *engine) Groups() ([]api.Group, error)             { return nil, nil }
func (e *engine) Daemons() ([]api.Daemon, error)           { return nil, nil }
func (e *engine) ContainerAction(string, string) error     { return nil }
func (e *engine) DaemonAction(string, string) error        { return nil }
func (e *engine) Signal(ctrl.Caller, string, string) error { return nil }
func (e *engine) Command(op, payload string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy > 0 {
		e.busy--
		return &api.Error{Status: 503, Text: "Cannot do this operation while update is ongoing", RetryAfter: 1}
	}
	u := api.Update{Number: int64(len(e.updates) + 1), Revision: payload, Mode: op, Status: "DONE", Message: "Update finished"}
	if e.fails {
		u.Status, u.Message, u.Failure = "ERROR", "A container failed", &api.UpdateFailure{Check: "container", Text: "web ended"}
	}
	u.Path = []api.UpdateStep{{Status: "TESTING", Message: "Awaiting"}, {Status: u.Status, Message: u.Message}}
	e.updates = append(e.updates, u)
	return nil
}

func (e *engine) List() []api.Update {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.updates)
}
func (e *engine) Start(context.Context, api.UpdateRequest) error { return nil }
func (e *engine) Cancel(context.Context, string) error           { return nil }
func (e *engine) Progress(string) []byte                         { return nil }

// world is a device with its control socket, a directory for a transaction, and a host
// that makes packages.
type world struct {
	t                    testing.TB
	dir, socket, storage string
	env                  map[string]string
	engine               *engine
	host                 *objects.Store
	key                  *ecdsa.PrivateKey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := objects.Create(filepath.Join(dir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, dir: dir, storage: filepath.Join(dir, "storage"), host: host, key: key,
		env: map[string]string{"PVTXDIR": filepath.Join(dir, "tx"), "SOCKET": filepath.Join(dir, "no-socket")},
	}
}

// serve starts the device, which runs a state as revision 0.
func (w *world) serve(running *state.State) *world {
	w.t.Helper()
	w.socket = filepath.Join(w.dir, "pv-ctrl")
	w.env["SOCKET"] = w.socket
	steps := step.Open(w.storage)
	w.engine = &engine{}
	if err := errors.Join(steps.Put("0", running.Raw()), steps.SetCurrent("0")); err != nil {
		w.t.Fatal(err)
	}
	userMeta, err := meta.Open(meta.Options{Kind: meta.User})
	if err != nil {
		w.t.Fatal(err)
	}
	deviceMeta, err := meta.Open(meta.Options{Kind: meta.Device})
	if err != nil {
		w.t.Fatal(err)
	}
	s := ctrl.New(ctrl.Options{
		Resolve: w.engine.Resolve, Engine: w.engine, Daemons: w.engine, Updates: w.engine, UserMeta: userMeta, DeviceMeta: deviceMeta,
		Objects: filepath.Join(w.storage, "objects"), Steps: steps,
	})
	ctx, cancel := context.WithCancel(context.Background())
	listen, err := s.Listen(w.socket)
	if err != nil {
		cancel()
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- listen(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	return w
}

// try runs pvtx.
func (w *world) try(stdin string, args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	var out, bad bytes.Buffer
	t := &tool{ctx: w.t.Context(), stdin: strings.NewReader(stdin), stdout: &out, stderr: &bad, getenv: func(name string) string { return w.env[name] }}
	code = t.main(args)
	return code, out.String(), bad.String()
}

// ok runs pvtx, which must succeed without a warning.
func (w *world) ok(args ...string) string {
	w.t.Helper()
	code, out, bad := w.try("", args...)
	if code != 0 || bad != "" {
		w.t.Fatalf("pvtx %s: exit %d, %s", strings.Join(args, " "), code, bad)
	}
	return out
}

// fails runs pvtx, which must end with a code and say a text.
func (w *world) fails(code int, says string, args ...string) {
	w.t.Helper()
	got, out, bad := w.try("", args...)
	if got != code || out != "" || !strings.HasPrefix(bad, "ERROR: ") || !strings.Contains(bad, says) {
		w.t.Errorf("pvtx %s: exit %d, %q, %q; want %d, …%s…", strings.Join(args, " "), got, out, bad, code, says)
	}
}

// path returns the path of a file of the test.
func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// state makes a state of files: JSON as it is, other content as an object.
func (w *world) state(files ...string) *state.State {
	w.t.Helper()
	st := state.New(state.Spec)
	for i := 0; i < len(files); i += 2 {
		var err error
		if state.IsInline(files[i]) {
			err = st.Set(files[i], []byte(files[i+1]))
		} else {
			var sum string
			if sum, err = w.host.Put(w.t.Context(), strings.NewReader(files[i+1]), ""); err == nil {
				err = st.SetObject(files[i], sum)
			}
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return st
}

// signed adds the signature of a part, over its files and those of more patterns.
func (w *world) signed(st *state.State, part string, more ...string) *state.State {
	w.t.Helper()
	rule := sign.PartRule(part, nil, nil, false)
	rule.Include = append(rule.Include, more...)
	return w.signedBy(st, part, rule)
}

func (w *world) signedBy(st *state.State, name string, rule state.Rule) *state.State {
	w.t.Helper()
	doc, err := sign.Sign(st, rule, sign.Options{Key: w.key})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := st.SetValue("_sigs/"+name+".json", doc); err != nil {
		w.t.Fatal(err)
	}
	return st
}

// app makes a signed container with a root file system.
func (w *world) app(name, version string, more ...string) *state.State {
	w.t.Helper()
	files := append([]string{
		name + "/run.json", `{"name":"` + name + `","version":"` + version + `"}`,
		name + "/src.json", `{}`,
		name + "/root.squashfs", "root of " + name + " " + version,
	}, more...)
	return w.signed(w.state(files...), name)
}

func (w *world) merged(states ...*state.State) *state.State {
	w.t.Helper()
	out := state.New(state.Spec)
	for _, s := range states {
		var err error
		if out, err = out.With(s); err != nil {
			w.t.Fatal(err)
		}
	}
	return out
}

// json writes a state to a file.
func (w *world) json(st *state.State) string {
	return w.write("state.json", st.Raw())
}

func (w *world) write(name string, data []byte) string {
	w.t.Helper()
	f, err := os.CreateTemp(w.dir, "*-"+name)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err = f.Write(data); errors.Join(err, f.Close()) != nil {
		w.t.Fatal(err)
	}
	return f.Name()
}

// export writes an export with its objects, as pvr does.
func (w *world) export(st *state.State, zip bool) string {
	w.t.Helper()
	var b bytes.Buffer
	if err := archive.Export(w.t.Context(), &b, st, w.host, archive.ExportOptions{Gzip: zip}); err != nil {
		w.t.Fatal(err)
	}
	name := "export.tar"
	if zip {
		name = "export.tgz"
	}
	return w.write(name, b.Bytes())
}

// bare writes an export without objects.
func (w *world) bare(st *state.State) string {
	w.t.Helper()
	return w.write("bare.tgz", tarball(w.t, "json", string(st.Raw())))
}

// tarball makes a compressed archive of names and contents.
func tarball(t testing.TB, members ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	tw := tar.NewWriter(z)
	var errs error
	for i := 0; i < len(members); i += 2 {
		err := tw.WriteHeader(&tar.Header{Name: members[i], Mode: 0o644, Size: int64(len(members[i+1]))})
		_, werr := io.WriteString(tw, members[i+1])
		errs = errors.Join(errs, err, werr)
	}
	if err := errors.Join(errs, tw.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readState returns the state in a file.
func (w *world) readState(elem ...string) *state.State {
	w.t.Helper()
	doc, err := os.ReadFile(w.path(elem...))
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := state.Parse(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// CheckState implements ctrl.Updates.
func (e *engine) CheckState([]byte) (api.UpdateCheck, error) {
	return api.UpdateCheck{Possible: len(e.blockers) == 0, Blockers: e.blockers}, nil
}

// CheckStored implements ctrl.Updates.
func (e *engine) CheckStored(string) (api.UpdateCheck, error) { return e.CheckState(nil) }
