package containers

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// source makes src.json for a root file system of that SHA-256.
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
		Spec: "service-manifest-src@1", Template: "builtin-lxc-docker", Args: args,
		Config:       imageConfig{d.Entrypoint, d.Command, d.Env, d.WorkingDir},
		RootfsDigest: "sha256:" + sum, Persistence: d.Persistence,
	})
	if err != nil {
		return nil, fmt.Errorf("writing src.json of container %s: %w", d.Name, err)
	}
	return data, nil
}

// simpleArgs are the arguments that render understands.
var simpleArgs = []string{"PV_GROUP", "PV_ROLES", "PV_STATUS_GOAL", "PV_RESTART_POLICY", "PV_LXC_EXTRA_CONF"}

// render makes run.json and lxc.container.conf from src.json, as the template
// builtin-lxc-docker does.
func render(name string, src []byte) (map[string][]byte, error) {
	var s source
	if err := json.Unmarshal(src, &s); err != nil {
		return nil, fmt.Errorf("reading src.json: %w", err)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Args)) {
		if !slices.Contains(simpleArgs, k) {
			return nil, fmt.Errorf("args.%s: not supported here; supported are %s", k, strings.Join(simpleArgs, ", "))
		}
	}
	run := map[string]any{
		"#spec": "service-manifest-run@1", "name": name, "root-volume": "root.squashfs",
		"drivers": map[string]any{"manual": []string{}, "required": []string{}, "optional": []string{}},
		"storage": storage(s.Persistence), "volumes": []string{},
	}
	for arg, member := range map[string]string{"PV_GROUP": "group", "PV_STATUS_GOAL": "status_goal", "PV_RESTART_POLICY": "restart_policy"} {
		if v := s.Args[arg]; v != nil {
			run[member] = v
		}
	}
	files := map[string][]byte{}
	if s.Args["PV_STATUS_GOAL"] != "MOUNTED" {
		run["type"], run["config"] = "lxc", "lxc.container.conf"
		if roles := s.Args["PV_ROLES"]; roles != nil {
			run["roles"] = roles
		}
		files["lxc.container.conf"] = lxcConf(name, s)
	}
	data, err := json.Marshal(run)
	files["run.json"] = data
	return files, err
}

// volume is the name of a folder's volume.
func volume(folder string) string {
	return "docker-" + strings.ReplaceAll(strings.TrimSuffix(folder, "/"), "/", "-")
}

func storage(persistence map[string]string) map[string]any {
	out := map[string]any{"lxc-overlay": map[string]string{"persistence": "boot"}}
	for folder, policy := range persistence {
		name := volume(folder)
		if folder == "lxc-overlay" {
			name = folder
		}
		kind, disk, onDisk := strings.Cut(policy, "@")
		v := map[string]string{"persistence": kind}
		if onDisk {
			v["disk"] = disk
		}
		out[name] = v
	}
	return out
}

func lxcConf(name string, s source) []byte {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("lxc.tty.max = 8")
	line("lxc.pty.max = 1024")
	line("lxc.cgroup.devices.allow = a")
	line("lxc.rootfs.path = overlayfs:/volumes/%s/root.squashfs:/volumes/%s/lxc-overlay/upper", name, name)
	line("lxc.init.cmd = %s", initCmd(s.Config))
	if s.Config.WorkingDir != "" {
		line("lxc.init.cwd = %s", s.Config.WorkingDir)
	}
	for _, e := range s.Config.Env {
		line("lxc.environment = %s", e)
	}
	line("lxc.namespace.keep = user  net  ipc")
	line("lxc.mount.auto = proc  sys:rw  cgroup")
	line("lxc.mount.entry = /etc/resolv.conf etc/resolv.conf none bind,rw,create=file 0 0")
	line("lxc.mount.entry = tmpfs run tmpfs rw,nodev,relatime,create=dir,mode=755 0 0")
	for _, folder := range slices.Sorted(maps.Keys(s.Persistence)) {
		if folder != "lxc-overlay" {
			line("lxc.mount.entry = /volumes/%s/%s %s none bind,rw,create=dir 0 0", name, volume(folder), strings.TrimPrefix(folder, "/"))
		}
	}
	if extra, ok := s.Args["PV_LXC_EXTRA_CONF"].(string); ok {
		line("%s", extra)
	}
	return []byte(b.String())
}

// initCmd is the first word bare and the others in quotes; the words of a command
// behind an entry point are not separated.
func initCmd(c imageConfig) string {
	words, rest := c.Entrypoint, c.Cmd
	if len(words) == 0 {
		words, rest = c.Cmd, nil
	}
	var b strings.Builder
	for i, w := range words {
		if i == 0 {
			b.WriteString(w)
			continue
		}
		fmt.Fprintf(&b, " %q", w)
	}
	for i, w := range rest {
		if i == 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%q", w)
	}
	return b.String()
}
