package attest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// Verified is a directory, or a file in it, whose signatures and digests are good.
type Verified struct {
	Directory string `json:"directory"`
	// Key is the algorithm and the digest of the public key.
	Algorithm string `json:"algorithm"`
	KeySHA256 string `json:"key_sha256"`
	// Signatures are the files with the signatures that were verified.
	Signatures []string `json:"signatures"`
	// Files are those whose digests were compared.
	Files []File `json:"files"`
	// Provenance is the signed statement.
	Provenance *Statement `json:"provenance"`
}

// Signed describes the signatures as those of a directory that was signed before.
func (v *Verified) Signed() *build.Signed {
	return &build.Signed{Algorithm: v.Algorithm, KeySHA256: v.KeySHA256, Files: append([]string{build.SumsName}, v.Signatures...), Kept: true}
}

// unsigned are files of a directory of results that are not signed there: they differ from build to
// build, and a release signs them; or, as those of mage cra, are written later, about what is signed.
var unsigned = []string{build.ReportName, build.ReportText, "cra.json", "cra.md"}

// Verify verifies the signatures of a directory with a public key, and the digests of all files in
// it, or of one that name names. A file that is not in the list of digests is an error, too.
func Verify(ctx context.Context, dir, name string, p *signing.Public) (*Verified, error) {
	v := &Verified{Directory: dir, Algorithm: p.Algorithm(), KeySHA256: p.SHA256()}
	files, err := v.signatures(p)
	if err != nil {
		return nil, err
	}
	if name != "" {
		i := slices.IndexFunc(files, func(f File) bool { return f.Name == name })
		if i < 0 {
			return nil, fault.New(fault.Different, "%s in %s is not signed: it is not in %s", name, dir, build.SumsName)
		}
		files = files[i : i+1]
	}
	if err := v.compare(ctx, files); err != nil {
		return nil, err
	}
	if err := v.subjects(files, name); err != nil {
		return nil, err
	}
	if name == "" {
		err = v.others(files)
	}
	return v, err
}

// Check compares the digests of all files of a directory with its list, whoever made that, and
// returns the list.
func Check(ctx context.Context, dir string) ([]File, error) {
	v := &Verified{Directory: dir}
	text, err := v.read(build.SumsName)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, fault.New(fault.Missing, "%s has no %s", dir, build.SumsName)
	}
	files, err := parseSums(text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s in %s", build.SumsName, dir)
	}
	if err := v.compare(ctx, files); err != nil {
		return nil, err
	}
	return files, v.others(files)
}

// signatures verifies the list of digests and the provenance, and returns the files of the list.
func (v *Verified) signatures(p *signing.Public) ([]File, error) {
	sums, err := v.read(build.SumsName)
	if err != nil {
		return nil, err
	}
	if sums == nil {
		return nil, fault.New(fault.Missing, "%s is not signed: it has no %s (mage build TARGET --sign=KEY makes it)", v.Directory, build.SumsName)
	}
	bad := map[string]error{}
	for _, name := range []string{build.DetachedName, build.MinisignName, build.SignifyName} {
		text, err := v.read(name)
		if err != nil {
			return nil, err
		}
		if text == nil || !possible(p, name) {
			continue
		}
		v.Signatures = append(v.Signatures, name)
		if err := verify(p, name, sums, text); err != nil {
			bad[name] = err
		}
	}
	if len(v.Signatures) == 0 {
		return nil, fault.New(fault.Missing, "%s has no signature of %s that an %s key could have made: %s is not there", v.Directory, build.SumsName, p.Algorithm(), build.DetachedName)
	}
	text, err := v.read(build.ProvenanceName)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, fault.New(fault.Missing, "%s has no %s: it is not signed completely", v.Directory, build.ProvenanceName)
	}
	v.Signatures = append(v.Signatures, build.ProvenanceName)
	if v.Provenance, err = open(p, text); err != nil {
		bad[build.ProvenanceName] = err
	}
	if err := v.judge(p, bad); err != nil {
		return nil, err
	}
	files, err := parseSums(sums)
	return files, fault.Wrap(fault.BadInput, err, "reading %s in %s", build.SumsName, v.Directory)
}

// judge tells a wrong key from files that were changed: with a wrong key no signature fits.
func (v *Verified) judge(p *signing.Public, bad map[string]error) error {
	if len(bad) == 0 {
		return nil
	}
	wrong := 0
	var lines []string
	for _, name := range v.Signatures {
		if err := bad[name]; err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v", name, err))
			if errors.Is(err, signing.ErrSignature) {
				wrong++
			}
		}
	}
	if wrong == len(v.Signatures) {
		return fault.New(fault.Digest, "%s is not signed by the %s: none of its signatures fits; it is signed with another key, or all that is signed was changed\n%s", v.Directory, p, strings.Join(lines, "\n"))
	}
	return fault.New(fault.Digest, "%s was changed after it was signed: these signatures do not fit, and others do\n%s", v.Directory, strings.Join(lines, "\n"))
}

// read returns a file of the directory, nil when it is not there.
func (v *Verified) read(name string) ([]byte, error) {
	text, err := bounded.ReadRegular(filepath.Join(v.Directory, name), maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, fault.Wrap(fault.IO, err, "verifying")
}

// compare compares the digests of files; the error names all that differ or lack.
func (v *Verified) compare(ctx context.Context, files []File) error {
	var there, changed, absent []File
	for _, f := range files {
		if info, err := os.Stat(filepath.Join(v.Directory, filepath.FromSlash(f.Name))); err == nil && info.Mode().IsRegular() {
			there = append(there, f)
		} else {
			absent = append(absent, f)
		}
	}
	v.Files = slices.Clone(there)
	if err := digests(ctx, v.Directory, v.Files); err != nil {
		return err
	}
	for i, f := range v.Files {
		if f.SHA256 != there[i].SHA256 {
			changed = append(changed, f)
		}
	}
	return errors.Join(v.named(fault.Digest, "was changed after it was signed", "were changed after they were signed", changed),
		v.named(fault.Missing, "is signed, and is not there", "are signed, and are not there", absent))
}

// mostNamed is how many files an error names.
const mostNamed = 5

// named returns an error for files, nil for none.
func (v *Verified) named(kind fault.Kind, one, several string, files []File) error {
	if len(files) == 0 {
		return nil
	}
	verb := several
	if len(files) == 1 {
		verb = one
	}
	var names []string
	for _, f := range files[:min(len(files), mostNamed)] {
		names = append(names, cell.Printable(f.Name))
	}
	if more := len(files) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return fault.New(kind, "%s: %s %s", v.Directory, strings.Join(names, ", "), verb)
}

// subjects checks that the provenance is about the files that are signed, and about the one that is
// verified.
func (v *Verified) subjects(files []File, name string) error {
	sums := map[string]string{}
	for _, f := range files {
		sums[f.Name] = f.SHA256
	}
	found := 0
	for _, s := range v.Provenance.Subject {
		sum, ok := sums[s.Name]
		if !ok && name != "" {
			continue
		}
		found++
		if s.Digest["sha256"] != sum {
			return fault.New(fault.Digest, "%s: %s is about another %s than %s signs", v.Directory, build.ProvenanceName, cmp.Or(s.Name, "file without a name"), build.SumsName)
		}
	}
	if found == 0 && name == "" {
		return fault.New(fault.BadInput, "%s: %s is about nothing", v.Directory, build.ProvenanceName)
	}
	return nil
}

// others returns an error for files that are not signed.
func (v *Verified) others(files []File) error {
	signed := map[string]bool{}
	for _, f := range files {
		signed[f.Name] = true
	}
	for _, name := range append(build.SignatureNames(), unsigned...) {
		signed[name] = true
	}
	var more []File
	err := fs.WalkDir(os.DirFS(v.Directory), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
		case e.IsDir() && name == ".build":
			return fs.SkipDir
		case !e.IsDir() && !signed[name]:
			more = append(more, File{Name: name})
		}
		return err
	})
	if err != nil {
		return fault.Wrap(fault.IO, err, "looking for files that are not signed")
	}
	const mend = "; remove what does not belong there, or verify single files"
	return v.named(fault.Different, "is there, and is not signed"+mend, "are there, and are not signed"+mend, more)
}

// CheckRecipe checks that the recipe of a report is that of the provenance.
func (v *Verified) CheckRecipe(r *build.Report) error {
	if r.Recipe == nil {
		return fault.New(fault.Missing, "the record of the build has no recipe, which its provenance is about")
	}
	sum, err := recipeSum(r.Recipe)
	if err == nil && sum != v.Provenance.Predicate.BuildDefinition.InternalParameters.RecipeSHA256 {
		err = fault.New(fault.Digest, "the record %s of the build is not the one that was signed: its recipe is another than %s in %s says", build.ReportName, build.ProvenanceName, v.Directory)
	}
	return err
}
