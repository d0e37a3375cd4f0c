//go:build !mips && !mipsle && !mips64 && !mips64le

package storage

// ext4ResizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64).
const ext4ResizeFS = 0x40086610
