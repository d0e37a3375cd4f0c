package device

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/meta"
	"github.com/pantavisor/pantavisor/runtime/space"
)

// deviceMeta is the device metadata (manual: Metadata, device metadata). Values that
// change all the time are computed when they are read, and written to the storage only at
// the start of a revision.
type deviceMeta struct {
	*meta.Store
	storage  string     // the directory
	reserved func() int // percent of the storage that containers may not use
	log      logs.Logger
}

var _ ctrl.Meta = (*deviceMeta)(nil)

// List implements ctrl.Meta.
func (d *deviceMeta) List(w io.Writer) error {
	d.refresh(d.Show)
	return d.Store.List(w)
}

// publish sets a key of the device metadata.
func (d *deviceMeta) publish(key, value string) { d.set(key, value, d.Publish) }

func (d *deviceMeta) set(key, value string, set func(key, value string) error) {
	if err := set(key, value); err != nil {
		d.log.Warnf("device metadata: %v", err)
	}
}

// setJSON sets a key to a JSON object.
func (d *deviceMeta) setJSON(key string, value any, set func(key, value string) error) {
	b, err := json.Marshal(value)
	if err != nil {
		d.log.Warnf("device metadata %s: %v", key, err)
		return
	}
	d.set(key, string(b), set)
}

// describe publishes the values that do not change while the revision runs. claimed says
// that the device has an owner at a hub.
func (d *deviceMeta) describe(version, revision string, claimed bool) {
	d.publish("pantavisor.arch", architecture())
	d.publish("pantavisor.version", version)
	d.publish("pantavisor.dtmodel", readLine("/proc/device-tree/model"))
	d.publish("pantavisor.cpumodel", cpuModel())
	d.publish("pantavisor.revision", revision)
	d.publish("pantavisor.mode", "local")
	d.setJSON("pantavisor.uname", uname(), d.Publish)
	d.publish("pantahub.online", "0")
	d.publish("pantahub.claimed", digit(claimed))
	ever, _ := d.Get("pantavisor.claimed") // from earlier boots
	d.publish("pantavisor.claimed", digit(claimed || ever == "1"))
	d.refresh(d.Publish)
}

// supportMeta is pantavisor.support: the day until which vulnerabilities are handled, where they are
// reported, and who makes the product.
type supportMeta struct {
	End          string `json:"end,omitempty"`
	Contact      string `json:"contact,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
}

// support publishes what bsp/build.json of a state says of support (docs/targets.md). Without it
// there is no such key.
func (d *deviceMeta) support(st *state.State) {
	const key = "pantavisor.support"
	var build struct {
		End          string `json:"support_end"`
		Contact      string `json:"security_contact"`
		Manufacturer string `json:"manufacturer"`
	}
	if st != nil {
		if text, ok := st.Get("bsp/build.json"); ok {
			if err := json.Unmarshal(text, &build); err != nil {
				d.log.Warnf("bsp/build.json: %v", err)
			}
		}
	}
	if v := supportMeta(build); v != (supportMeta{}) {
		d.setJSON(key, v, d.Publish)
	} else if err := d.Delete(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warnf("device metadata: %v", err)
	}
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// refresh computes the values that change; set takes those that do so all the time.
func (d *deviceMeta) refresh(set func(key, value string) error) {
	d.setJSON("interfaces", interfaces(), d.Publish)
	if v, ok := d.storageSize(); ok {
		d.setJSON("storage", v, set)
	}
	if v, ok := sysinfo(); ok {
		d.setJSON("sysinfo", v, set)
		d.setJSON("memory", memoryMeta{Total: v.TotalRAM * uint64(max(v.Unit, 1)), Available: ctrl.FreeMemory()}, set)
	}
	now := time.Now()
	d.setJSON("time", timeMeta{
		Timeval:  timeval{now.Unix(), now.Nanosecond() / 1000},
		Timezone: timezone{},
	}, set)
}

type timeval struct {
	Sec  int64 `json:"tv_sec"`
	Usec int   `json:"tv_usec"`
}

type timezone struct {
	Minuteswest int `json:"tz_minuteswest"`
	Dsttime     int `json:"tz_dsttime"`
}

type timeMeta struct {
	Timeval  timeval  `json:"timeval"`
	Timezone timezone `json:"timezone"`
}

// machines are the names of architectures in pantavisor.arch where they are not Go's.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i386", "mipsle": "mips"}

// architecture returns "ARCH/BITS/EL" or "ARCH/BITS/EB" of this program, as devices
// have always published it: a 64-bit kernel does not matter.
func architecture() string {
	order := "EL"
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		order = "EB"
	}
	return architectureOf(runtime.GOARCH) + "/" + strconv.Itoa(strconv.IntSize) + "/" + order
}

func architectureOf(goarch string) string { return cmp.Or(machines[goarch], goarch) }

type unameMeta struct {
	Name    string `json:"kernel.name"`
	Release string `json:"kernel.release"`
	Version string `json:"kernel.version"`
	Node    string `json:"node.name"`
	Machine string `json:"machine"`
}

func uname() unameMeta {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return unameMeta{Machine: runtime.GOARCH}
	}
	text := unix.ByteSliceToString
	return unameMeta{text(u.Sysname[:]), text(u.Release[:]), text(u.Version[:]), text(u.Nodename[:]), text(u.Machine[:])}
}

// readLine returns the first line of a small file without a final NUL, "" when there is none.
func readLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimRight(string(b), "\x00\n"), "\n")
	return line
}

// cpuModel returns the processor's model from /proc/cpuinfo, whose line for it has a
// different name on each architecture.
func cpuModel() string {
	b, err := bounded.ReadFile("/proc/cpuinfo", 1<<20)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name", "cpu model", "uarch", "Processor":
			return strings.TrimSpace(value)
		}
	}
	return ""
}

type sysinfoMeta struct {
	Uptime    int64  `json:"uptime"`
	Load0     uint64 `json:"loads.0"`
	Load1     uint64 `json:"loads.1"`
	Load2     uint64 `json:"loads.2"`
	TotalRAM  uint64 `json:"totalram"`
	FreeRAM   uint64 `json:"freeram"`
	SharedRAM uint64 `json:"sharedram"`
	BufferRAM uint64 `json:"bufferram"`
	TotalSwap uint64 `json:"totalswap"`
	FreeSwap  uint64 `json:"freeswap"`
	Procs     uint16 `json:"procs"`
	TotalHigh uint64 `json:"totalhigh"`
	FreeHigh  uint64 `json:"freehigh"`
	Unit      uint32 `json:"mem_unit"`
}

func sysinfo() (sysinfoMeta, bool) {
	var i unix.Sysinfo_t
	if unix.Sysinfo(&i) != nil {
		return sysinfoMeta{}, false
	}
	//nolint:unconvert // 32 bits wide on some architectures
	return sysinfoMeta{
		int64(i.Uptime), uint64(i.Loads[0]), uint64(i.Loads[1]), uint64(i.Loads[2]),
		uint64(i.Totalram), uint64(i.Freeram), uint64(i.Sharedram), uint64(i.Bufferram),
		uint64(i.Totalswap), uint64(i.Freeswap), i.Procs, uint64(i.Totalhigh), uint64(i.Freehigh), i.Unit,
	}, true
}

// memoryMeta is the memory in bytes. Available is what programs can still get: with free memory the
// caches that can be dropped, which sysinfo does not tell.
type memoryMeta struct {
	Total     uint64 `json:"total"`
	Available int64  `json:"available"`
}

type storageMeta struct {
	Total    int64 `json:"total"`
	Free     int64 `json:"free"`
	Reserved int64 `json:"reserved"`
	RealFree int64 `json:"real_free"`
}

// storageSize returns the size of the storage in bytes. Reserved (PV_STORAGE_GC_RESERVED)
// is the part that containers may not use.
func (d *deviceMeta) storageSize() (storageMeta, bool) {
	u, err := d.usage()
	return storageMeta{Total: u.Total, Free: u.Free, Reserved: u.Reserved, RealFree: max(0, u.Free-u.Reserved)}, err == nil
}

// usage returns the usage of the storage.
func (d *deviceMeta) usage() (space.Usage, error) { return space.Of(d.storage, d.reserved()) }

// interfaces lists "<interface>.mac", ".ipv4" and ".ipv6", from the kernel's routing
// socket (rtnetlink(7)).
func interfaces() map[string][]string {
	out := map[string][]string{}
	names := map[int]string{}
	for _, m := range rtnetlink(unix.RTM_GETLINK) {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		index := int(binary.NativeEndian.Uint32(m.Data[4:8]))
		attrs := attributes(&m)
		names[index] = strings.TrimRight(string(attrs[unix.IFLA_IFNAME]), "\x00")
		loop := binary.NativeEndian.Uint32(m.Data[8:12])&unix.IFF_LOOPBACK != 0
		if mac := attrs[unix.IFLA_ADDRESS]; len(mac) == 6 && !loop {
			out[names[index]+".mac"] = []string{fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])}
		}
	}
	for _, m := range rtnetlink(unix.RTM_GETADDR) {
		if m.Header.Type == unix.RTM_NEWADDR && len(m.Data) >= unix.SizeofIfAddrmsg {
			addAddress(out, names, &m)
		}
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out
}

// addAddress adds one address; a link-local one has its interface appended, as in RFC 4007.
func addAddress(out map[string][]string, names map[int]string, m *syscall.NetlinkMessage) {
	name := names[int(binary.NativeEndian.Uint32(m.Data[4:8]))]
	attrs := attributes(m)
	raw := attrs[unix.IFA_LOCAL]
	if raw == nil {
		raw = attrs[unix.IFA_ADDRESS]
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok || name == "" {
		return
	}
	key := name + ".ipv4"
	if ip.Is6() {
		key = name + ".ipv6"
		if ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(name)
		}
	}
	out[key] = append(out[key], ip.String())
}

func rtnetlink(what int) []syscall.NetlinkMessage {
	raw, err := syscall.NetlinkRIB(what, unix.AF_UNSPEC)
	if err != nil {
		return nil
	}
	ms, err := syscall.ParseNetlinkMessage(raw)
	if err != nil {
		return nil
	}
	return ms
}

func attributes(m *syscall.NetlinkMessage) map[uint16][]byte {
	list, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return nil
	}
	out := make(map[uint16][]byte, len(list))
	for _, a := range list {
		out[a.Attr.Type] = a.Value
	}
	return out
}

// busyTicks returns the busy time of all processors according to a /proc/stat, in clock
// ticks: user, nice, system, irq, softirq and steal, without idle and iowait.
func busyTicks(path string) (sum int64) {
	f := strings.Fields(readLine(path))
	if len(f) < 9 || f[0] != "cpu" {
		return 0
	}
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		sum += n
	}
	return sum
}
