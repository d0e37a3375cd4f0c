package remote

import (
	"net/http"
	"strings"
	"testing"
)

func TestParseChallenge(t *testing.T) {
	t.Parallel()
	hub := Challenge{"pantahub services", "https://api.pantahub.com/auth"}
	tests := []struct {
		header string
		want   Challenge
		ok     bool
	}{
		{`JWT realm="pantahub services", ph-aeps="https://api.pantahub.com/auth"`, hub, true},
		{`Bearer Realm="pantahub services",` + "\t" + `ph-aeps="https://api.pantahub.com/auth/, https://b/auth", scope="x y"`, hub, true},
		{`jwt ph-aeps=https://h/auth,realm=r`, Challenge{"r", "https://h/auth"}, true},
		{`JWT realm="a \"b\"", ph-aeps="http://h/auth"`, Challenge{`a "b"`, "http://h/auth"}, true},
		{`JWT realm="first", realm="second", ph-aeps="http://h/a"`, Challenge{"first", "http://h/a"}, true},
		{`JWT ph-aeps="http://h/a"`, Challenge{"", "http://h/a"}, true},
		{`Basic realm="x"`, Challenge{}, false},
		{`JWT realm="x"`, Challenge{}, false},
		{`JWT realm="x", ph-aeps="ftp://h/a"`, Challenge{}, false},
		{`JWT realm="x", ph-aeps="http://h/a`, Challenge{}, false},
		{`JWT realm, ph-aeps="http://h/a"`, Challenge{}, false},
		{``, Challenge{}, false},
		{`JWT ` + strings.Repeat("a=b,", 5000), Challenge{}, false},
	}
	for _, tc := range tests {
		got, err := parseChallenge(tc.header)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%.80q: %+v, %v", tc.header, got, err)
		}
	}
	if hub.Key() != "https://api.pantahub.com/auth realm=pantahub services" {
		t.Error(hub.Key())
	}
	h := http.Header{"Www-Authenticate": {`Basic realm="x"`, `JWT realm="y", ph-aeps="http://h/a"`}}
	if ch, ok := challengeOf(h); !ok || ch.Realm != "y" {
		t.Errorf("%+v, %t", ch, ok)
	}
}

func TestRelated(t *testing.T) {
	t.Parallel()
	tests := []struct {
		target, endpoint string
		want             bool
	}{
		{"https://api.pantahub.com/x", "https://api.pantahub.com/auth", true},
		{"https://pvr.pantahub.com/x", "https://api.pantahub.com/auth", true},
		{"http://pvr.pantahub.com/x", "https://api.pantahub.com/auth", false},
		{"http://127.0.0.1:8095/x", "http://127.0.0.1:9000/auth", true},
		{"http://10.0.0.1/x", "http://11.0.0.1/auth", false},
		{"https://evil.example/x", "https://api.pantahub.com/auth", false},
		{"https://a.co.uk/x", "https://b.co.uk/auth", false},
		{"https://a.b.co.uk/x", "https://b.co.uk/auth", true},
		{"https://pantahub.com.evil.org/x", "https://api.pantahub.com/auth", false},
		{"http://box/x", "http://hub/auth", false},
	}
	for _, tc := range tests {
		if got := related(mustRef(t, tc.target).URL, mustRef(t, tc.endpoint).URL); got != tc.want {
			t.Errorf("%s may have a token of %s: %t", tc.target, tc.endpoint, got)
		}
	}
}

func FuzzParseChallenge(f *testing.F) {
	f.Add(`JWT realm="pantahub services", ph-aeps="https://api.pantahub.com/auth"`)
	f.Add(`Bearer realm="a\"b", ph-aeps="http://h,http://i", x=y`)
	f.Fuzz(func(t *testing.T, header string) {
		ch, err := parseChallenge(header)
		if err != nil {
			return
		}
		if u, err := ParseURL(ch.Endpoint); err != nil || u.User != nil || strings.HasSuffix(ch.Endpoint, "/") {
			t.Errorf("%q: endpoint %q, %v", header, ch.Endpoint, err)
		}
	})
}
