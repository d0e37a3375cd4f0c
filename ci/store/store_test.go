package store

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// server starts a server of S3 with the bucket "bucket" and returns the environment for it.
func server(t *testing.T, wrap func(http.Handler) http.Handler) []string {
	t.Helper()
	mem := s3mem.New()
	if err := mem.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	h := gofakes3.New(mem).Server()
	if wrap != nil {
		h = wrap(h)
	}
	// Without TLS, gofakes3 takes the frames of a signed part for its content.
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"AWS_CA_BUNDLE=" + bundle, "AWS_ENDPOINT_URL_S3=" + s.URL, "AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=very-secret"}
}

// each runs a test with both kinds of stores.
func each(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Helper()
	for name, place := range map[string]func(t *testing.T) (string, []string){
		"directory": func(t *testing.T) (string, []string) { return filepath.Join(t.TempDir(), "new", "store"), nil },
		"s3":        func(t *testing.T) (string, []string) { return "s3://bucket/a project", server(t, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			where, env := place(t)
			s, err := Open(where, env)
			if err != nil {
				t.Fatal(err)
			}
			test(t, s)
		})
	}
}

func TestCompareAndSwap(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if _, v, err := s.Get(ctx, "d/stable.json", 100); !errors.Is(err, fs.ErrNotExist) || fault.Of(err) != fault.Missing || v != Absent {
			t.Fatalf("what is not there: version %q, %v", v, err)
		}
		first, err := s.Put(ctx, "d/stable.json", []byte("one"), Absent)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(ctx, "d/stable.json", []byte("two"), Absent); !errors.Is(err, errChanged) {
			t.Errorf("a second file of the name: %v", err)
		}
		second, err := s.Put(ctx, "d/stable.json", []byte("two"), first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(ctx, "d/stable.json", []byte("three"), first); !errors.Is(err, errChanged) {
			t.Errorf("over a version that is no more: %v", err)
		}
		if data, v, err := s.Get(ctx, "d/stable.json", 100); string(data) != "two" || v != second || err != nil {
			t.Errorf("read %q, version %q, %v; want two, %q", data, v, err, second)
		}
		if _, _, err := s.Get(ctx, "d/stable.json", 2); err == nil {
			t.Error("three bytes were read with a limit of two")
		}
		if _, err := s.Put(ctx, "d/stable.json", []byte("four"), Any); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.Delete(ctx, "d/stable.json"), s.Delete(ctx, "d/stable.json"), s.Delete(ctx, "x/y")); err != nil {
			t.Error(err)
		}
		if _, err := s.Put(ctx, "d/stable.json", []byte("five"), second); !errors.Is(err, errChanged) {
			t.Errorf("over a file that was removed: %v", err)
		}
	})
}

// TestUpdatesAtOnce has many writers; each of them must find its line in the end.
func TestUpdatesAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const writers = 12
		var group sync.WaitGroup
		for i := range writers {
			group.Go(func() {
				line := fmt.Sprintf("writer %d\n", i)
				err := s.Update(t.Context(), "list", 1000, func(old []byte) ([]byte, error) {
					if bytes.Contains(old, []byte(line)) {
						return old, nil
					}
					return append(bytes.Clone(old), line...), nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		data, _, err := s.Get(t.Context(), "list", 1000)
		if n := bytes.Count(data, []byte("\n")); n != writers || err != nil {
			t.Errorf("%d of %d lines are there, %v:\n%s", n, writers, err, data)
		}
	})
}

func TestUpdateWithoutAChange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		same := func(old []byte) ([]byte, error) { return []byte("x"), nil }
		if err := s.Update(t.Context(), "f", 10, same); err != nil {
			t.Fatal(err)
		}
		_, before, _ := s.Get(t.Context(), "f", 10)
		if err := s.Update(t.Context(), "f", 10, same); err != nil {
			t.Fatal(err)
		}
		if _, after, _ := s.Get(t.Context(), "f", 10); after != before {
			t.Errorf("version %q became %q", before, after)
		}
		boom := errors.New("no")
		if err := s.Update(t.Context(), "f", 10, func([]byte) ([]byte, error) { return nil, boom }); !errors.Is(err, boom) {
			t.Errorf("the edit's error: %v", err)
		}
	})
}

func TestPutFile(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		file := filepath.Join(t.TempDir(), "disk.img.zst")
		data := bytes.Repeat([]byte("0123456789abcdef"), partSize/16+1) // two parts
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if up, err := s.PutFile(ctx, "1.0/disk.img.zst", File{Path: file}); !up || err != nil {
			t.Fatalf("uploaded %v, %v", up, err)
		}
		sum, err := s.Digest(ctx, "1.0/disk.img.zst")
		if err != nil || len(sum) != 64 {
			t.Fatalf("digest %q, %v", sum, err)
		}
		if up, err := s.PutFile(ctx, "1.0/disk.img.zst", File{Path: file, SHA256: sum}); up || err != nil {
			t.Errorf("the same once more: uploaded %v, %v", up, err)
		}
		o, err := s.Open(ctx, "1.0/disk.img.zst")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(o)
		if !bytes.Equal(got, data) || o.Size != int64(len(data)) || errors.Join(err, o.Close()) != nil {
			t.Errorf("read %d of %d bytes, %v", len(got), len(data), err)
		}
		if _, err := s.PutFile(ctx, "1.0/other", File{Path: file, SHA256: strings.Repeat("0", 64)}); fault.Of(err) != fault.Digest {
			t.Errorf("with another digest: %v", err)
		}
		if err := os.WriteFile(file, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.PutFile(ctx, "1.0/disk.img.zst", File{Path: file}); fault.Of(err) != fault.Different {
			t.Errorf("another content: %v", err)
		}
		if up, err := s.PutFile(ctx, "1.0/disk.img.zst", File{Path: file, Replace: true}); !up || err != nil {
			t.Errorf("replaced: %v, %v", up, err)
		}
		if _, err := s.PutFile(ctx, "1.0/none", File{Path: file + ".none"}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file that is not there: %v", err)
		}
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		if list, err := s.List(t.Context(), ""); len(list) != 0 || err != nil {
			t.Errorf("an empty store: %v, %v", list, err)
		}
		for _, name := range []string{"b/2", "b/1", "bc", "a b&c"} {
			if _, err := s.Put(t.Context(), name, []byte(name), Absent); err != nil {
				t.Fatal(err)
			}
		}
		for prefix, want := range map[string][]Entry{
			"":   {{"a b&c", 5}, {"b/1", 3}, {"b/2", 3}, {"bc", 2}},
			"b/": {{"b/1", 3}, {"b/2", 3}},
			"b":  {{"b/1", 3}, {"b/2", 3}, {"bc", 2}},
			"x/": nil,
		} {
			got, err := s.List(t.Context(), prefix)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("List(%q): %v\n%s", prefix, err, diff)
			}
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for _, name := range []string{"", ".", "..", "../x", "/x", "a/../b", "a//b", "a\\b", "a\nb", "a/", ".lock", "a/.b", "a\xff", strings.Repeat("a", 2000)} {
			_, err := s.Put(t.Context(), name, nil, Any)
			if fault.Of(err) != fault.BadInput {
				t.Errorf("Put(%.20q): %v", name, err)
			}
			_, err = s.List(t.Context(), name+"/")
			if name != "" && name != "a/" && fault.Of(err) != fault.BadInput {
				t.Errorf("List(%.20q): %v", name, err)
			}
		}
	})
}

func TestNothingHalfWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Put(ctx, "file", []byte("text"), Any); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

func TestServersAnswers(t *testing.T) {
	t.Parallel()
	refuse := func(status int, code string) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(status)
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
			})
		}
	}
	blind := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-None-Match")
			r.Header.Del("If-Match")
			h.ServeHTTP(w, r)
		})
	}
	for name, c := range map[string]struct {
		wrap func(http.Handler) http.Handler
		kind fault.Kind
		says string
	}{
		"wrong key":                   {refuse(403, "SignatureDoesNotMatch"), fault.BadInput, "check AWS_ACCESS_KEY_ID"},
		"no bucket":                   {refuse(404, "NoSuchBucket"), fault.Missing, "the bucket bucket does not exist"},
		"wrong region":                {refuse(400, "AuthorizationHeaderMalformed"), fault.BadInput, "set AWS_REGION"},
		"no conditions":               {refuse(501, "NotImplemented"), fault.Unsupported, "does not support it"},
		"conditions that are ignored": {blind, fault.Unsupported, "would overwrite each other's work"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Open("s3://bucket", server(t, c.wrap))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Put(t.Context(), "f", []byte("x"), Absent)
			if fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "very-secret") {
				t.Errorf("%v: %v; want %v, %q", fault.Of(err), err, c.kind, c.says)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	s, err := Open("s3://bucket", []string{"AWS_ENDPOINT_URL=" + gone.URL, "AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=s"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "f", 10); fault.Of(err) != fault.Unreachable {
		t.Errorf("%v: %v", fault.Of(err), err)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		place, env string
		kind       fault.Kind
	}{
		{"", "", fault.BadInput},
		{"ftp://x/y", "", fault.Unsupported},
		{"s3://b/../c", "", fault.BadInput},
		{"s3://bucket", "AWS_ACCESS_KEY_ID=only", fault.BadInput},
		{"s3://bucket", "AWS_CA_BUNDLE=/none", fault.BadInput},
		{"s3://bucket", "AWS_ENDPOINT_URL=host", fault.BadInput},
		{"s3://bucket", "AWS_ENDPOINT_URL=https://user:word@host", fault.BadInput},
	} {
		_, err := Open(c.place, []string{c.env})
		if fault.Of(err) != c.kind || strings.Contains(err.Error(), "word@") {
			t.Errorf("Open(%q) with %q: %v", c.place, c.env, err)
		}
	}
	for env, want := range map[string]string{
		"AWS_REGION=eu-west-1":                   "https://bucket.s3.eu-west-1.amazonaws.com/a%20b/1.0/x%231",
		"AWS_ENDPOINT_URL=http://files.lan:9000": "http://files.lan:9000/bucket/a%20b/1.0/x%231",
		"AWS_ENDPOINT_URL_S3=https://files.lan/": "https://files.lan/bucket/a%20b/1.0/x%231",
	} {
		s, err := Open("s3://bucket/a b/", []string{env, "AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=s"})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.URL("1.0/x#1"); got != want {
			t.Errorf("with %s: %s, want %s", env, got, want)
		}
	}
}
