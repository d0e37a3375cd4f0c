package targets

// String returns the architecture for names of steps and files: GOARCH followed by GOARM
// or GOMIPS, for example "amd64", "armv6", "mipsle-softfloat".
func (a Arch) String() string {
	switch {
	case a.ARM != "":
		return a.Go + "v" + a.ARM
	case a.MIPS != "":
		return a.Go + "-" + a.MIPS
	}
	return a.Go
}
