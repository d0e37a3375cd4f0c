package container

import (
	"syscall"
	"unsafe"
)

// execve is the bare system call.
func execve(path *byte, argv, env []*byte) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	return errno
}
