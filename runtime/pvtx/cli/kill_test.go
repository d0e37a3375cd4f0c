package cli

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/revision/state"
)

// actor makes the test binary act as pvtx.
const actor = "PVTX_TEST_ACTOR"

func TestMain(m *testing.M) {
	if words := os.Getenv(actor); words != "" {
		os.Exit(Run(context.Background(), strings.Fields(words), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// killed runs pvtx and kills it after a while, unless it ends before. It reports whether
// it did.
func (w *world) killed(after time.Duration, words ...string) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), after)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = []string{actor + "=" + strings.Join(words, " "), "PVTXDIR=" + w.env["PVTXDIR"]}
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() == nil {
		w.t.Fatalf("pvtx %s: %v, %s", strings.Join(words, " "), err, out)
	}
	return err != nil
}

// TestKilledDeployment: the directory is always a whole deployment, of the old state or of
// the new one, and the transaction can be deployed again.
func TestKilledDeployment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	states := []*state.State{w.app("web", "1"), w.app("web", "2", "web/more", "more")}
	var packs []string
	for _, st := range states {
		packs = append(packs, w.export(st, true))
	}
	w.ok("begin", "empty", w.path("objects"))
	w.ok("add", packs[0])
	w.ok("deploy", w.path("out"))
	kills := 0
	for i := range 24 {
		w.ok("begin", "empty", w.path("objects"))
		w.ok("add", packs[(i+1)%2])
		if w.killed(time.Duration(rand.IntN(60_000))*time.Microsecond, "deploy", w.path("out")) {
			kills++
		}
		got := w.readState("out/.pvr/json")
		if !state.Equal(got, states[0]) && !state.Equal(got, states[1]) {
			t.Fatalf("the deployed state is %s", got.Encode())
		}
		for _, o := range got.Objects() {
			want, err := os.Stat(w.path("objects", o.Sum))
			have, herr := os.Stat(w.path("out", o.Path))
			if err != nil || herr != nil || !os.SameFile(want, have) {
				t.Fatalf("%s of the deployment: %v, %v", o.Path, err, herr)
			}
		}
		w.ok("deploy", w.path("out"))
		w.same(states[(i+1)%2], w.readState("out/.pvr/json"))
	}
	t.Logf("%d of 24 were killed", kills)
}
