// Package options holds the settings of a build in one struct, which flags and
// environment variables fill. All mistakes are reported together.
package options

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Options are the settings of a build (manual: Build Options). Each field's comment names
// its environment variable.
type Options struct {
	// MergeSource, PVR_MERGE_SRC: reference device whose containers go into the
	// image: a .pvr directory, an export, or the URL of an export or a repository.
	// Default: the target's own containers.
	MergeSource string
	// Debug, PANTAVISOR_DEBUG: "yes" adds debug tools, "no" (default) does not.
	Debug bool
	// UseSourceBSP, PVR_USE_SRC_BSP: "yes" takes the BSP from MergeSource and builds
	// none; requires MergeSource. Default: "no".
	UseSourceBSP bool
	// MergeSBOM, PV_MERGE_SBOM: directory with bills of materials of SPDX or CycloneDX to
	// which that of the image refers. Default: none.
	MergeSBOM string
	// Interactive, PV_BUILD_INTERACTIVE: "false" never asks and never installs
	// anything on the host. Default: "true".
	Interactive bool
	// Epoch, SOURCE_DATE_EPOCH: time stamp of composed files in seconds since 1970,
	// from build.FirstStamp (1980) to build.LastStamp (2106). Default: build.Epoch.
	Epoch build.Stamp
	// Locked, PV_LOCKED: "yes" makes a pinned part that has left the archive an
	// error instead of taking the newest. Default: "no".
	Locked bool
	// Certificate, PV_PVS_CERT_PEM: CA certificate copied into the initrd.
	Certificate string
	// Key, PV_PVS_PUB_PEM: public key copied into the initrd.
	Key string
	// Parts are the variables PV_PART_NAME and PV_PART_NAME_SHA256: paths and digests of named
	// parts of targets.
	Parts map[string]string
	// Release, PV_VERSION: what the firmware calls itself, for example the output of
	// "git describe": up to 64 letters, digits and . _ + ~ -. Default: "devel", which
	// does not change with the sources; a pipeline sets it.
	Release string
	// FactoryToken, PV_FACTORY_AUTOTOK: token with which devices claim themselves, written
	// into pantahub.config as PH_FACTORY_AUTOTOK. Default: what that file says.
	FactoryToken string
	// Pipeline is what the variables of GitLab's or GitHub's pipelines say of the source.
	Pipeline Pipeline
	// SignKey, PV_SIGN_KEY: private key with which mage build and mage release sign results.
	// SignCommand, PV_SIGN_CMD: a program that signs in its place, with the public key SignPublic,
	// PV_SIGN_PUB, and what it reads, SignInput, PV_SIGN_INPUT. Default: nothing is signed.
	SignKey, SignCommand, SignPublic, SignInput string
	// BuilderID, PV_BUILDER_ID: URI of who builds, for the provenance of signed results.
	BuilderID string
	// Vulnerabilities, PV_VULN_DATA: files and directories with vulnerability data for mage vulns and
	// mage cra, with commas between them. Default: none.
	Vulnerabilities string
	// Notes tell what replaces variables of earlier build systems that are set.
	Notes []string
	// Jobs, PV_JOBS: cores to keep busy. Default 0: all.
	Jobs int
	// CacheSize, PV_CACHE_SIZE: GiB that cached steps may take before those unused
	// longest are dropped. Default 20; 0 is no limit.
	CacheSize int64
	// Verify, PV_VERIFY_CACHE: "yes" reads every cached output again before use.
	Verify bool
}

// known lists the variables that a build knows, including those that other packages read.
// An unknown variable that resembles one of them is an error: a misspelt setting must not
// be ignored silently.
var known = []string{
	"PVR_MERGE_SRC", "PVR_USE_SRC_BSP", "PANTAVISOR_DEBUG", "PV_BUILD_INTERACTIVE", "PV_LOCKED", "PV_PVS_CERT_PEM", "PV_PVS_PUB_PEM",
	"PV_MERGE_SBOM", "PV_FACTORY_AUTOTOK", "PV_JOBS", "PV_VERIFY_CACHE", "PV_VERSION", "PV_CACHE_DIR", "PV_CACHE_SIZE", "SOURCE_DATE_EPOCH",
	"PV_SIGN_KEY", "PV_SIGN_CMD", "PV_SIGN_PUB", "PV_SIGN_INPUT", "PV_SIGN_PASSPHRASE", "PV_BUILDER_ID", "PV_VULN_DATA",
}

// releases matches valid names of a release; they go into a linker flag and into files.
var releases = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}$`)

// CheckRelease returns an error for a name that a release cannot have.
func CheckRelease(name string) error {
	if !releases.MatchString(name) {
		return fault.New(fault.BadInput, "%q: want up to 64 letters, digits and . _ + ~ -, beginning with a letter or digit", name)
	}
	return nil
}

// FromEnvironment reads the process's environment.
func FromEnvironment() (*Options, error) { return read(os.Environ()) }

// read fills options from "NAME=VALUE" strings. The error lists every mistake.
func read(environ []string) (*Options, error) {
	r := &reader{values: map[string]string{}}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		r.values[name] = value
		r.spelling(name)
	}
	o := &Options{
		MergeSource:  r.values["PVR_MERGE_SRC"],
		MergeSBOM:    r.values["PV_MERGE_SBOM"],
		Debug:        r.choice("PANTAVISOR_DEBUG", "yes", "no", false),
		UseSourceBSP: r.choice("PVR_USE_SRC_BSP", "yes", "no", false),
		Interactive:  r.choice("PV_BUILD_INTERACTIVE", "true", "false", true),
		Locked:       r.choice("PV_LOCKED", "yes", "no", false),
		Verify:       r.choice("PV_VERIFY_CACHE", "yes", "no", false),
		Epoch:        build.Stamp(r.number("SOURCE_DATE_EPOCH", build.Epoch, int64(build.FirstStamp), int64(build.LastStamp))),
		Jobs:         int(r.number("PV_JOBS", 0, 0, 4096)),
		CacheSize:    r.number("PV_CACHE_SIZE", 20, 0, 1<<20),
		Certificate:  r.values["PV_PVS_CERT_PEM"],
		Key:          r.values["PV_PVS_PUB_PEM"],
		Release:      r.values["PV_VERSION"],
		FactoryToken: r.values["PV_FACTORY_AUTOTOK"],
		Parts:        r.parts(),
		SignKey:      r.values["PV_SIGN_KEY"],
		SignCommand:  r.values["PV_SIGN_CMD"],
		SignPublic:   r.values["PV_SIGN_PUB"],
		SignInput:    r.values["PV_SIGN_INPUT"],
		BuilderID:    r.values["PV_BUILDER_ID"],

		Vulnerabilities: r.values["PV_VULN_DATA"],
		Pipeline:        r.pipeline(),
		Notes:           r.notes(),
	}
	if strings.ContainsFunc(o.FactoryToken, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.wrong("PV_FACTORY_AUTOTOK: want one word without blanks")
	}
	if o.Release != "" {
		if err := CheckRelease(o.Release); err != nil {
			r.wrong("PV_VERSION=%w", err)
		}
	}
	if u, err := url.Parse(o.BuilderID); o.BuilderID != "" && (err != nil || !u.IsAbs()) {
		r.wrong("PV_BUILDER_ID=%q: want a URI, as https://ci.example.com/runners/7", o.BuilderID)
	}
	for name, path := range map[string]string{"PV_PVS_CERT_PEM": o.Certificate, "PV_PVS_PUB_PEM": o.Key, "PV_MERGE_SBOM": o.MergeSBOM} {
		if _, err := os.Stat(path); path != "" && err != nil {
			r.wrong("%s: %w", name, err)
		}
	}
	if o.UseSourceBSP && o.MergeSource == "" {
		r.wrong("PVR_USE_SRC_BSP=yes needs PVR_MERGE_SRC: there is no device to take the BSP from")
	}
	return o, errors.Join(r.errs...)
}

type reader struct {
	values map[string]string
	errs   []error
}

func (r *reader) wrong(format string, args ...any) {
	r.errs = append(r.errs, fault.New(fault.BadInput, format, args...))
}

// partPrefix begins the names of variables with named parts, which targets name.
const partPrefix = "PV_PART_"

// parts returns the variables with named parts.
func (r *reader) parts() map[string]string {
	var out map[string]string
	for name, value := range r.values {
		if strings.HasPrefix(name, partPrefix) {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	return out
}

// spelling reports unknown names that look like one of ours.
func (r *reader) spelling(name string) {
	ours := strings.HasPrefix(name, "PVR_") || strings.HasPrefix(name, "PV_") || strings.HasPrefix(name, "PANTAVISOR_")
	if slices.Contains(known, name) || strings.HasPrefix(name, partPrefix) {
		return
	}
	if near := spelling.Nearest(name, known); ours && len(near) > 0 {
		r.wrong("environment variable %s: unknown; did you mean %s?", name, strings.Join(near, " or "))
	}
}

func (r *reader) choice(name, on, off string, otherwise bool) bool {
	switch value := r.values[name]; value {
	case "":
		return otherwise
	case on, off:
		return value == on
	default:
		r.wrong("%s=%q: want %s or %s", name, value, on, off)
		return otherwise
	}
}

func (r *reader) number(name string, otherwise, least, most int64) int64 {
	value := r.values[name]
	if value == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < least || n > most {
		r.wrong("%s=%q: want a whole number from %d to %d", name, value, least, most)
		return otherwise
	}
	return n
}

// Variables returns the variables with which another process gets the settings that decide what
// a build makes, those that are not the default. Secrets, which the second map has as their
// SHA-256 in hex, are left out; so are files, of which the third map has the paths.
func (o *Options) Variables() (settings, secrets, files map[string]string) {
	settings, secrets, files = map[string]string{}, map[string]string{}, map[string]string{}
	set := func(into map[string]string, name, value string) {
		if value != "" {
			into[name] = value
		}
	}
	set(settings, "PVR_MERGE_SRC", o.MergeSource)
	set(settings, "PV_VERSION", o.Release)
	set(settings, "CI_PROJECT_PATH", o.Pipeline.Project)
	set(settings, "CI_COMMIT_REF_NAME", o.Pipeline.Branch)
	set(settings, "CI_COMMIT_SHA", o.Pipeline.Commit)
	set(settings, "CI_PIPELINE_ID", o.Pipeline.ID)
	for name, on := range map[string]bool{"PANTAVISOR_DEBUG": o.Debug, "PVR_USE_SRC_BSP": o.UseSourceBSP} {
		if on {
			settings[name] = "yes"
		}
	}
	if o.Epoch != 0 && o.Epoch != build.Epoch {
		settings["SOURCE_DATE_EPOCH"] = strconv.FormatInt(int64(o.Epoch), 10)
	}
	if o.FactoryToken != "" {
		sum := sha256.Sum256([]byte(o.FactoryToken))
		secrets["PV_FACTORY_AUTOTOK"] = hex.EncodeToString(sum[:])
	}
	set(files, "PV_PVS_CERT_PEM", o.Certificate)
	set(files, "PV_PVS_PUB_PEM", o.Key)
	set(files, "PV_MERGE_SBOM", o.MergeSBOM)
	for name, value := range o.Parts {
		if strings.HasSuffix(name, "_SHA256") {
			settings[name] = value
		} else {
			files[name] = value
		}
	}
	return settings, secrets, files
}

// IsVariable reports whether a name is one of those that [Options.Variables] returns: a record
// that somebody else wrote may have any.
func IsVariable(name string) bool { return variable.MatchString(name) }

var variable = regexp.MustCompile(`^(PVR_MERGE_SRC|PV_VERSION|CI_PROJECT_PATH|CI_COMMIT_REF_NAME|CI_COMMIT_SHA|CI_PIPELINE_ID|PANTAVISOR_DEBUG|PVR_USE_SRC_BSP|PV_MERGE_SBOM|SOURCE_DATE_EPOCH|PV_FACTORY_AUTOTOK|PV_PVS_CERT_PEM|PV_PVS_PUB_PEM|PV_PART_[A-Za-z0-9_]+)$`)
