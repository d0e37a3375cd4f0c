package images

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/media"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// ImageConfig are the values of image.config (docs/targets.md).
type ImageConfig struct {
	storageOptions
	// Size is that of the medium, Extra is added to it, both in MiB; 0 changes nothing.
	Size, Extra int64
	// Labels are the partitions' names by role.
	Labels map[string]string
	// Compress is the form of the compressed image: one of media.Forms, "none", or "" for that
	// of the target.
	Compress string

	places map[string]string // FILE:LINE by name
}

// Place returns where a setting is, FILE:LINE, for errors.
func (c *ImageConfig) Place(name string) string { return c.places[name] }

// LabelSetting is the name of the setting with the label of the partition with a role.
func LabelSetting(role string) string { return labelPrefix + strings.ToUpper(role) }

const labelPrefix = "IMAGE_LABEL_"

// ReadImageConfig reads image.config; every setting has a default, and so has the whole file,
// nil. The error lists every mistake with its line.
func ReadImageConfig(file *build.Source) (*ImageConfig, error) {
	c := &ImageConfig{
		storageOptions: storageOptions{InodeRatio: 32768, Journal: 16, Reserved: 1},
		Labels:         map[string]string{}, places: map[string]string{},
	}
	if file == nil {
		return c, nil
	}
	set, err := readSettings(*file)
	errs := []error{err}
	for _, s := range set {
		c.places[s.Key] = fmt.Sprintf("%s:%d", file.Name, s.line)
		if err := c.set(s.Key, s.Value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.places[s.Key], err))
		}
	}
	return c, errors.Join(errs...)
}

// imageNumber is a number in image.config.
type imageNumber struct {
	to          *int64
	least, most int64
}

func (c *ImageConfig) numbers() map[string]imageNumber {
	return map[string]imageNumber{
		"IMAGE_INODE_RATIO":      {&c.InodeRatio, 1024, 1 << 26},
		"IMAGE_JOURNAL_SIZE":     {&c.Journal, 4, 1024},
		"IMAGE_RESERVED_PERCENT": {&c.Reserved, 0, 50},
		"IMAGE_SIZE":             {&c.Size, 1, 1 << 20},
		"IMAGE_EXTRA_SPACE":      {&c.Extra, 0, 1 << 20},
	}
}

const compressSetting = "IMAGE_COMPRESS"

func (c *ImageConfig) set(name, value string) error {
	role, label := strings.CutPrefix(name, labelPrefix)
	role = strings.ToLower(role)
	_, known := roles[role]
	switch {
	case label && known:
		c.Labels[role] = value
		return nil
	case name == compressSetting:
		if forms := append(media.Forms(), "none"); !slices.Contains(forms, value) {
			return fault.New(fault.BadInput, "%s is %q; want %s", name, value, strings.Join(forms, " or "))
		}
		c.Compress = value
		return nil
	}
	k, ok := c.numbers()[name]
	if !ok {
		return spelling.Unknown("setting", name, imageSettings(c))
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < k.least || n > k.most {
		return fault.New(fault.BadInput, "%s is %q; want a number from %d to %d", name, value, k.least, k.most)
	}
	*k.to = n
	return nil
}

// imageSettings lists the names of all settings.
func imageSettings(c *ImageConfig) []string {
	out := append(slices.Collect(maps.Keys(c.numbers())), compressSetting)
	for role := range roles {
		out = append(out, LabelSetting(role))
	}
	slices.Sort(out)
	return out
}
