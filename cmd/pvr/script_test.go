package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"pvr": func() { os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir+"/home")
			return os.Mkdir(env.WorkDir+"/home", 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkkey":   mkKey,
			"hostile": hostile,
			"exit":    exitCode,
			"pipe":    makePipe,

			"registry": startRegistry,
			"serve":    serveFiles,
			"push":     pushImage,
			"hub":      startHub,
		},
	})
}

// exitCode runs "exit CODE COMMAND…" and compares the command's exit code.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// makePipe runs "pipe FILE".
func makePipe(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(unix.Mkfifo(ts.MkAbs(args[0]), 0o644))
}

// mkKey runs "mkkey KEY CERTIFICATE": a new key and its own certificate for code
// signing.
func mkKey(ts *testscript.TestScript, neg bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "developer"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
}

// hostile runs "hostile KIND FILE": an archive that must be refused.
func hostile(ts *testscript.TestScript, neg bool, args []string) {
	good := tar.Header{Name: "json", Typeflag: tar.TypeReg, Mode: 0o600}
	state := `{"#spec":"pantavisor-service-system@1"}`
	type member struct {
		tar.Header
		text string
	}
	zeros := strings.Repeat("0", 64)
	kinds := map[string][]member{
		"dotdot":    {{good, state}, {tar.Header{Name: "objects/../../../escaped", Typeflag: tar.TypeReg}, "x"}},
		"absolute":  {{good, state}, {tar.Header{Name: "/escaped", Typeflag: tar.TypeReg}, "x"}},
		"link":      {{good, state}, {tar.Header{Name: "objects/" + zeros, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}},
		"wrong-sum": {{good, state}, {tar.Header{Name: "objects/" + zeros, Typeflag: tar.TypeReg}, "not that"}},
		"two":       {{good, state}, {good, state}},
		"lacking":   {{good, `{"a":"` + zeros + `"}`}},
		"key":       {{good, `{"../escaped.json":{}}`}},
		"dot-pvr":   {{good, `{".pvr/config":"` + zeros + `"}`}},
		"zeros":     {{good, state}, {tar.Header{Name: "objects/" + zeros, Typeflag: tar.TypeReg, Size: 10 << 30}, ""}},
		"truncated": {{good, state}, {tar.Header{Name: "objects/" + sumOf([]byte("text")), Typeflag: tar.TypeReg}, "text"}},
	}
	members, ok := kinds[args[0]]
	if !ok {
		ts.Fatalf("unknown kind %s", args[0])
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	tw := tar.NewWriter(z)
	for _, m := range members {
		m.Size = max(m.Size, int64(len(m.text)))
		ts.Check(tw.WriteHeader(&m.Header))
		_, err := io.WriteString(tw, m.text)
		ts.Check(err)
	}
	if args[0] != "zeros" { // the refusal comes before what is lacking
		ts.Check(tw.Close())
	}
	ts.Check(z.Close())
	text := b.Bytes()
	if args[0] == "truncated" {
		text = text[:len(text)-20]
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o644))
}
