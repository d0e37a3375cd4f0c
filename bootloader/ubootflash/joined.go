package ubootflash

import (
	"io"
	"os"
)

// joined are files that are read one behind the other.
type joined struct{ files []*os.File }

func (j *joined) open(name string) error {
	f, err := os.Open(name)
	if err == nil {
		j.files = append(j.files, f)
	}
	return err
}

func (j *joined) reader() io.Reader {
	var all []io.Reader
	for _, f := range j.files {
		all = append(all, f)
	}
	return io.MultiReader(all...)
}

func (j *joined) close() {
	for _, f := range j.files {
		_ = f.Close() // it was only read
	}
}
