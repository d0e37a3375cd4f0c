package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/entry"

	"github.com/pantavisor/pantavisor/revision/lxc"
)

// hookEvents are the supported hooks, and whether the first stage runs them in the
// container's mount namespace.
var hookEvents = []word[bool]{
	{"pre-start", false}, {"start-host", false}, {"stop", false}, {"post-stop", false},
	{"pre-mount", true}, {"mount", true}, {"autodev", true}, {"start", true},
}

// hookOutput bounds what is kept of a hook's output.
const hookOutput = 4 << 10

func setHook(p *parser, event, command string) error {
	if _, ok := find(hookEvents, event); !ok {
		if event != "clone" && event != "destroy" { // of tools that copy containers
			p.note("lxc.hook."+event, "unknown key, ignored")
		}
		return nil
	}
	if command == "" {
		p.cfg.Hooks = slices.DeleteFunc(p.cfg.Hooks, func(h Hook) bool { return h.Event == event })
		return nil
	}
	words, err := lxc.Split(command)
	if err != nil {
		return err
	}
	if !strings.Contains(words[0], "/") {
		return fmt.Errorf("%q is not a path of a program; hooks are run without a shell", clip(words[0]))
	}
	p.cfg.Hooks = append(p.cfg.Hooks, Hook{event, command})
	return nil
}

func setHookVersion(p *parser, v string) error {
	if v != "0" && v != "1" {
		return fmt.Errorf("%q is neither 0 nor 1", clip(v))
	}
	p.cfg.HookVersion = int(v[0] - '0')
	return nil
}

// hooks returns those of an event, in order.
func (c *Config) hooks(event string) (list []Hook) {
	for _, h := range c.Hooks {
		if h.Event == event {
			list = append(list, h)
		}
	}
	return list
}

// insideHooks returns the hooks that the first stage runs.
func (c *Config) insideHooks() (list []Hook) {
	for _, h := range c.Hooks {
		if inside, _ := find(hookEvents, h.Event); inside {
			list = append(list, h)
		}
	}
	return list
}

// hooking holds what every hook of a container gets (lxc.container.conf(5), hooks).
type hooking struct {
	Name    string
	Version int
	Dir     string // directory in which they run: that of the configuration
	Env     []string
}

// hooking returns the environment of a container's hooks.
func (s Start) hooking(stage string) hooking {
	h := hooking{Name: s.Name, Version: s.Config.HookVersion, Dir: "/"}
	env := map[string]string{
		"LXC_NAME": s.Name, "LXC_ROOTFS_MOUNT": stage, "LXC_ROOTFS_PATH": s.Config.Root.String(),
		"LXC_CONFIG_FILE": s.Config.File, "LXC_HOOK_VERSION": strconv.Itoa(h.Version), "LXC_HOOK_SECTION": "lxc",
		"LXC_CGNS_AWARE": "1", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	if s.Config.LogLevel != "" {
		env["LXC_LOG_LEVEL"] = s.Config.LogLevel
	}
	if s.Config.File != "" {
		h.Dir = filepath.Dir(s.Config.File)
	}
	for k, v := range env {
		h.Env = append(h.Env, k+"="+v)
	}
	slices.Sort(h.Env)
	return h
}

// run runs one hook to its end. Hooks of version 0 get arguments and variables, hooks of
// version 1 variables only.
func (g hooking) run(h Hook, extra, env []string) (string, error) {
	words, err := lxc.Split(h.Command)
	if err != nil {
		return "", err
	}
	if g.Version == 0 {
		words = append(append(words, g.Name, "lxc", h.Event), extra...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.Env = g.Dir, append(slices.Concat(g.Env, env), "LXC_HOOK_TYPE="+h.Event)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader("") // nil would need a /dev/null
	var out clippedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %v", setupTime)
	}
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s: %w%s", words[0], err, quoted(text))
	}
	return text, nil
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (%.500q)", text)
}

// clippedBuffer keeps the beginning of what is written.
type clippedBuffer []byte

// Write implements io.Writer.
func (b *clippedBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), hookOutput-len(*b))]...)
	return len(p), nil
}

// checkHook rejects a hook with all rights whose program is where a container can write:
// the container could replace it.
func (s Start) checkHook(h Hook) error {
	words, err := lxc.Split(h.Command)
	if err != nil || h.Event == "start" {
		return err
	}
	real, err := filepath.EvalSymlinks(words[0])
	if err != nil { // the container may still make it
		real = words[0]
	}
	for _, p := range []string{words[0], real} {
		if below(s.Volumes, p) != "" && !onReadOnly(real) {
			return fmt.Errorf("lxc.hook.%s: the program %s is in a volume, where a container could replace it; a hook with all rights must be elsewhere", h.Event, words[0])
		}
	}
	return nil
}

func onReadOnly(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
}

// outside runs the hooks of an event in the runtime's own namespaces.
func (st *starting) outside(event string, extra, env []string) error {
	for _, h := range st.Config.hooks(event) {
		if err := st.checkHook(h); err != nil {
			return err
		}
		text, err := st.hooking.run(h, extra, env)
		if err != nil {
			return fmt.Errorf("running the hook %s: %w", event, err)
		}
		if text != "" {
			st.Log.Infof("container %s: hook %s: %s", st.Name, event, text)
		}
	}
	return nil
}

// hook returns the step in which the first stage runs the hooks of an event.
func hook(event string) step {
	return step{"running the hook " + event, func(s *stage) error {
		for _, h := range s.plan.Hooks {
			if h.Event != event {
				continue
			}
			text, err := s.plan.Hooking.run(h, nil, nil)
			if err != nil {
				return err
			}
			if text != "" {
				_, _ = unix.Write(s.sock, []byte(stageLog+"hook "+event+": "+text))
			}
		}
		return nil
	}}
}

// afterwards runs the hooks for a container that has ended. Nothing depends on them, so
// errors are only logged.
func (st *starting) afterwards(event string, extra, env []string) {
	if err := st.outside(event, extra, append(env, "LXC_TARGET=stop")); err != nil {
		st.Log.Warnf("container %s: %v", st.Name, err)
	}
}

// holdSpaces keeps the container's namespaces open for its stop hooks, which run after
// it has ended.
func (st *starting) holdSpaces(pid int) error {
	if len(st.Config.hooks("stop")) == 0 {
		return nil
	}
	for _, name := range []string{"mnt", "pid", "uts", "ipc", "net", "cgroup"} {
		if flag, _ := find(namespaces, name); st.Config.cloneFlags()&flag == 0 {
			continue
		}
		f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/" + name)
		if err != nil {
			return fmt.Errorf("opening the namespaces for the stop hook: %w", err)
		}
		st.spaces = append(st.spaces, space{name, f})
	}
	return nil
}

// space is an open namespace.
type space struct {
	name string
	file *os.File
}

// runStop runs the stop hooks with the container's namespaces as arguments and as
// variables LXC_MNT_NS and so on.
func (st *starting) runStop() {
	var extra, env []string
	for _, s := range st.spaces {
		p := "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(s.file.Fd()))
		extra = append(extra, s.name+":"+p)
		env = append(env, "LXC_"+strings.ToUpper(s.name)+"_NS="+p)
	}
	st.afterwards("stop", extra, env)
	st.dropSpaces()
}

func (st *starting) dropSpaces() {
	for _, s := range st.spaces {
		_ = s.file.Close()
	}
	st.spaces = nil
}

// tearDown removes what the start made outside of the container, once its init has
// ended.
func (st *starting) tearDown() error {
	st.residents.leave(st.Name)
	entry.Remove(st.Entries, st.Name)
	err := errors.Join(st.dropExports(), st.group.remove(removeTime), st.group.removeLegacy(removeTime))
	st.dropSpaces()
	st.attached.Detach()
	st.afterwards("post-stop", nil, nil)
	return err
}
