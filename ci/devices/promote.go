package devices

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// The channels of images of devices without an image channel.
const (
	channelStable    = "stable"
	channelCandidate = "release-candidate"
)

var (
	tagForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	candidate = regexp.MustCompile(`-rc[^-]*$`)
)

// envTag is the tag of a pipeline.
const envTag = "CI_COMMIT_TAG"

// channel returns the channel that images of a device get with a tag; "" for none (manual: Image
// channel): stable for tags without "-", release candidate for those that end in -rc*, for devices
// without an image channel; the device's for tags that end in its name.
func channel(tag, device string) string {
	switch {
	case device == "" && !strings.Contains(tag, "-"):
		return channelStable
	case device == "" && candidate.MatchString(tag):
		return channelCandidate
	case device != "" && strings.HasSuffix(tag, "-"+device):
		return device
	}
	return ""
}

// Image is an image that was made, to be published.
type Image struct {
	Tag     string
	Channel string
	Device  string // ID
	Build   string // its name
	Hub     string // the tag device
	Target  string
	Dir     string // directory of the results
}

// Published says where an image is.
type Published struct {
	// Place is the catalogue or store.
	Place string `json:"place"`
	// Files were uploaded by this run. One that is run again uploads none.
	Files int `json:"files"`
}

// PromoteOptions say how recipes are promoted.
type PromoteOptions struct {
	Options
	// Tag is the name of the tag in git, whose recipes are promoted.
	Tag string
	// Mage are the words of the command that builds images: go tool mage, or mage.
	Mage []string
	// Publish uploads an image and registers it in the catalogue of its channel; nil publishes none.
	Publish func(context.Context, Image) (*Published, error)
}

// MadeImage is what a promotion did for a build.
type MadeImage struct {
	Build     string     `json:"build"`
	Target    string     `json:"target"`
	Channel   string     `json:"channel"`
	Dir       string     `json:"directory"`
	Published *Published `json:"published,omitempty"`
}

// PromotedDevice is what a promotion did for a device.
type PromotedDevice struct {
	ID       string   `json:"id"`
	Device   string   `json:"device"` // the tag device
	Changes  []Change `json:"changes"`
	Posted   bool     `json:"posted"`
	Revision string   `json:"revision,omitempty"`
	// Images are those that were made; with DryRun, those that would be.
	Images []MadeImage `json:"images"`
	Error  string      `json:"error,omitempty"`
}

// Promotion is the result of a promotion.
type Promotion struct {
	Tag     string           `json:"tag"`
	Commit  string           `json:"commit"`
	Devices []PromotedDevice `json:"devices"`
	// Triggered is the address of the pipeline of the deploy project, when one was triggered.
	Triggered string `json:"triggered,omitempty"`
}

// promotion is a run of a promotion.
type promotion struct {
	*run
	tag     string
	words   []string // of the command that builds
	publish func(context.Context, Image) (*Published, error)
	commit  string
}

// Promote posts the recipes of a tag to the tag devices, makes the images and publishes them. One
// device that fails does not keep the others from it; then nothing is deployed.
func (o PromoteOptions) Promote(ctx context.Context) (*Promotion, error) {
	if !tagForm.MatchString(o.Tag) {
		return nil, fault.New(fault.BadInput, "%q is not a valid name of a tag: letters, digits and . _ - are expected", o.Tag)
	}
	r, err := start(ctx, o.Options)
	if err != nil {
		return nil, err
	}
	p := &promotion{run: r, tag: o.Tag, words: o.Mage, publish: o.Publish}
	if p.commit, err = p.tagged(ctx); err != nil {
		return nil, err
	}
	deploy, err := p.deployment()
	if err != nil {
		return nil, err
	}
	out := &Promotion{Tag: o.Tag, Commit: p.commit, Devices: []PromotedDevice{}}
	var errs []error
	for _, d := range r.config.Devices {
		one := PromotedDevice{ID: d.ID, Device: d.Tag, Changes: []Change{}, Images: []MadeImage{}}
		if err := p.device(ctx, &d, &one); err != nil {
			one.Error = err.Error()
			errs = append(errs, fmt.Errorf("promoting %s: %w", d.ID, err))
		}
		out.Devices = append(out.Devices, one)
		if ctx.Err() != nil {
			break
		}
	}
	if err := errors.Join(errs...); err != nil || deploy == nil {
		return out, err
	}
	out.Triggered, err = p.deploy(ctx, deploy)
	return out, err
}

// tagged returns the commit of the tag.
func (p *promotion) tagged(ctx context.Context) (string, error) {
	id, err := p.git.run(ctx, "rev-parse", "--quiet", "--verify", "refs/tags/"+p.tag+"^{commit}")
	if err == nil {
		return id, nil
	}
	if p.env.get(envTag) == p.tag {
		if id := p.git.head(ctx); id != "" {
			return id, nil
		}
	}
	return "", fault.New(fault.Missing, "the clone has no tag %s: git tag makes it, git fetch --tags gets it", p.tag)
}

func (p *promotion) device(ctx context.Context, d *Device, out *PromotedDevice) error {
	made, err := p.readRecipe(ctx, p.commit, d.ID)
	if err != nil {
		return err
	}
	if made == nil {
		return fault.New(fault.Missing, "%s has no %s/%s/%s: pvci device update makes it; tag a commit after that", p.tag, recipesName, d.ID, recipeState)
	}
	if err := compatible(made.state); err != nil {
		return err
	}
	lock, err := p.lock(ctx, d.ID)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	reference, err := p.feed(ctx, d, made, out)
	if err != nil {
		return err
	}
	in := channel(p.tag, d.ImageChannel)
	if in == "" && len(d.Builds) > 0 {
		p.say("%s: no images, because %s is not a tag of %s", d.ID, p.tag, channelWords(d.ImageChannel))
		return nil
	}
	for _, b := range d.Builds {
		if err := p.image(ctx, d, &b, made.state, in, reference, out); err != nil {
			return fmt.Errorf("image %s: %w", b.Name, err)
		}
	}
	return nil
}

func channelWords(name string) string {
	if name == "" {
		return "the channels " + channelStable + " (without -) or " + channelCandidate + " (-rc...)"
	}
	return "the channel " + name + " (-" + name + ")"
}

// feed posts a recipe to the tag device when that has another state. It returns the repository that
// images are made from.
func (p *promotion) feed(ctx context.Context, d *Device, made *recipe, out *PromotedDevice) (string, error) {
	from, err := p.places.open(cmp.Or(made.Device, d.Schedule))
	if err != nil {
		return "", fmt.Errorf("opening the device that the recipe is from: %w", err)
	}
	to, err := p.places.open(d.Tag)
	if err != nil {
		return "", err
	}
	has, err := to.read(ctx)
	if err != nil {
		return "", fmt.Errorf("reading the device %s: %w", d.Tag, err)
	}
	differs := d.Tag != d.Schedule && !equal(has.state, made.state)
	out.Revision, out.Changes = has.name, []Change{}
	if differs {
		out.Changes, out.Posted = changes(has.state, made.state), true
	}
	if p.DryRun && differs {
		p.say("%s: would post to %s:\n%s", d.ID, d.Tag, list(out.Changes))
	}
	if p.DryRun || !differs && len(d.Builds) == 0 {
		return "", nil
	}
	w, err := p.checkout(ctx, d.ID, from, &revision{made.state, made.Revision})
	if err != nil {
		out.Posted = false
		return "", fmt.Errorf("getting the recipe's objects from %s: %w", cmp.Or(made.Device, d.Schedule), err)
	}
	defer w.Close()
	reference := filepath.Join(w.Dir(), repo.Dir)
	if !differs {
		return reference, nil
	}
	objects, err := w.Objects()
	if err != nil {
		return "", err
	}
	message := p.tag + "\n\n" + subject(d.ID, out.Changes)
	if out.Revision, err = to.post(ctx, posting{made.state, objects, nil, message}); err != nil {
		out.Posted = false
		return "", err
	}
	p.say("%s: posted to %s:\n%s", d.ID, d.Tag, list(out.Changes))
	return reference, nil
}

// target returns the target that a device's images are built for.
func target(d *Device, st *state.State) (string, error) {
	if d.Target != "" {
		return d.Target, nil
	}
	name := text(st, bspPart+"/build.json", "target")
	if !idForm.MatchString(name) {
		return "", fault.New(fault.BadInput, "the target is not known: bsp/build.json of the recipe does not name it; \"target\" of the device in %s does", ConfigName)
	}
	return name, nil
}

func (p *promotion) image(ctx context.Context, d *Device, b *Build, st *state.State, in, reference string, out *PromotedDevice) error {
	name, err := target(d, st)
	if err != nil {
		return err
	}
	dir := filepath.Join(p.Dir, "out", d.image(b.Name))
	made := MadeImage{Build: b.Name, Target: name, Channel: in, Dir: filepath.Join(dir, name)}
	if p.DryRun {
		p.say("%s: would make the image %s of %s for the channel %s", d.ID, b.Name, name, in)
		out.Images = append(out.Images, made)
		return nil
	}
	if err := p.mage(ctx, b, name, dir, reference); err != nil {
		return err
	}
	if p.publish != nil {
		made.Published, err = p.publish(ctx, Image{
			Tag: p.tag, Channel: in, Device: d.ID, Build: b.Name, Hub: d.Tag, Target: name, Dir: made.Dir,
		})
		if err != nil {
			return fmt.Errorf("publishing %s: %w", made.Dir, err)
		}
		p.say("%s: image %s is in the channel %s of %s", d.ID, b.Name, in, made.Published.Place)
	}
	out.Images = append(out.Images, made)
	return nil
}

// String says what a promotion did, in a line for each device and image.
func (p *Promotion) String() string {
	var b strings.Builder
	for _, d := range p.Devices {
		what := "has the recipe already"
		switch {
		case d.Error != "":
			what = "failed"
		case d.Posted:
			what = fmt.Sprintf("posted to %s, which differed in %d of its parts", d.Device, len(d.Changes))
		}
		fmt.Fprintf(&b, "%s: %s\n", d.ID, what)
		for _, i := range d.Images {
			fmt.Fprintf(&b, "%s: image %s of %s for the channel %s in %s\n", d.ID, i.Build, i.Target, i.Channel, i.Dir)
		}
	}
	return b.String()
}
