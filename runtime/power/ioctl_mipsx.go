//go:build mips || mipsle || mips64 || mips64le

package power

// keyBits is EVIOCGBIT(EV_KEY, n), _IOC(_IOC_READ, 'E', 0x20+ev, n), in MIPS's numbering.
func keyBits(n int) uint { return 0x40000000 | uint(n)<<16 | 'E'<<8 | 0x20 + evKey }
