package deb

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"strings"
)

// maxControl bounds a package's control file, in bytes.
const maxControl = 1 << 20

// Control returns the fields of a package's control file (Debian Policy 5.3) by their names; of a
// field with several lines it returns the first one. It reads no further than that file.
func Control(r io.Reader) (map[string]string, error) {
	member, err := newMembers(r)
	if err != nil {
		return nil, err
	}
	name, body, err := member.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	suffix, ok := strings.CutPrefix(name, "control.tar")
	if !ok {
		return nil, malformed("it has no control.tar")
	}
	data, err := open(suffix, body)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	var fields map[string]string
	err = walk(data, func(name string, h *tar.Header, body io.Reader) error {
		if name != "control" || h.Typeflag != tar.TypeReg {
			return nil
		}
		if fields, err = paragraph(io.LimitReader(body, maxControl)); err != nil {
			return malformed("control file: %v", err)
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return fields, nil
	}
	if err == nil {
		err = malformed("control.tar has no control file")
	}
	return nil, err
}

// errFound ends the walk over the members.
var errFound = errors.New("found")

// paragraph reads the first paragraph of a control file.
func paragraph(r io.Reader) (map[string]string, error) {
	fields := map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxControl)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			break
		}
		if key, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' && line[0] != '\t' {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, lines.Err()
}
