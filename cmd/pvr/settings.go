package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
)

// settings is config.json of the config directory.
type settings struct {
	Spec            string
	AutoUpgrade     bool
	DistributionTag string
}

func defaultSettings() settings {
	return settings{Spec: "1", AutoUpgrade: true, DistributionTag: "develop"}
}

func (s settings) encode() []byte {
	text, _ := json.Marshal(s) // strings and a boolean cannot fail
	return text
}

func newGlobalConfig(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "global-config [KEY=VALUE]...",
		Short:   "Print and change the tool's settings",
		Long:    "Print and change the tool's settings: Spec, AutoUpgrade and DistributionTag. They are\nkept for other builds of pvr; this one never replaces itself.",
		Example: "  pvr global-config\n  pvr global-config AutoUpgrade=false",
		RunE: func(_ *cobra.Command, args []string) error {
			file := filepath.Join(t.configDir, "config.json")
			s, err := readSettings(file)
			if err != nil {
				return fail(4, err)
			}
			if err := s.set(args); err != nil {
				return err
			}
			if len(args) > 0 {
				if err := atomicfile.Write(file, s.encode(), 0o644); err != nil {
					return fail(4, err)
				}
			}
			return t.printJSON(s)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func readSettings(file string) (settings, error) {
	s := defaultSettings()
	text, err := readPEM(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", file, err)
	}
	return s, nil
}

// set takes up assignments; unknown keys are ignored.
func (s *settings) set(words []string) error {
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("%q: KEY=VALUE is expected", w)
		}
		switch key {
		case "Spec":
			s.Spec = value
		case "DistributionTag":
			s.DistributionTag = value
		case "AutoUpgrade":
			b, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("AutoUpgrade=%s: true or false is expected", value)
			}
			s.AutoUpgrade = b
		}
	}
	return nil
}

func newSelfUpgrade(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "self-upgrade",
		Short:   "Tell how this build is upgraded",
		Example: "  pvr self-upgrade",
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(t.stdout, `This is pvr %s. It does not replace itself: it is upgraded from where it came.
With the sources of Pantavisor:

    go install github.com/pantavisor/pantavisor/cmd/pvr@latest

or, in a checkout of them, git pull and build again.
`, versionText())
			return nil
		},
	}
}

func newVersion(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  pvr version --json",
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return t.printJSON(map[string]string{"version": versionText(), "go": goVersion()})
			}
			fmt.Fprintf(t.stdout, "%s\n  go version: %s\n", versionText(), goVersion())
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
