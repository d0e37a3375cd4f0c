package image

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// names are names of architectures that are in use beside those of the OCI image
// specification, which are Go's.
var names = map[string]v1.Platform{
	"x86_64": {Architecture: "amd64"}, "x86-64": {Architecture: "amd64"}, "aarch64": {Architecture: "arm64"},
	"i386": {Architecture: "386"}, "i486": {Architecture: "386"}, "i586": {Architecture: "386"}, "i686": {Architecture: "386"},
	"armhf": {Architecture: "arm", Variant: "v7"}, "armel": {Architecture: "arm", Variant: "v6"},
}

// unstated are the variants of platforms that state none (OCI image specification,
// "Platform Variants").
var unstated = map[string]string{"arm": "v7", "arm64": "v8", "amd64": "v1"}

func parsePlatform(text string) (v1.Platform, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return v1.Platform{}, fault.New(fault.BadInput, "platform %q: os/architecture[/variant] is expected, as in linux/arm/v7", text)
	}
	p := v1.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return normal(p), nil
}

func parsePlatforms(texts []string) ([]v1.Platform, error) {
	var out []v1.Platform
	for _, text := range texts {
		p, err := parsePlatform(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// normal returns a platform in the words of the specification, with its variant.
func normal(p v1.Platform) v1.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if other, ok := names[p.Architecture]; ok {
		p.Architecture, p.Variant = other.Architecture, cmp.Or(p.Variant, other.Variant)
	}
	if _, err := strconv.ParseFloat(p.Variant, 64); err == nil {
		p.Variant = "v" + p.Variant // "8" of older builders
	}
	p.Variant = cmp.Or(p.Variant, unstated[p.Architecture])
	return p
}

// fitness returns how well a machine of one platform runs images of another: 0 not at
// all, else the more the nearer the variant is. Variants with numbers run the lower ones.
func fitness(image, machine v1.Platform) float64 {
	image, machine = normal(image), normal(machine)
	if image.OS != "" && image.OS != machine.OS || image.Architecture != machine.Architecture {
		return 0
	}
	have, ok1 := level(image.Variant)
	want, ok2 := level(machine.Variant)
	switch {
	case image.Variant == machine.Variant:
		return 1 << 10
	case ok1 && ok2 && have <= want:
		return have
	}
	return 0
}

// least is the fitness of an image that may be for a machine.
const least = 0.5

// level returns the number of a variant such as v7 or v8.2.
func level(variant string) (float64, bool) {
	number, ok := strings.CutPrefix(variant, "v")
	n, err := strconv.ParseFloat(number, 64)
	return n, ok && err == nil && n > 0 && n < 1<<10
}

func platformText(p v1.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// candidate is an image of an index.
type candidate struct {
	index v1.ImageIndex
	desc  v1.Descriptor
	tag   string
	// configured is set when the platform is that of the configuration, which may not
	// state the variant.
	configured bool
}

const (
	maxDepth      = 4    // of indexes within indexes
	maxCandidates = 4096 // images of an index
)

// fromIndex chooses an image of an index, by its digest or tag if there is one, and returns
// its digest.
func (i *Image) fromIndex(index v1.ImageIndex, tag, digest string) (string, error) {
	i.index = index
	wanted, err := parsePlatforms(i.opts.Platforms)
	if err != nil {
		return "", err
	}
	all, err := i.collect(nil, index, "", 0)
	if err != nil {
		return "", i.answers.explain(err)
	}
	fitting := all
	if digest != "" {
		return digest, i.pinned(all, digest)
	}
	if tag != "" {
		fitting = slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !isTag(c.tag, tag) })
		if len(fitting) == 0 {
			return "", several(tag, i.form, tags(all))
		}
	}
	chosen, err := i.choose(fitting, wanted)
	if err != nil {
		return "", err
	}
	i.img, err = chosen.index.Image(chosen.desc.Digest)
	i.manifest = chosen.desc.Digest
	return chosen.desc.Digest.String(), i.answers.explain(err)
}

// pinned takes the image of a digest.
func (i *Image) pinned(all []candidate, digest string) error {
	for _, c := range all {
		if c.desc.Digest.String() == digest {
			img, err := c.index.Image(c.desc.Digest)
			i.img, i.manifest = img, c.desc.Digest
			return err
		}
	}
	return fault.New(fault.BadInput, "it has no image %.100s", digest)
}

// isTag reports whether a name of an image is the tag or ends in it.
func isTag(name, tag string) bool { return name == tag || strings.HasSuffix(name, ":"+tag) }

// tags lists the tags of images, each once.
func tags(list []candidate) []string {
	var out []string
	for _, c := range list {
		if c.tag != "" && !slices.Contains(out, c.tag) {
			out = append(out, c.tag)
		}
	}
	return out
}

// collect appends the images of an index and of those within it, each digest once for each
// tag. Attestations and other artefacts are not images.
func (i *Image) collect(list []candidate, index v1.ImageIndex, tag string, depth int) ([]candidate, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth || len(list)+len(manifest.Manifests) > maxCandidates {
		return nil, fault.New(fault.Unsupported, "an index of more than %d images or with more than %d indexes within each other", maxCandidates, maxDepth)
	}
	for _, d := range manifest.Manifests {
		tag := cmp.Or(d.Annotations["org.opencontainers.image.ref.name"], d.Annotations["io.containerd.image.name"], tag)
		switch {
		case isArtefact(d):
		case d.MediaType.IsIndex():
			inner, err := index.ImageIndex(d.Digest)
			if err == nil {
				list, err = i.collect(list, inner, tag, depth+1)
			}
			if err != nil {
				return nil, err
			}
		case !slices.ContainsFunc(list, func(c candidate) bool { return c.desc.Digest == d.Digest && c.tag == tag }):
			list, err = i.appendImage(list, candidate{index: index, desc: d, tag: tag})
			if err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// isArtefact reports whether a descriptor itself says that it is not of an image.
func isArtefact(d v1.Descriptor) bool {
	return !isConfig(types.MediaType(d.ArtifactType)) || d.Annotations["vnd.docker.reference.type"] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" || !d.MediaType.IsImage() && !d.MediaType.IsIndex()
}

// appendImage appends an image. If its descriptor states no platform, that of its
// configuration counts, and its manifest says whether it is an image.
func (i *Image) appendImage(list []candidate, c candidate) ([]candidate, error) {
	if c.desc.Platform != nil && c.desc.Platform.Architecture != "" {
		return append(list, c), nil
	}
	img, err := c.index.Image(c.desc.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if !isConfig(manifest.Config.MediaType) {
		return list, nil
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	c.desc.Platform, c.configured = config.Platform(), true
	return append(list, c), nil
}

// isConfig reports whether a type is that of the configuration of a container image.
func isConfig(t types.MediaType) bool {
	return t == types.OCIConfigJSON || t == types.DockerConfigJSON || t == "" || t == "application/octet-stream"
}

// choose returns the image that fits the first wanted platform for which there is one, or
// the only image.
func (i *Image) choose(list []candidate, wanted []v1.Platform) (candidate, error) {
	for n, want := range wanted {
		best := slices.MaxFunc(append(list, candidate{}), func(a, b candidate) int { return cmp.Compare(a.fitness(want), b.fitness(want)) })
		if best.fitness(want) == 0 {
			continue
		}
		if other := i.ambiguous(list, best); len(other) > 0 {
			return best, several("", i.form, other)
		}
		i.Platform = i.opts.Platforms[n]
		return best, nil
	}
	if digests := digests(list); len(digests) == 1 && (len(wanted) == 0 || i.opts.AnyPlatform) {
		return list[0], nil
	}
	if len(tags(list)) > 1 && len(wanted) == 0 {
		return candidate{}, several("", i.form, tags(list))
	}
	return candidate{}, noPlatform(list, i.opts.Platforms)
}

func (c candidate) fitness(want v1.Platform) float64 {
	if c.desc.Platform == nil {
		return 0
	}
	fit := fitness(*c.desc.Platform, want)
	if fit == 0 && c.configured && runs(*c.desc.Platform, want) {
		return least
	}
	return fit
}

// ambiguous returns the tags of the images of the same platform as one of them, if those
// are different images with different tags.
func (i *Image) ambiguous(list []candidate, best candidate) []string {
	same := slices.DeleteFunc(slices.Clone(list), func(c candidate) bool {
		return c.desc.Platform == nil || normal(*c.desc.Platform).String() != normal(*best.desc.Platform).String()
	})
	if names := tags(same); len(names) > 1 && len(digests(same)) > 1 {
		return names
	}
	return nil
}

// digests returns the digests of images, each once.
func digests(list []candidate) map[v1.Hash]bool {
	out := map[v1.Hash]bool{}
	for _, c := range list {
		out[c.desc.Digest] = true
	}
	return out
}

// PlatformError is the error for an image that is for none of the wanted platforms.
type PlatformError struct {
	// Has are the platforms that there are images for, Wanted those that were asked for.
	Has, Wanted []string

	text string
}

// Error implements error.
func (e *PlatformError) Error() string { return e.text }

// noPlatform is the error for an index that has none of the wanted platforms.
func noPlatform(list []candidate, wanted []string) error {
	var offered []string
	for _, c := range list {
		if c.desc.Platform != nil {
			offered = append(offered, platformText(*c.desc.Platform))
		}
	}
	offered = slices.Compact(offered)
	has := "it has images for " + strings.Join(offered, ", ")
	switch {
	case len(list) == 0:
		return fault.New(fault.BadInput, "it has no container image")
	case len(wanted) == 0:
		return fault.New(fault.BadInput, "%.2000s; choose with --platform or _hostconfig/pvr/docker.json", has)
	}
	text := fmt.Sprintf("%.2000s, none for %s", has, strings.Join(wanted, ", "))
	return fault.New(fault.BadInput, "%w", &PlatformError{offered, wanted, text})
}

// checkKind checks that a manifest is that of a container image.
func (i *Image) checkKind() error {
	if i.direct {
		return nil // docker save writes nothing else, and no manifest
	}
	manifest, err := i.img.Manifest()
	if err != nil {
		return i.answers.explain(err)
	}
	if kind := manifest.Config.MediaType; !isConfig(kind) {
		return fault.New(fault.Unsupported, "it is an artefact of type %.100q, not a container image", kind)
	}
	return nil
}

// checkPlatform checks that the image is for Linux and a wanted platform, as far as its
// configuration states what it is for.
func (i *Image) checkPlatform() error {
	file, err := i.img.ConfigFile()
	if err != nil {
		return i.answers.explain(fmt.Errorf("reading the image's configuration: %w", err))
	}
	var is v1.Platform
	if stated := file.Platform(); stated != nil {
		is = *stated
	}
	wanted, err := parsePlatforms(i.opts.Platforms)
	if err != nil {
		return err
	}
	if i.Platform != "" {
		is.Variant = "" // the index stated it
	}
	if len(wanted) == 0 && (is.OS == "" || is.OS == "linux") || slices.ContainsFunc(wanted, func(w v1.Platform) bool { return runs(is, w) }) {
		return nil
	}
	if i.opts.AnyPlatform {
		i.Forced = platformText(is)
		return nil
	}
	want := cmp.Or(strings.Join(i.opts.Platforms, ", "), "linux")
	text := fmt.Sprintf("it is an image for %s, not for %s; pvr app add --force takes it nevertheless", platformText(is), want)
	return fault.New(fault.BadInput, "%w", &PlatformError{[]string{platformText(is)}, i.opts.Platforms, text})
}

// runs reports whether a machine runs images of a platform that may not state
// architecture and variant.
func runs(image, machine v1.Platform) bool {
	if image.Architecture == "" {
		return image.OS == "" || image.OS == machine.OS
	}
	if image.Variant == "" {
		machine.Variant = ""
		image.Variant = ""
	}
	return fitness(image, machine) > 0
}
