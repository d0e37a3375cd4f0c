//go:build mips || mipsle || mips64 || mips64le

package boot

// ext4Checkpoint is EXT4_IOC_CHECKPOINT, _IOW('f', 43, __u32), in MIPS's numbering.
const ext4Checkpoint = 0x8004662b
