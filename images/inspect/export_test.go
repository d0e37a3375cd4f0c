package inspect

// Bound sets how many contents are looked into, and how many bytes the names of one archive or file
// system may need. A bound of 0 is that of the package.
func (r *Reader) Bound(insides int, names int64) { r.most, r.mostNames = insides, names }

// Insides returns how many contents were looked into.
func (r *Reader) Insides() int { return r.insides }

// Opened returns how many files are open.
func (r *Reader) Opened() int { return len(r.open) }
