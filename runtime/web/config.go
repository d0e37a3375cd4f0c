package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Config is where and for whom the server listens.
type Config struct {
	Listen netip.AddrPort
	Off    bool // do not listen at all
	// Token and Hosts are as in [Options].
	Token string
	Hosts []string
	// Warnings are about the configuration, one sentence each; [Config.Judge] adds those about the address.
	Warnings []string
}

// defaultPort is the port that pvr clone of an address uses.
const defaultPort = 12368

// ConfigFile is the configuration of the container that has the server. A part
// _config/CONTAINER/etc/pvr-sdk/config.json of the state lies over it.
const ConfigFile = "/etc/pvr-sdk/config.json"

// configKey is the part for the name that the container had in earlier versions.
const configKey = "_config/pvr-sdk" + ConfigFile

// kernelWord names, on the kernel's command line, the address to listen on.
const kernelWord = "pvrskd_httpd_listen"

const listenOff = "off"

// maxConfig bounds a configuration in bytes.
const maxConfig = 64 << 10

// fileConfig is what is in the file.
type fileConfig struct {
	HTTPD struct {
		Listen string      `json:"listen"` // an address, or "off"
		Port   json.Number `json:"port"`
		Token  string      `json:"token"`
		Hosts  []string    `json:"hosts"`
	} `json:"httpd"`
}

// Configure returns the configuration. It is in the file, or in the running state for the
// container's earlier name when there is no file; running returns that state. The kernel's
// command line comes first. What cannot be read is a warning and has its default, and the server
// is not open to others: the token may be what cannot be read.
func Configure(file, cmdline string, running func() (*state.State, error)) Config {
	c := Config{Listen: netip.AddrPortFrom(loopback, defaultPort)}
	text, err := bounded.ReadFile(file, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = inState(running)
	}
	if err == nil && text != nil {
		err = c.read(text)
	}
	if err != nil {
		c.warn("The configuration of the web server cannot be used: %v.", err)
	}
	for _, word := range strings.Fields(cmdline) {
		if value, found := strings.CutPrefix(word, kernelWord+"="); found {
			c.listen(value, kernelWord)
		}
	}
	if err != nil && !c.Listen.Addr().IsLoopback() {
		c.warn("The server does not listen on %s, as it may be meant to have a token.", c.Listen)
		c.Listen = netip.AddrPortFrom(loopback, c.Listen.Port())
	}
	return c
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// inState returns the configuration in the running state, nil when it has none.
func inState(running func() (*state.State, error)) ([]byte, error) {
	st, err := running()
	if err != nil {
		return nil, err
	}
	v, found := st.Value(configKey)
	if !found {
		return nil, nil
	}
	return v.Encode(), nil
}

func (c *Config) read(text []byte) error {
	var f fileConfig
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	c.Token = f.HTTPD.Token
	for _, name := range f.HTTPD.Hosts {
		c.Hosts = append(c.Hosts, strings.ToLower(strings.TrimSuffix(name, ".")))
	}
	if port := f.HTTPD.Port.String(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("httpd.port is %.20q: 1 to 65535 is expected", port)
		}
		c.Listen = netip.AddrPortFrom(c.Listen.Addr(), uint16(n))
	}
	if f.HTTPD.Listen != "" {
		c.listen(f.HTTPD.Listen, "httpd.listen")
	}
	return nil
}

// listen sets the address from a setting with this name.
func (c *Config) listen(value, name string) {
	if value == listenOff {
		c.Off = true
		return
	}
	addr, err := netip.ParseAddr(strings.Trim(value, "[]"))
	if value == "localhost" {
		addr, err = loopback, nil
	}
	if err != nil {
		c.warn("%s is %.60q, which is not an address: the server listens on %s.", name, value, c.Listen)
		return
	}
	c.Off = false
	c.Listen = netip.AddrPortFrom(addr, c.Listen.Port())
}

// shortToken is the length below which a token can be guessed.
const shortToken = 16

// Judge adds a warning and returns it when others are let in: addr is where the server listens, be it by the
// configuration or not. "" is none.
func (c *Config) Judge(addr netip.AddrPort) string {
	switch {
	case addr.Addr().Unmap().IsLoopback():
		return ""
	case c.Token == "":
		c.warn("Everybody in the network of this device can change its software: the server listens on %s without httpd.token in %s.", addr, ConfigFile)
	case len(c.Token) < shortToken:
		c.warn("httpd.token in %s can be guessed: it has fewer than %d characters.", ConfigFile, shortToken)
	default:
		return ""
	}
	return c.Warnings[len(c.Warnings)-1]
}
