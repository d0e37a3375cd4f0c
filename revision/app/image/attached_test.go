package image

import (
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// artefact makes a manifest with documents as layers, as programs attach them.
func artefact(t *testing.T, kind string, subject v1.Image, layers map[string]string) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.MediaType(kind))
	for _, text := range slices.Sorted(maps.Keys(layers)) {
		add := mutate.Addendum{Layer: static.NewLayer([]byte(text), types.MediaType(layers[text]))}
		if strings.Contains(text, "predicateType") && !strings.Contains(text, "untold") {
			add.Annotations = map[string]string{"in-toto.io/predicate-type": strings.Split(text, `"`)[3]}
		}
		var err error
		if img, err = mutate.Append(img, add); err != nil {
			t.Fatal(err)
		}
	}
	if subject == nil {
		return img
	}
	desc, err := partial.Descriptor(subject)
	if err != nil {
		t.Fatal(err)
	}
	return mutate.Subject(img, *desc).(v1.Image)
}

func statement(kind, document string) string {
	return fmt.Sprintf(`{"predicateType":"%s","_type":"https://in-toto.io/Statement/v0.1","predicate":%s}`, kind, document)
}

// attachedTo lists what is attached to an image.
func attachedTo(t *testing.T, reference string, opts Options) []string {
	t.Helper()
	i, err := Resolve(t.Context(), reference, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	list, err := i.Attached(t.Context())
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, a := range list {
		if len(a.SHA256) != 64 {
			t.Errorf("the digest %q", a.SHA256)
		}
		out = append(out, a.How+" "+a.MediaType+" "+string(a.Data))
	}
	slices.Sort(out)
	return out
}

// attestation describes a manifest as BuildKit does in an index.
func attestation(t *testing.T, of v1.Image, documents map[string]string) mutate.IndexAddendum {
	t.Helper()
	digest, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return mutate.IndexAddendum{Add: artefact(t, string(types.OCIConfigJSON), nil, documents), Descriptor: v1.Descriptor{
		Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
		Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest.String()},
	}}
}

func platform(arch string, img v1.Image) mutate.IndexAddendum {
	return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}}
}

// TestAttached attaches documents in each way, to one of two images.
func TestAttached(t *testing.T) {
	t.Parallel()
	amd, arm := forPlatform(t, "linux/amd64"), forPlatform(t, "linux/arm64")
	told := map[string]string{
		statement("https://spdx.dev/Document", `{"spdxVersion":"SPDX-2.3"}`):  intotoType,
		statement("https://slsa.dev/provenance/v0.2", `{"builder":"x"}`):      intotoType,
		statement("https://cyclonedx.org/bom/v1.6", `{"untold":"CycloneDX"}`): intotoType,
	}
	other := map[string]string{statement("https://spdx.dev/Document", `{"of":"another image"}`): intotoType}
	beside := []string{
		`attestation application/spdx+json {"spdxVersion":"SPDX-2.3"}`,
		`attestation application/vnd.cyclonedx+json {"untold":"CycloneDX"}`,
	}
	refers := artefact(t, spdxType, amd, map[string]string{`{"a":"referrer"}`: spdxType, `{"spdxVersion":"SPDX-2.3"}`: "text/spdx+json", "icon": "image/png"})

	dir := layoutOf(t, platform("amd64", amd), platform("arm64", arm), attestation(t, amd, told), attestation(t, arm, other), mutate.IndexAddendum{Add: refers})
	got := attachedTo(t, dir, Options{Platforms: []string{"linux/amd64"}})
	if want := append(slices.Clone(beside), `referrer application/spdx+json {"a":"referrer"}`); !slices.Equal(got, want) {
		t.Errorf("in a layout: %q, want %q", got, want)
	}
	if got := attachedTo(t, dir, Options{Platforms: []string{"linux/arm64"}}); !slices.Equal(got, []string{`attestation application/spdx+json {"of":"another image"}`}) {
		t.Errorf("to the other image: %q", got)
	}

	for _, apart := range []bool{true, false} {
		h := newHost(t, func(http.Handler) http.Handler {
			return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(apart))
		})
		index := mutate.AppendManifests(empty.Index, platform("amd64", amd), platform("arm64", arm), attestation(t, amd, told))
		ref, err := name.ParseReference("example.com/app:1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(ref, index, remote.WithTransport(h.transport)); err != nil {
			t.Fatal(err)
		}
		digest, _ := amd.Digest()
		h.push(t, "example.com/app:any", refers)
		h.push(t, "example.com/app:sha256-"+digest.Hex+".sbom", artefact(t, string(types.OCIConfigJSON), nil, map[string]string{`{"by":"cosign"}`: "text/spdx+json"}))
		opts := h.options(t)
		opts.Platforms = []string{"linux/amd64"}
		want := append(slices.Clone(beside), `referrer application/spdx+json {"a":"referrer"}`, `tag application/spdx+json {"by":"cosign"}`)
		if got := attachedTo(t, "example.com/app:1", opts); !slices.Equal(got, want) {
			t.Errorf("in a registry that lists referrers (%v): %q, want %q", apart, got, want)
		}
		opts.Platforms = []string{"linux/arm64"}
		if got := attachedTo(t, "example.com/app:1", opts); len(got) != 0 {
			t.Errorf("to the other image: %q", got)
		}
	}
}

// TestNothingAttached has images without documents.
func TestNothingAttached(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.push(t, "example.com/app:1", makeImage(t, "x", gzipLayer(t, "a", "b")))
	if got := attachedTo(t, "example.com/app:1", h.options(t)); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// TestDamagedAttachments has documents that are not what their manifests say.
func TestDamagedAttachments(t *testing.T) {
	t.Parallel()
	img := forPlatform(t, "linux/amd64")
	dir := layoutOf(t, platform("amd64", img), attestation(t, img, map[string]string{"no statement": intotoType}))
	if got := attachedTo(t, dir, Options{}); len(got) != 1 || !strings.Contains(got[0], "reading a statement of in-toto") {
		t.Errorf("%q", got)
	}
	h := newHost(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			body := rec.Body.String()
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				body = strings.ReplaceAll(body, `{"by":"cosign"}`, `{"by":"others"}`)
			}
			maps.Copy(w.Header(), rec.Header())
			w.WriteHeader(rec.Code)
			_, _ = w.Write([]byte(body))
		})
	})
	digest, _ := img.Digest()
	h.push(t, "example.com/app:1", img)
	h.push(t, "example.com/app:sha256-"+digest.Hex+".sbom", artefact(t, string(types.OCIConfigJSON), nil, map[string]string{`{"by":"cosign"}`: spdxType}))
	if got := attachedTo(t, "example.com/app:1", h.options(t)); len(got) != 1 || !strings.Contains(got[0], "error verifying sha256 checksum") {
		t.Errorf("%q", got)
	}
}
