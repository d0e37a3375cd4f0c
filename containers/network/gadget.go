package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/containers/control"
)

// gadgetDriver is the managed driver with the modules of a gadget (bsp/drivers.json).
const gadgetDriver = "usb-gadget"

// gadget makes the device an Ethernet adapter at its USB device port, through the kernel's
// configfs (Documentation/usb/gadget_configfs.rst).
type gadget struct {
	config string // where configfs is, or is mounted
	udcs   string // the directory of the USB device controllers
	serial string // of the device; empty if it is not known
	socket string // the runtime's control socket
	logf   func(string, ...any)
}

func newGadget(cfg Config) *gadget {
	return &gadget{
		config: "/sys/kernel/config", udcs: "/sys/class/udc", serial: serialNumber("/proc/device-tree/serial-number", "/sys/class/dmi/id/product_serial"),
		socket: cfg.Socket, logf: cfg.Log.Printf,
	}
}

// serialNumber returns the first text of the files.
func serialNumber(files ...string) string {
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil {
			if s := strings.TrimSpace(strings.Trim(string(text), "\x00")); s != "" {
				return s
			}
		}
	}
	return ""
}

// run sets the gadget up as soon as there is a controller, and ends then or with ctx. The
// interface then appears as any other.
func (g *gadget) run(ctx context.Context) error {
	if err := control.Send(ctx, g.socket, "PUT", "/drivers/"+gadgetDriver+"/load", nil); err != nil {
		g.logf("USB gadget: loading the driver %s: %v; the kernel may have it built in", gadgetDriver, err)
	}
	udc, err := g.controller(ctx)
	if err != nil {
		return fmt.Errorf("waiting for a USB device controller: %w", err)
	}
	if err := g.mount(); err != nil {
		return err
	}
	if err := g.make(udc); err != nil {
		return fmt.Errorf("setting up the USB gadget: %w", err)
	}
	g.logf("USB gadget: Ethernet on %s", udc)
	return nil
}

// controller returns the first USB device controller; without one it waits until the kernel
// has it.
func (g *gadget) controller(ctx context.Context) (string, error) {
	events, err := listenUevents(ctx)
	if err != nil {
		return "", err
	}
	defer events.Close()
	said := false
	buf := make([]byte, 8<<10)
	for {
		if names, _ := filepath.Glob(filepath.Join(g.udcs, "*")); len(names) > 0 { // sorted
			return filepath.Base(names[0]), nil
		}
		if !said {
			g.logf("USB gadget: there is no USB device controller yet")
			said = true
		}
		if _, err := events.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return "", errors.Join(ctx.Err(), err)
		}
	}
}

// listenUevents returns a socket with the kernel's device events (group 1 of
// NETLINK_KOBJECT_UEVENT); the end of ctx ends a read.
func listenUevents(ctx context.Context) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("opening the socket of device events: %w", err)
	}
	f := os.NewFile(uintptr(fd), "device events")
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.Join(fmt.Errorf("listening to device events: %w", err), f.Close())
	}
	context.AfterFunc(ctx, func() { _ = f.Close() })
	return f, nil
}

// mount mounts configfs where it is not mounted yet.
func (g *gadget) mount() error {
	if _, err := os.Stat(filepath.Join(g.config, "usb_gadget")); err == nil {
		return nil
	}
	err := unix.Mount("none", g.config, "configfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting configfs for the USB gadget: %w", err)
	}
	if _, err := os.Stat(filepath.Join(g.config, "usb_gadget")); err != nil {
		return errors.New("the kernel has no USB gadgets: CONFIG_USB_CONFIGFS, module libcomposite")
	}
	return nil
}

// Attributes of the gadget: the Linux Foundation's composite gadget with one network
// function, NCM, which Linux, macOS and Windows have drivers for.
const (
	gadgetName = "pantavisor"
	function   = "functions/ncm.usb0"
	language   = "0x409" // English
)

// attribute is a file of configfs with its content.
type attribute struct{ file, value string }

func (g *gadget) attributes() []attribute {
	out := []attribute{
		{"idVendor", "0x1d6b"}, {"idProduct", "0x0104"}, {"bcdUSB", "0x0200"},
		{"strings/" + language + "/manufacturer", "Pantavisor"}, {"strings/" + language + "/product", "Ethernet"},
		{"configs/c.1/strings/" + language + "/configuration", "Ethernet"},
		// Windows looks for its driver by these (Microsoft OS 1.0 descriptors).
		{"os_desc/use", "1"}, {"os_desc/b_vendor_code", "0xcd"}, {"os_desc/qw_sign", "MSFT100"},
		{function + "/os_desc/interface.ncm/compatible_id", "WINNCM"},
	}
	if g.serial != "" { // else the kernel takes random addresses
		out = append(out, attribute{"strings/" + language + "/serialnumber", g.serial},
			attribute{function + "/dev_addr", hardwareAddress(g.serial, "device")}, attribute{function + "/host_addr", hardwareAddress(g.serial, "host")})
	}
	return out
}

// hardwareAddress returns a locally administered address that a device always has.
func hardwareAddress(serial, side string) string {
	sum := sha256.Sum256([]byte("usb " + side + " " + serial))
	sum[0] = sum[0]&^1 | 2
	return net.HardwareAddr(sum[:6]).String()
}

// make makes the gadget, or takes the one of an earlier start of this program, and gives it
// the controller.
func (g *gadget) make(udc string) error {
	dir := filepath.Join(g.config, "usb_gadget", gadgetName)
	if text, err := os.ReadFile(filepath.Join(dir, "UDC")); err == nil && strings.TrimSpace(string(text)) != "" {
		return nil
	}
	for _, sub := range []string{"", "strings/" + language, "configs/c.1", "configs/c.1/strings/" + language, function} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, a := range g.attributes() {
		if err := os.WriteFile(filepath.Join(dir, a.file), []byte(a.value), 0o644); err != nil {
			return err
		}
	}
	for _, link := range []struct{ from, to string }{{function, "configs/c.1/ncm.usb0"}, {"configs/c.1", "os_desc/c.1"}} {
		if err := os.Symlink(filepath.Join(dir, link.from), filepath.Join(dir, link.to)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "UDC"), []byte(udc), 0o644)
}

// isGadget reports whether an interface is the device's end of a USB gadget.
func isGadget(name string) bool {
	text, err := os.ReadFile(filepath.Join("/sys/class/net", name, "uevent"))
	return err == nil && strings.Contains("\n"+string(text), "\nDEVTYPE=gadget\n")
}
