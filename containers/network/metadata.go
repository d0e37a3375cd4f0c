package network

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pantavisor/pantavisor/containers/control"
)

// metaKey is the device metadata key under which the addresses are published. Its
// value is an object with "<if>.mac", "<if>.ipv4" and "<if>.ipv6", each a list,
// like the runtime's own key "interfaces", but with prefix lengths.
const metaKey = "network.interfaces"

// encodeMeta returns the value for MetaKey.
func encodeMeta(links []linkState) []byte {
	out := map[string][]string{}
	for _, l := range links {
		if l.mac != "" {
			out[l.name+".mac"] = []string{l.mac}
		}
		for _, p := range l.addrs {
			family := ".ipv6"
			if p.Addr().Is4() {
				family = ".ipv4"
			}
			out[l.name+family] = append(out[l.name+family], p.String())
		}
	}
	data, err := json.Marshal(out) // Marshal sorts map keys
	if err != nil {
		return []byte("{}") // strings always marshal
	}
	return data
}

// putMeta sets a value of device metadata through the control socket.
func putMeta(ctx context.Context, socket, key string, value []byte) error {
	return control.Send(ctx, socket, "PUT", "/device-meta/"+key, value)
}

// publisher sends the newest value and drops older ones.
type publisher struct {
	values chan []byte
}

func newPublisher() *publisher { return &publisher{make(chan []byte, 1)} }

// offer replaces a value that is still waiting. Only one goroutine calls it.
func (p *publisher) offer(v []byte) {
	select {
	case <-p.values:
	default:
	}
	p.values <- v
}

// run sends values until ctx ends. It retries a failed one with growing pauses, unless
// there is a newer value.
func (p *publisher) run(ctx context.Context, put func([]byte) error, logf func(string, ...any)) {
	var last string
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-p.values:
			if string(v) != last {
				last = p.send(ctx, v, put, logf)
			}
		}
	}
}

func (p *publisher) send(ctx context.Context, v []byte, put func([]byte) error, logf func(string, ...any)) string {
	wait := time.Second
	for {
		err := put(v)
		if err == nil {
			return string(v)
		}
		logf("%v; next try in %v", err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case v = <-p.values:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ""
		}
		wait = min(2*wait, time.Minute)
	}
}
