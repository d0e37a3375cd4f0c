//go:build mips || mipsle || mips64 || mips64le

package storage

// ext4ResizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64), in MIPS's numbering.
const ext4ResizeFS = 0x80086610
