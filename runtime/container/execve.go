package container

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// execve is the bare system call.
func execve(path *byte, argv, env []*byte) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	return errno
}

// execveat is the bare system call, for the program in a descriptor; empty is "".
func execveat(fd int, empty *byte, argv, env []*byte) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}
