package targets

import (
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestParseForward(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"8080:80": "127.0.0.1:8080:80/tcp", "8080:80/tcp": "127.0.0.1:8080:80/tcp", "53:53/udp": "127.0.0.1:53:53/udp",
		"0.0.0.0:65535:1": "0.0.0.0:65535:1/tcp",
	} {
		f, err := ParseForward(text)
		if err != nil || f.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, f, err, want)
		}
		if again, err := ParseForward(f.String()); err != nil || again != f {
			t.Errorf("%s does not come back: %v, %v", f, again, err)
		}
	}
	for text, want := range map[string]string{
		"": "not a port forward", "80": "not a port forward", "1:2:3:4": "not a port forward", "80:80/sctp": "not a port forward", "80:80/": "not a port forward",
		"0:80": `"0" is not a port`, "80:65536": `"65536" is not a port`, "80:-1": `"-1" is not a port`, "localhost:80:80": `"localhost" is not an IPv4 address`,
		"80:80,guestfwd=x": "is not a port", "::1:80": "not a port forward",
	} {
		if _, err := ParseForward(text); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
