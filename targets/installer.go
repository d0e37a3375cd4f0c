package targets

// Installer makes the medium one that installs the target's image on a disk of the machine
// that is booted from it.
type Installer struct {
	// Size is that of the medium in MiB. Default: 1024.
	Size int `yaml:"size,omitempty" json:"size,omitempty" jsonschema:"minimum=64,maximum=1048576"`
	// Wait is the count-down before the automatic installation, in seconds. Default: 15.
	Wait int `yaml:"wait,omitempty" json:"wait,omitempty" jsonschema:"minimum=1,maximum=3600"`
	// Silent installs without count-down and menu, and then switches the machine off.
	Silent bool `yaml:"silent,omitempty" json:"silent,omitempty"`
}

// Defaults of an installer.
const (
	installerSize = 1024
	installerWait = 15
)

// complete fills in defaults.
func (i *Installer) complete() {
	if i.Size == 0 {
		i.Size = installerSize
	}
	if i.Wait == 0 {
		i.Wait = installerWait
	}
}

// installer checks that there is something to install and a kernel to do it.
func (r checker) installer(t *Target) {
	if t.Installer != nil && (t.Kernel == nil || len(t.Images) == 0) {
		r.Wrong("installer", "has nothing to install: the target needs a kernel and an image")
	}
}
