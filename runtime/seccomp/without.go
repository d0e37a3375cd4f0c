//go:build !(amd64 || arm || arm64 || mips || mipsle || riscv64)

package seccomp

// arches is empty: no device has this architecture, and only the host tools run on it.
var arches []arch
