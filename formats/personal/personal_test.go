package personal

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// medium is a file in memory whose power may be cut: sectors that were not synced are then
// there or not.
type medium struct {
	data   []byte
	synced []byte
	left   int // writes of sectors until the cut, -1 for never
	writes int
}

var _ File = (*medium)(nil)

var errCut = errors.New("the power is cut")

func newMedium() *medium { return &medium{data: Blank(), synced: Blank(), left: -1} }

func (m *medium) ReadAt(p []byte, at int64) (int, error) { return copy(p, m.data[at:]), nil }

func (m *medium) WriteAt(p []byte, at int64) (int, error) {
	for n := 0; n < len(p); n += sector {
		if m.left == 0 {
			return n, errCut
		}
		m.left--
		m.writes++
		copy(m.data[at+int64(n):], p[n:n+sector])
	}
	return len(p), nil
}

func (m *medium) Sync() error {
	m.synced = slices.Clone(m.data)
	return nil
}

func some(n int) Settings {
	return Settings{
		Hub: map[string]string{"PH_CREDS_HOST": fmt.Sprintf("hub%d.example.com", n)}, Hostname: fmt.Sprint("device", n),
		UserMeta: map[string]string{"network/pvnet_ipv4": "dhcp", "pvr-sdk.authorized_keys": strings.Repeat("ssh-ed25519 AAAA\n", n)},
	}
}

func load(t *testing.T, m *medium) Settings {
	t.Helper()
	s, err := Read(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWriteReadRemove(t *testing.T) {
	t.Parallel()
	m := newMedium()
	if !load(t, m).Empty() {
		t.Error("a blank file has settings")
	}
	for n := 1; n < 5; n++ {
		if err := Write(m, some(n)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(some(n), load(t, m)); diff != "" {
			t.Error(diff)
		}
		if n > 1 && bytes.Contains(m.data, []byte(fmt.Sprintf("hub%d.", n-1))) {
			t.Error("the settings of before are there still")
		}
	}
	if err := Write(m, Settings{}); err != nil || !bytes.Equal(m.data, Blank()) {
		t.Errorf("removed, and not blank: %v", err)
	}
	large := Settings{UserMeta: map[string]string{"x": strings.Repeat("x", most)}}
	if err := Write(m, large); !errors.Is(err, ErrTooLarge) || !bytes.Equal(m.data, Blank()) {
		t.Errorf("%v", err)
	}
}

// TestCutAtEverySector: before, the old settings count, and afterwards the new ones; what was
// not synced may be on the medium or not.
func TestCutAtEverySector(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new Settings }{
		"first": {Settings{}, some(1)}, "other": {some(1), some(2)}, "removed": {some(1), Settings{}},
	} {
		whole := newMedium()
		if err := errors.Join(Write(whole, c.old), Write(whole, some(3)), Write(whole, c.old)); err != nil {
			t.Fatal(err)
		}
		start := slices.Clone(whole.data)
		whole.writes = 0
		if err := Write(whole, c.new); err != nil {
			t.Fatal(err)
		}
		changed := false
		for cut := range whole.writes {
			m := &medium{data: slices.Clone(start), synced: slices.Clone(start), left: cut}
			if err := Write(m, c.new); !errors.Is(err, errCut) {
				t.Fatalf("%s, cut at %d: %v", name, cut, err)
			}
			for _, data := range [][]byte{m.data, m.synced} {
				got := load(t, &medium{data: data, left: -1})
				isOld, isNew := cmp.Equal(got, c.old), cmp.Equal(got, c.new)
				if !isOld && !isNew || changed && !isNew {
					t.Fatalf("%s, cut at %d: %+v", name, cut, got)
				}
				if &data[0] == &m.synced[0] {
					changed = isNew
				}
			}
			m.left = -1
			if err := Write(m, c.new); err != nil || !cmp.Equal(load(t, m), c.new) {
				t.Errorf("%s, again after a cut at %d: %v", name, cut, err)
			}
		}
	}
}

// TestLastGeneration: settings behind the last generation can be read, too.
func TestLastGeneration(t *testing.T) {
	t.Parallel()
	m := &medium{data: Blank(), left: -1}
	if err := fill(m, 0, math.MaxUint32, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := Write(m, some(2)); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(m); err != nil || !cmp.Equal(got, some(2)) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestDamage: it is told, unless the other slot is whole, and a new writing mends it.
func TestDamage(t *testing.T) {
	t.Parallel()
	m := newMedium()
	if err := Write(m, some(1)); err != nil {
		t.Fatal(err)
	}
	for i := range len(m.data) {
		if m.data[i] != filler {
			m.data[i] ^= 1
			break
		}
	}
	if _, err := Read(m); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
	if err := Write(m, some(2)); err != nil || !cmp.Equal(load(t, m), some(2)) {
		t.Errorf("%v", err)
	}
	if _, err := Read(bytes.NewReader(make([]byte, 100))); err == nil {
		t.Error("a short file was read")
	}
	if _, err := Read(bytes.NewReader(make([]byte, Size))); !errors.Is(err, ErrFormat) {
		t.Errorf("zeros: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	m := newMedium()
	if err := Write(m, some(1)); err != nil {
		f.Fatal(err)
	}
	f.Add(m.data[:sector+100], m.data[slotSize:slotSize+sector+200])
	f.Fuzz(func(t *testing.T, one, two []byte) {
		data := Blank()
		copy(data[:slotSize], one)
		copy(data[slotSize:], two)
		m := &medium{data: data, left: -1}
		if s, err := Read(m); err != nil && !s.Empty() {
			t.Errorf("%+v, %v", s, err)
		}
		if err := Write(m, some(2)); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(m); err != nil || !cmp.Equal(got, some(2)) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
