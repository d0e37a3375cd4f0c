package targets

// String is the architecture as names of steps and files carry it: GOARCH with
// GOARM or GOMIPS behind it, for example "amd64", "armv6", "mipsle-softfloat".
func (a Arch) String() string {
	switch {
	case a.ARM != "":
		return a.Go + "v" + a.ARM
	case a.MIPS != "":
		return a.Go + "-" + a.MIPS
	}
	return a.Go
}
