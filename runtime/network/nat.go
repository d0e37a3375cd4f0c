package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// translator manages the rules for the source address translation of packets from
// containers. They are in an nftables table of the runtime's own or, on kernels without
// nftables, set by the program iptables.
type translator struct {
	table    string
	nf       *conn
	made     bool
	iptables [][]string // rules that were set, without the command
}

// clean deletes the table of a killed run.
func (t *translator) clean() { _ = t.drop() }

// open opens the socket on first use: devices without address translation do not need
// to load nftables.
func (t *translator) open() (err error) {
	if t.nf == nil {
		t.nf, err = dial(unix.NETLINK_NETFILTER)
	}
	return err
}

// Numbers of linux/netfilter_ipv4.h and linux/netfilter/nf_tables.h.
const (
	postRouting      = 4
	sourcePriority   = 100 // NF_IP_PRI_NAT_SRC
	networkHeader    = 1   // NFT_PAYLOAD_NETWORK_HEADER
	sourceOffset     = 12  // of the address in an IPv4 header
	protocolIPv4     = 2   // NFPROTO_IPV4
	chainPostRouting = "postrouting"
)

// nfMessage begins a message of nf_tables, with struct nfgenmsg.
func nfMessage(kind, flags uint16) *message {
	return newMessage(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, []byte{protocolIPv4, 0, 0, 0})
}

// batch sends messages that take effect together or not at all.
func (t *translator) batch(list ...*message) error {
	if err := t.open(); err != nil {
		return err
	}
	edge := func(kind uint16) *message { // its resource is the subsystem, in network byte order
		return newMessage(kind, 0, []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES})
	}
	var all []byte
	var last uint32
	for _, m := range append(append([]*message{edge(unix.NFNL_MSG_BATCH_BEGIN)}, list...), edge(unix.NFNL_MSG_BATCH_END)) {
		seq := t.nf.number(m)
		if native.Uint16(m.b[6:])&unix.NLM_F_ACK != 0 {
			last = seq
		}
		all = append(all, m.b...)
	}
	if err := unix.Sendto(t.nf.fd, all, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return t.nf.acknowledged(last)
}

// acknowledged waits for the answer to a message or an error of an earlier one.
func (c *conn) acknowledged(until uint32) error {
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n < unix.SizeofNlMsghdr+4 || native.Uint16(buf[4:]) != unix.NLMSG_ERROR {
			continue
		}
		if code := int32(native.Uint32(buf[unix.SizeofNlMsghdr:])); code != 0 {
			c.drain()
			return unix.Errno(-code)
		}
		if native.Uint32(buf[8:]) == until {
			return nil
		}
	}
}

// drain discards the remaining answers of the kernel.
func (c *conn) drain() {
	buf := make([]byte, 32<<10)
	for {
		if _, _, err := unix.Recvfrom(c.fd, buf, unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// drop deletes the table and everything in it.
func (t *translator) drop() error {
	err := t.batch(nfMessage(unix.NFT_MSG_DELTABLE, unix.NLM_F_ACK).text(unix.NFTA_TABLE_NAME, t.table))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// add translates packets from a range of addresses that leave their bridge.
func (t *translator) add(from netip.Prefix, bridge string) error {
	var list []*message
	if !t.made {
		list = t.frame()
	}
	err := t.batch(append(list, t.masquerade(from, bridge))...)
	if err == nil {
		t.made = true
		return nil
	}
	if other := t.addIptables(from, bridge); other != nil {
		return fmt.Errorf("setting the rule with nftables: %w; with iptables: %w", err, other)
	}
	return nil
}

// frame returns the messages that make the table with its one chain.
func (t *translator) frame() []*message {
	table := nfMessage(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_ACK).text(unix.NFTA_TABLE_NAME, t.table)
	chain := nfMessage(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_ACK).
		text(unix.NFTA_CHAIN_TABLE, t.table).text(unix.NFTA_CHAIN_NAME, chainPostRouting)
	chain.nest(unix.NFTA_CHAIN_HOOK, func() {
		chain.netWord(unix.NFTA_HOOK_HOOKNUM, postRouting).netWord(unix.NFTA_HOOK_PRIORITY, sourcePriority)
	})
	return []*message{table, chain.text(unix.NFTA_CHAIN_TYPE, "nat")}
}

// masquerade returns the rule "ip saddr FROM oifname != BRIDGE masquerade".
func (t *translator) masquerade(from netip.Prefix, bridge string) *message {
	m := nfMessage(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK).
		text(unix.NFTA_RULE_TABLE, t.table).text(unix.NFTA_RULE_CHAIN, chainPostRouting)
	expr := func(name string, fill func()) {
		m.nest(unix.NFTA_LIST_ELEM, func() {
			m.text(unix.NFTA_EXPR_NAME, name)
			m.nest(unix.NFTA_EXPR_DATA, fill)
		})
	}
	value := func(kind uint16, b []byte) { m.nest(kind, func() { m.attr(unix.NFTA_DATA_VALUE, b) }) }
	compare := func(op uint32, b []byte) {
		expr("cmp", func() {
			m.netWord(unix.NFTA_CMP_SREG, unix.NFT_REG_1).netWord(unix.NFTA_CMP_OP, op)
			value(unix.NFTA_CMP_DATA, b)
		})
	}
	mask := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), from.Bits()).Masked().Addr()
	m.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		expr("payload", func() {
			m.netWord(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1).netWord(unix.NFTA_PAYLOAD_BASE, networkHeader).
				netWord(unix.NFTA_PAYLOAD_OFFSET, sourceOffset).netWord(unix.NFTA_PAYLOAD_LEN, 4)
		})
		expr("bitwise", func() {
			m.netWord(unix.NFTA_BITWISE_SREG, unix.NFT_REG_1).netWord(unix.NFTA_BITWISE_DREG, unix.NFT_REG_1).netWord(unix.NFTA_BITWISE_LEN, 4)
			value(unix.NFTA_BITWISE_MASK, mask.AsSlice())
			value(unix.NFTA_BITWISE_XOR, make([]byte, 4))
		})
		compare(unix.NFT_CMP_EQ, from.Addr().AsSlice())
		expr("meta", func() {
			m.netWord(unix.NFTA_META_DREG, unix.NFT_REG_1).netWord(unix.NFTA_META_KEY, unix.NFT_META_OIFNAME)
		})
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, bridge)
		compare(unix.NFT_CMP_NEQ, name)
		expr("masq", func() {})
	})
	return m
}

// addIptables sets the rule with the program iptables, which the device must have.
func (t *translator) addIptables(from netip.Prefix, bridge string) error {
	rule := []string{"POSTROUTING", "-s", from.String(), "!", "-o", bridge, "-m", "comment", "--comment", t.table, "-j", "MASQUERADE"}
	_ = iptables("-D", rule) // of a killed run
	if err := iptables("-A", rule); err != nil {
		return err
	}
	t.iptables = append(t.iptables, rule)
	return nil
}

func iptables(command string, rule []string) error {
	out, err := exec.Command("iptables", append([]string{"-w", "-t", "nat", command}, rule...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %.200s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (t *translator) close() error {
	var errs []error
	if t.made {
		errs = append(errs, t.drop())
	}
	for _, r := range t.iptables {
		errs = append(errs, iptables("-D", r))
	}
	if t.nf != nil {
		t.nf.close()
	}
	return errors.Join(errs...)
}
