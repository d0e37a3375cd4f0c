package grub

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/subst"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// Settings are the parts of GRUB's configuration that depend on the target.
type Settings struct {
	// RootLabel is the label of the storage's file system.
	RootLabel string
	// Arguments are the kernel's: printable ASCII, no quotes, none of pv_rev=,
	// pv_try= and rdinit=, which are added. A console=ttyS<n>,<baud> among them
	// makes GRUB use that serial line too.
	Arguments []string
	// Timeout in seconds that GRUB waits for ESC, which leads to its command
	// line; 0 does not wait and gives no access to the command line.
	Timeout int
}

// maxAddons is how many initrd addons GRUB looks for, from pv-initrd.img.0 on.
const maxAddons = 32

//go:embed grub.cfg.tmpl
var configText string

var configTemplate = subst.Must("grub.cfg", configText)

type serialLine struct{ Unit, Speed int }

var (
	labelForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,16}$`)
	serialForm = regexp.MustCompile(`^console=ttyS([0-3])(?:,([0-9]{2,7}))?`)
)

// Config returns grub.cfg.
func (s Settings) Config() (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	var numbers []string
	for n := range maxAddons {
		numbers = append(numbers, strconv.Itoa(n))
	}
	b, err := configTemplate.Fill(struct {
		Serial                         *serialLine
		Timeout                        int
		Root, Addons, Arguments, First string
	}{s.serial(), s.Timeout, s.RootLabel, strings.Join(numbers, " "), s.quoted(), trail.First})
	if err != nil {
		return "", fmt.Errorf("writing grub.cfg: %w", err)
	}
	return b, nil
}

// quoted returns the kernel's arguments as words of a command.
func (s Settings) quoted() string {
	var out []string
	for _, a := range append(slices.Clone(s.Arguments), "rdinit=/init") {
		out = append(out, "'"+a+"'")
	}
	return strings.Join(out, " ")
}

func (s Settings) check() error {
	if !labelForm.MatchString(s.RootLabel) {
		return fault.New(fault.BadInput, "writing grub.cfg: the storage's label %q: want up to 16 of A-Z a-z 0-9 _ -", s.RootLabel)
	}
	if s.Timeout < 0 || s.Timeout > 3600 {
		return fault.New(fault.BadInput, "writing grub.cfg: bootloader.timeout %d: want 0 to 3600 s", s.Timeout)
	}
	return s.checkArguments()
}

func (s Settings) checkArguments() error {
	return fault.Wrap(fault.BadInput, bootloader.CheckArguments(s.Arguments), "writing grub.cfg")
}

// serial returns the first serial console of the arguments.
func (s Settings) serial() *serialLine {
	for _, a := range s.Arguments {
		m := serialForm.FindStringSubmatch(a)
		if m == nil {
			continue
		}
		unit, _ := strconv.Atoi(m[1])
		speed, err := strconv.Atoi(m[2])
		if err != nil {
			speed = 9600
		}
		return &serialLine{unit, speed}
	}
	return nil
}
