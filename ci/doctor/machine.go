package doctor

import (
	"context"
	"fmt"
	"go/version"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/cachedir"
)

// output returns what a program prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// goVersion compares the go command with what go.mod of the project wants, or with the version that this
// program was made with.
func goVersion(ctx context.Context, o *Options) Finding {
	want := runtime.Version()
	if data, err := bounded.ReadRegular(filepath.Join(o.Dir, "go.mod"), 1<<20); err == nil {
		if mod, err := modfile.ParseLax("go.mod", data, nil); err == nil && mod.Go != nil {
			want = "go" + mod.Go.Version
		}
	}
	got, err := output(ctx, o.Dir, "go", "env", "GOVERSION")
	switch {
	case err != nil:
		return Finding{State: Lacking, Detail: "the go command does not work or is not installed", Mend: "install Go " + strings.TrimPrefix(want, "go")}
	case version.Compare(version.Lang(got), version.Lang(want)) < 0:
		return Finding{State: Lacking, Detail: got + " is older than " + want, Mend: "install Go " + strings.TrimPrefix(want, "go") + ", or unset GOTOOLCHAIN=local"}
	}
	return Finding{State: Fine, Detail: got}
}

// disk checks the file systems of the cache and of the project.
func disk(_ context.Context, o *Options) Finding {
	cache, err := cachedir.Find()
	if err != nil {
		return Finding{State: Lacking, Detail: "no directory for the cache: " + err.Error(), Mend: "set " + cachedir.Variable}
	}
	f := Finding{State: Fine}
	var said []string
	for _, dir := range []string{cache, o.Dir} {
		free, err := room(dir)
		if err != nil {
			return Finding{State: Lacking, Detail: err.Error()}
		}
		said = append(said, fmt.Sprintf("%s free in %s", gib(free), dir))
		if free < leastDisk {
			f.State, f.Mend = Lacking, fmt.Sprintf("%s in both; %s moves the cache", gib(leastDisk), cachedir.Variable)
		}
	}
	f.Detail = strings.Join(said, ", ")
	return f
}

// room returns the free bytes of a directory's file system; the directory need not exist.
func room(dir string) (uint64, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return 0, err
	}
	var fs unix.Statfs_t
	for err = unix.Statfs(abs, &fs); err == unix.ENOENT && abs != "/"; err = unix.Statfs(abs, &fs) { //nolint:errorlint // a plain errno
		abs = filepath.Dir(abs)
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the room in %s: %w", abs, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// cgroupLimit returns the memory that the job's control group may have, 0 for no limit.
func cgroupLimit() uint64 {
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64); err == nil {
			return n
		}
	}
	return 0
}

// apt reports whether missing programs can be installed.
func apt(context.Context, *Options) Finding {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return Finding{State: Lacking, Detail: "apt-get is not installed: packages of targets cannot be resolved or fetched", Mend: "use an image of Debian 12"}
	}
	if os.Geteuid() != 0 {
		return Finding{State: Limited, Detail: "packages can be fetched; programs that are missing cannot be installed by this user", Mend: "install what mage names into the image of the job"}
	}
	return Finding{State: Fine, Detail: "programs that are missing are installed"}
}

var printedURI = regexp.MustCompile(`(?m)^'(https?://[^']+)'`)

// network asks the servers that builds use: the first mirror of each of apt's sources, and Go's proxy.
func network(ctx context.Context, o *Options) Finding {
	if o.Offline {
		return Finding{State: Limited, Detail: "not asked"}
	}
	bad := unreachable(ctx, servers(ctx, o))
	if len(bad) > 0 {
		return Finding{State: Lacking, Detail: "no answer from " + strings.Join(bad, ", "), Mend: "a proxy in HTTPS_PROXY, mirrors in /etc/apt, a proxy of Go modules in GOPROXY; what is cached needs no network"}
	}
	return Finding{State: Fine, Detail: "the servers of packages answer"}
}

// servers returns a URL of each server that builds use.
func servers(ctx context.Context, o *Options) []string {
	byHost := map[string]string{}
	add := func(text string) {
		if u, err := url.Parse(text); err == nil && u.Host != "" && strings.HasPrefix(u.Scheme, "http") && byHost[u.Host] == "" {
			byHost[u.Host] = text
		}
	}
	if uris, err := output(ctx, o.Dir, "apt-get", "--print-uris", "update"); err == nil {
		for _, m := range printedURI.FindAllStringSubmatch(uris, -1) {
			add(m[1])
		}
	}
	if proxies, err := output(ctx, o.Dir, "go", "env", "GOPROXY"); err == nil {
		first, _, _ := strings.Cut(strings.ReplaceAll(proxies, "|", ","), ",")
		add(first)
	}
	var out []string
	for _, text := range byHost {
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// unreachable returns the hosts that do not answer, whatever the answer is.
func unreachable(ctx context.Context, urls []string) []string {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	silent := make(chan string, len(urls))
	for _, text := range urls {
		go func() {
			host := ""
			if u, err := url.Parse(text); err == nil {
				host = u.Host // without a password that the URL may have
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodHead, text, nil)
			if err == nil {
				var res *http.Response
				if res, err = http.DefaultClient.Do(req); err == nil {
					_ = res.Body.Close() // of a HEAD
				}
			}
			if err != nil {
				silent <- host
				return
			}
			silent <- ""
		}()
	}
	var out []string
	for range urls {
		if host := <-silent; host != "" {
			out = append(out, host)
		}
	}
	slices.Sort(out)
	return out
}

// packages counts those of the targets' locks that are not in the cache.
func packages(_ context.Context, o *Options) Finding {
	if len(o.Targets) == 0 {
		return Finding{State: Fine, Detail: "no target named"}
	}
	cache, err := cachedir.Find()
	if err != nil {
		return Finding{State: Lacking, Detail: err.Error()}
	}
	pinned, absent, bytes := 0, 0, int64(0)
	for _, name := range o.Targets {
		if !filepath.IsLocal(name) || name != filepath.Base(name) {
			return Finding{State: Lacking, Detail: fmt.Sprintf("%q is not a valid name of a target", name)}
		}
		file := filepath.Join(o.Dir, "targets", name, "parts.lock")
		lock, err := debian.LoadLock(file)
		if err != nil {
			return Finding{State: Lacking, Detail: err.Error()}
		}
		if len(lock.Packages) == 0 {
			return Finding{State: Limited, Detail: "no packages are pinned in " + file, Mend: "mage lock " + name + ", and commit the file"}
		}
		for _, p := range lock.Packages {
			pinned++
			if _, err := os.Stat(filepath.Join(cache, "downloads", p.SHA256+".deb")); err != nil {
				absent, bytes = absent+1, bytes+p.Size
			}
		}
	}
	if absent == 0 {
		return Finding{State: Fine, Detail: fmt.Sprintf("all %d pinned packages are in the cache: the build needs no network", pinned)}
	}
	return Finding{State: Fine, Detail: fmt.Sprintf("%d of %d pinned packages are to be downloaded, %.0f MB", absent, pinned, float64(bytes)/1e6)}
}
