package container

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fill gives every field under v another value than zero.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = netip.AddrFrom4([4]byte{10, 0, 3, byte(*n)})
		return
	case *netip.Prefix:
		*p = netip.PrefixFrom(netip.MustParseAddr("fd00::1"), *n%128)
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(string(rune('a'+*n%26)) + " word")
	case reflect.Int:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(uint64(*n) % 256)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a plan has a %v, which this test cannot fill", v.Type())
	}
}

var sameAddress = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// full is a plan in which no field is zero.
func full(t *testing.T) *plan {
	t.Helper()
	p, n := &plan{}, 0
	fill(t, reflect.ValueOf(p).Elem(), &n)
	return p
}

// TestPlanCrossesWhole finds a field that the walk over the plan leaves out.
func TestPlanCrossesWhole(t *testing.T) {
	t.Parallel()
	wide := full(t)
	wide.Caps, wide.Filter = 1<<63|1, make([]byte, 3*packet)
	empty := &plan{Init: []string{}, Filter: []byte{}, Mounts: []Mount{}}
	for name, p := range map[string]*plan{"full": full(t), "wide": wide, "zero": {}, "empty lists": empty} {
		got, err := decodePlan(p.encode())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(p, got, sameAddress); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDamagedPlan(t *testing.T) {
	t.Parallel()
	data := full(t).encode()
	for n := range len(data) {
		if _, err := decodePlan(data[:n]); err == nil {
			t.Errorf("a plan of %d bytes is taken with %d", len(data), n)
		}
	}
	if _, err := decodePlan(append(data, 0)); err == nil {
		t.Error("a plan is taken with a byte too many")
	}
}

func FuzzPlan(f *testing.F) {
	f.Add((&plan{Stage: "/s", Init: []string{"/init"}, Mounts: []Mount{{Source: "a"}}}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePlan(data)
		if err != nil {
			return
		}
		again, err := decodePlan(p.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again, sameAddress); diff != "" {
			t.Error(diff)
		}
	})
}
