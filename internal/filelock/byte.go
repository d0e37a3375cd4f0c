package filelock

import "context"

// AcquireByte is [Acquire] for the byte at an offset of a file, which need not be that
// long: one file can hold any number of locks. Locks of bytes and of whole files do not
// exclude each other. A system without locks of bytes gets a file for each, whose name
// ends with the offset.
func AcquireByte(ctx context.Context, path string, at int64, opt Options) (*Lock, error) {
	path, lock := ofByte(path, at)
	return acquire(ctx, path, opt, lock)
}

// TryByte is [Try] for the byte at an offset of a file, see [AcquireByte].
func TryByte(path string, at int64, opt Options) (*Lock, error) {
	path, lock := ofByte(path, at)
	return try(path, opt, lock)
}
