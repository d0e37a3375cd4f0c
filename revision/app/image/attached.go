package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Attached is a bill of materials that somebody attached to an image.
type Attached struct {
	// MediaType is that of Data: application/spdx+json or application/vnd.cyclonedx+json.
	MediaType string
	// Data is the document, byte for byte as it is in what is attached.
	Data []byte
	// SHA256 is that of Data in hex.
	SHA256 string
	// How it is attached: "attestation", "referrer" or "tag".
	How string
}

// The forms of documents.
const (
	spdxType      = "application/spdx+json"
	cyclonedxType = "application/vnd.cyclonedx+json"
	intotoType    = "application/vnd.in-toto+json"
)

// documentTypes are the media types of documents that are in use, with the usual one.
var documentTypes = map[string]string{
	spdxType: spdxType, "text/spdx+json": spdxType, "spdx+json": spdxType, cyclonedxType: cyclonedxType, "application/vnd.cyclonedx": cyclonedxType,
}

// predicates are the kinds of statements of in-toto that are bills of materials.
var predicates = map[string]string{
	"https://spdx.dev/Document": spdxType, "https://cyclonedx.org/bom": cyclonedxType,
}

const (
	maxAttached    = 16       // documents of one image
	maxAttachments = 256      // things of any kind that are attached
	maxBill        = 64 << 20 // bytes of a document
)

// Attached returns the bills of materials that are attached to the image, each once: in attestations
// beside it in its index, as BuildKit writes them (BuildKit: docs/attestations/attestation-storage.md), as
// artefacts that refer to it (OCI distribution specification, "Listing Referrers"; in a layout those of its
// index), and under the tag sha256-DIGEST.sbom of its repository, as cosign writes them. The documents are
// what somebody says of the image: nothing is checked but their digests.
func (i *Image) Attached(ctx context.Context) ([]Attached, error) {
	if i.manifest == (v1.Hash{}) {
		return nil, nil // an archive of docker save has nothing else
	}
	a := &attached{image: i}
	for _, find := range []func(context.Context) error{a.beside, a.referrers, a.tagged} {
		if err := find(ctx); err != nil {
			return nil, fmt.Errorf("looking for bills of materials of %s: %w", i.Name, err)
		}
	}
	return a.list, nil
}

// attached is a search.
type attached struct {
	image *Image
	seen  int
	list  []Attached
}

// beside looks for attestations and artefacts in the index that the image is in.
func (a *attached) beside(context.Context) error {
	if a.image.index == nil {
		return nil
	}
	return a.inIndex(a.image.index, 0)
}

func (a *attached) inIndex(index v1.ImageIndex, depth int) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return a.image.answers.explain(err)
	}
	for _, d := range manifest.Manifests {
		switch {
		case d.MediaType.IsIndex() && depth < maxDepth:
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return a.image.answers.explain(err)
			}
			if err := a.inIndex(inner, depth+1); err != nil {
				return err
			}
		case d.Annotations["vnd.docker.reference.digest"] == a.image.manifest.String():
			if err := a.take(index, d, "attestation"); err != nil {
				return err
			}
		case a.image.from == nil && isArtefact(d) && d.MediaType.IsImage():
			// In a layout, what refers to an image is known by its manifest only.
			if err := a.take(index, d, "referrer"); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes the documents of one manifest.
func (a *attached) take(index v1.ImageIndex, d v1.Descriptor, how string) error {
	if a.seen++; a.seen > maxAttachments {
		return fault.New(fault.Unsupported, "more than %d manifests are attached to it", maxAttachments)
	}
	img, err := index.Image(d.Digest)
	if err != nil {
		return a.image.answers.explain(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return a.image.answers.explain(err)
	}
	if how == "referrer" && (manifest.Subject == nil || manifest.Subject.Digest != a.image.manifest) {
		return nil
	}
	return a.layers(img, manifest, how)
}

// layers takes the layers of a manifest that are documents, or statements with a document.
func (a *attached) layers(img v1.Image, manifest *v1.Manifest, how string) error {
	for _, d := range manifest.Layers {
		media := documentTypes[string(d.MediaType)]
		statement := media == "" && d.MediaType == intotoType
		if statement && predicates[d.Annotations["in-toto.io/predicate-type"]] == "" && d.Annotations["in-toto.io/predicate-type"] != "" {
			continue // of another kind, such as provenance
		}
		if media == "" && !statement {
			continue
		}
		data, err := layerData(img, d)
		if err != nil {
			return a.image.answers.explain(err)
		}
		if statement {
			if media, data, err = predicate(data); err != nil {
				return err
			}
		}
		if err := a.add(media, data, how); err != nil {
			return err
		}
	}
	return nil
}

// add adds a document, unless it is there.
func (a *attached) add(media string, data []byte, how string) error {
	sum := sha256.Sum256(data)
	doc := Attached{MediaType: media, Data: data, SHA256: hex.EncodeToString(sum[:]), How: how}
	if media == "" || slices.ContainsFunc(a.list, func(o Attached) bool { return o.SHA256 == doc.SHA256 }) {
		return nil
	}
	if len(a.list) == maxAttached {
		return fault.New(fault.Unsupported, "more than %d documents are attached to it", maxAttached)
	}
	a.list = append(a.list, doc)
	return nil
}

// layerData returns a layer, which must have its digest.
func layerData(img v1.Image, d v1.Descriptor) ([]byte, error) {
	layer, err := img.LayerByDigest(d.Digest)
	if err != nil {
		return nil, err
	}
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(&bounded{r, maxBill})
	if err != nil {
		return nil, fmt.Errorf("reading the document %s: %w", d.Digest, err)
	}
	sum := sha256.New()
	sum.Write(data)
	if err := compare(sum, d.Digest.Hex); err != nil {
		return nil, fmt.Errorf("reading the document %s: %w", d.Digest, err)
	}
	return data, nil
}

// predicate returns the document in a statement of in-toto; none if it is about something else.
func predicate(data []byte) (media string, document []byte, err error) {
	var s struct {
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return "", nil, fault.Wrap(fault.BadInput, err, "reading a statement of in-toto")
	}
	for kind, media := range predicates {
		// CycloneDX's may have the version behind it: /v1.6.
		if s.PredicateType == kind || strings.HasPrefix(s.PredicateType, kind+"/") {
			return media, s.Predicate, nil
		}
	}
	return "", nil, nil
}

// referrers asks the registry for artefacts that refer to the image.
func (a *attached) referrers(ctx context.Context) error {
	i := a.image
	if i.from == nil {
		return nil
	}
	index, err := remote.Referrers(i.from.Digest(i.manifest.String()), remoteOptions(ctx, i.opts, i.answers)...)
	if absent(err) {
		return nil
	}
	if err != nil {
		return i.answers.explain(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return i.answers.explain(err)
	}
	for _, d := range manifest.Manifests {
		if kind := d.ArtifactType; documentTypes[kind] == "" && kind != intotoType && kind != "" {
			continue
		}
		if a.seen++; a.seen > maxAttachments {
			return fault.New(fault.Unsupported, "more than %d manifests are attached to it", maxAttachments)
		}
		img, err := remote.Image(i.from.Digest(d.Digest.String()), remoteOptions(ctx, i.opts, i.answers)...)
		if err := a.whole(img, err, "referrer"); err != nil {
			return err
		}
	}
	return nil
}

// tagged asks the registry for cosign's tag.
func (a *attached) tagged(ctx context.Context) error {
	i := a.image
	if i.from == nil {
		return nil
	}
	tag := i.from.Tag(i.manifest.Algorithm + "-" + i.manifest.Hex + ".sbom")
	img, err := remote.Image(tag, remoteOptions(ctx, i.opts, i.answers)...)
	return a.whole(img, err, "tag")
}

// whole takes the documents of an artefact that the registry has, or has not.
func (a *attached) whole(img v1.Image, err error, how string) error {
	if absent(err) {
		return nil
	}
	if err != nil {
		return a.image.answers.explain(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return a.image.answers.explain(err)
	}
	return a.layers(img, manifest, how)
}

// absent reports whether a registry has said that it has something not, or, to a question of newer
// registries, that it does not understand.
func absent(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest}, answer.StatusCode)
}
