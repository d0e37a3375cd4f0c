package boot

import (
	"maps"
	"slices"

	"github.com/pantavisor/pantavisor/formats/grubenv"
)

// grubEnv is boot/grubenv, GRUB's environment block.
type grubEnv struct{}

var _ form = grubEnv{}

func (grubEnv) decode(b []byte) ([]pair, error) {
	env, err := grubenv.Parse(b)
	if err != nil {
		return nil, err
	}
	var out []pair
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, pair{k, env[k]})
	}
	return out, nil
}

func (grubEnv) encode(pairs []pair) ([]byte, error) {
	env := grubenv.Env{}
	for _, p := range pairs {
		env[p.key] = p.value
	}
	return env.Bytes()
}
