package containers

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/pantavisor/pantavisor/revision/app/template"
)

// source is src.json (manual: pvr, service-manifest-src@1), members in the order
// in which pvr writes them.
type source struct {
	Spec         string            `json:"#spec"`
	Template     string            `json:"template"`
	Args         map[string]any    `json:"args,omitempty"`
	Config       imageConfig       `json:"docker_config"`
	RootfsDigest string            `json:"rootfs_digest"`
	Persistence  map[string]string `json:"persistence,omitempty"`
}

type imageConfig struct {
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Cmd        []string `json:"Cmd,omitempty"`
	Env        []string `json:"Env,omitempty"`
	WorkingDir string   `json:"WorkingDir,omitempty"`
}

// source returns src.json for a root file system with the given SHA-256.
func (p *Part) source(sum string) ([]byte, error) {
	d := p.Definition
	args := maps.Clone(d.Args)
	if args == nil {
		args = map[string]any{}
	}
	if d.Group != "" {
		args["PV_GROUP"] = d.Group
	}
	if len(d.Roles) > 0 {
		args["PV_ROLES"] = d.Roles
	}
	data, err := json.Marshal(source{
		Spec: "service-manifest-src@1", Template: template.Builtin, Args: args,
		Config:       imageConfig{d.Entrypoint, d.Command, d.Env, d.WorkingDir},
		RootfsDigest: "sha256:" + sum, Persistence: d.Persistence,
	})
	if err != nil {
		return nil, fmt.Errorf("writing src.json of container %s: %w", d.Name, err)
	}
	return data, nil
}

// render returns run.json and lxc.container.conf for src.json.
func render(name string, src []byte) (map[string][]byte, error) {
	out, err := template.Render(template.Input{Name: name, Source: src})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"run.json": out.Run.Append(nil)}
	if out.Config != nil {
		files[template.ConfigName] = out.Config
	}
	return files, nil
}
