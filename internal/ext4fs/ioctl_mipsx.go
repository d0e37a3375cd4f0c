//go:build linux && (mips || mipsle || mips64 || mips64le)

package ext4fs

// iocCheckpoint is EXT4_IOC_CHECKPOINT, _IOW('f', 43, __u32), in MIPS's numbering.
const iocCheckpoint = 0x8004662b
