package boot

import (
	"bytes"
	"fmt"
	"strings"
)

// uboot is boot/uboot.txt: key=value entries that end with NUL, and one more NUL
// at the end (manual: Storage; U-Boot's "env import" in binary form). Text files
// with lines are read as well and written back as lines, because U-Boot's script
// imports them with "env import -t" or decides by itself.
type uboot struct{}

var _ form = uboot{}

// maxUboot is how many bytes of the file older runtimes and boot scripts read.
const maxUboot = 1024

func (uboot) decode(b []byte) ([]pair, error) {
	if i := bytes.Index(b, []byte{0, 0}); i >= 0 {
		b = b[:i]
	}
	var out []pair
	for _, e := range strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 || r == '\n' || r == '\r' }) {
		if k, v, ok := strings.Cut(e, "="); ok && strings.TrimSpace(k) != "" {
			out = append(out, pair{strings.TrimSpace(k), strings.TrimSpace(v)})
		}
	}
	return out, nil
}

// encode writes pv_rev first and then pv_try, as every peer expects. An empty
// value stays as "pv_try=": a script that imports the file must see that nothing
// is to be tried.
func (uboot) encode(pairs []pair) ([]byte, error) {
	var b bytes.Buffer
	for _, k := range []string{keyRev, keyTry} {
		fmt.Fprintf(&b, "%s=%s\x00", k, get(pairs, k))
	}
	for _, p := range pairs {
		if p.key != keyRev && p.key != keyTry {
			fmt.Fprintf(&b, "%s=%s\x00", p.key, p.value)
		}
	}
	b.WriteByte(0)
	if b.Len() > maxUboot {
		return nil, fmt.Errorf("%d bytes do not fit the %d that boot scripts read", b.Len(), maxUboot)
	}
	return b.Bytes(), nil
}
