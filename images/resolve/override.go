package resolve

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

var labelForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// overridden returns the target with what image.config of its platform has in place of its
// own: size, labels and compression of the main image.
func (p *providers) overridden() (*targets.Target, error) {
	c, err := images.ReadImageConfig(p.optional("image.config"))
	if err != nil || p.target.Image() == nil {
		return p.target, err
	}
	t := *p.target
	t.Images = slices.Clone(t.Images)
	im := t.Image()
	im.Partitions = slices.Clone(im.Partitions)
	if c.Size != 0 {
		im.Size = int(c.Size)
	}
	im.Size += int(c.Extra)
	switch c.Compress {
	case "":
	case "none":
		im.Compress = ""
	default:
		im.Compress = c.Compress
	}
	return &t, relabel(im, c)
}

// relabel gives partitions the labels of image.config.
func relabel(im *targets.Image, c *images.ImageConfig) error {
	var errs []error
	wrong := func(role, format string, args ...any) {
		name := images.LabelSetting(role)
		errs = append(errs, fault.New(fault.BadInput, "%s: %s: %s", c.Place(name), name, fmt.Sprintf(format, args...)))
	}
	for role, label := range c.Labels {
		i := slices.IndexFunc(im.Partitions, func(p targets.Partition) bool { return p.Role == role })
		most := 0
		if i >= 0 {
			most = targets.LongestLabel(im.Partitions[i].Format)
		}
		switch {
		case i < 0:
			wrong(role, "the target has no partition with the role %s", role)
		case most == 0:
			wrong(role, "a partition with the format %s has no label", im.Partitions[i].Format)
		case !labelForm.MatchString(label):
			wrong(role, "%q is not a label; want letters, digits, _ and -", label)
		case len(label) > most:
			wrong(role, "%q has %d characters; a label of %s holds %d", label, len(label), im.Partitions[i].Format, most)
		case slices.ContainsFunc(im.Partitions, func(p targets.Partition) bool { return p.Role != role && p.Name == label }):
			wrong(role, "%q is the name of another partition", label)
		default:
			im.Partitions[i].Name = label
		}
	}
	return errors.Join(errs...)
}
