//go:build !mips && !mipsle && !mips64 && !mips64le

package boot

// Requests of mtd/mtd-abi.h: MEMGETBADBLOCK, _IOW('M', 11, __kernel_loff_t), and MEMERASE64,
// _IOW('M', 20, struct erase_info_user64).
const (
	memGetBadBlock = 0x40084d0b
	memErase64     = 0x40104d14
)
