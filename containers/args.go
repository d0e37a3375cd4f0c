package containers

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
)

// ownArgs are arguments that have their own field.
var ownArgs = map[string]string{"PV_GROUP": "group", "PV_ROLES": "roles"}

// argValues are the values of arguments that are one of some words.
var argValues = map[string][]string{
	"PV_STATUS_GOAL":    {string(manifest.Mounted), string(manifest.Started), string(manifest.Ready)},
	"PV_RESTART_POLICY": {string(manifest.RestartSystem), string(manifest.RestartContainer)},
}

// argMembers are the members of run.json that arguments alone decide. Other members need
// the rest of the revision to be checked.
var argMembers = []string{"auto_recovery", "automodfw", "network", "remount", "restart_policy", "services", "status_goal", "timeout"}

// args checks the arguments of the template, each by itself.
func (c checker) args(all map[string]any) {
	known := template.Arguments()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		text, isText := all[k].(string)
		switch {
		case ownArgs[k] != "":
			c.Wrong("args."+k, "use the field %s", ownArgs[k])
		case !slices.Contains(known, k):
			c.Wrong("args."+k, "%v", spelling.Unknown("argument", k, known))
		case isText && text != "" && argValues[k] != nil && !slices.Contains(argValues[k], text):
			c.Wrong("args."+k, "%s", spelling.Impossible(text, argValues[k]))
		default:
			c.arg(k, all)
		}
	}
}

// arg checks what the template and the device make of one argument.
func (c checker) arg(name string, all map[string]any) {
	args := map[string]any{name: all[name]}
	if strings.HasPrefix(name, "PV_NETWORK_") {
		args["PV_NETWORK_POOL"] = all["PV_NETWORK_POOL"] // without it the others are not used
	}
	run, err := renderArgs(args)
	if err != nil {
		c.Wrong("args."+name, "%s", strings.TrimPrefix(err.Error(), "args."+name+": "))
		return
	}
	var problems manifest.Problems
	if _, err := manifest.Parse(run, manifest.Options{AppEngine: true}); !errors.As(err, &problems) {
		return
	}
	for _, p := range problems {
		member, rest, _ := strings.Cut(p.Path, ".")
		if member, _, _ = strings.Cut(member, "["); !slices.Contains(argMembers, member) {
			continue
		}
		if rest != "" {
			rest += ": "
		}
		c.Wrong("args."+name, "%s%s", rest, p.Text)
	}
}

// renderArgs returns the state of a container that has nothing but arguments.
func renderArgs(args map[string]any) (*state.State, error) {
	const name = "x"
	src, err := json.Marshal(source{Template: template.Builtin, Args: args})
	if err != nil {
		return nil, err
	}
	out, err := template.Render(template.Input{Name: name, Source: src})
	if err != nil {
		return nil, errors.Unwrap(err) // the name is not the container's
	}
	s := state.New(state.Spec)
	return s, s.SetValue(name+"/run.json", out.Run)
}
