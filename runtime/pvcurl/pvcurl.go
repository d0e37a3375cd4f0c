// Package pvcurl is the small HTTP/1.0 client for the control socket that takes
// the words of curl which scripts use for it (manual: pvcurl).
package pvcurl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

const usage = `usage: pvcurl [OPTION...] /PATH

Sends one HTTP/1.0 request to the control socket and prints the answer's body.

  --unix-socket SOCKET     default: that of this installation or container
  -X METHOD                default: GET, whatever is sent
  -H HEADER                a further header, as "Name: value"
  --data TEXT              what to send; @FILE is a file's content
  -T, --upload-file FILE   send a file, - is standard input
  -o FILE                  write the body to a file
  -i                       print the answer's head, too
  -w FORMAT                print this afterwards; %{http_code} is the status
  -s                       say nothing of errors
  -v                       show the heads of request and answer
  --connect-timeout SECONDS, --max-time SECONDS
                           give up; 0 never does. Default: 5 to connect, never then

  pvcurl /containers
  pvcurl -X PUT --data VALUE /user-meta/KEY

Exit codes: 0 with any answer, 1 without one or for wrong words.
`

const (
	exitFailed     = 1
	defaultConnect = 5 * time.Second
	maxStdin       = 64 << 20 // of a body from standard input, whose size is sent before it
)

// options are the words of one run.
type options struct {
	method  string
	headers []string
	data    *string
	upload  string
	socket  string
	output  string
	write   string
	target  string
	include bool
	silent  bool
	verbose bool
	help    bool
	connect time.Duration
	total   time.Duration // 0: as long as it takes
}

// Run is the program; args are without its name. It returns the exit code: 0 for
// any answer, whatever its status, as -w is there to ask for it.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if o.help {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if err == nil {
		err = o.run(ctx, stdin, stdout, stderr)
	}
	if err != nil {
		if !o.silent {
			fmt.Fprintf(stderr, "pvcurl: %v\n", err)
		}
		return exitFailed
	}
	return 0
}

// flags are the options without a value.
func (o *options) flag(word string) bool {
	switch word {
	case "-s", "--silent":
		o.silent = true
	case "-v", "--verbose":
		o.verbose = true
	case "-i", "--include":
		o.include = true
	case "-h", "--help":
		o.help = true
	case "--no-progress-meter":
	default:
		return false
	}
	return true
}

// valued are the options with a value; the result is where to put it.
func (o *options) valued(word string) func(string) error {
	set := func(to *string) func(string) error {
		return func(v string) error { *to = v; return nil }
	}
	switch word {
	case "-X", "--request":
		return set(&o.method)
	case "-H", "--header":
		return func(v string) error { o.headers = append(o.headers, v); return nil }
	case "-d", "--data", "--data-binary", "--data-raw":
		return func(v string) error { o.data = &v; return nil }
	case "-T", "--upload-file":
		return set(&o.upload)
	case "--unix-socket":
		return set(&o.socket)
	case "-o", "--output":
		return set(&o.output)
	case "-w", "--write-out":
		return set(&o.write)
	case "--max-time", "-m":
		return seconds(word, &o.total)
	case "--connect-timeout":
		return seconds(word, &o.connect)
	}
	return nil
}

// seconds takes a number of seconds, which may be a fraction.
func seconds(option string, to *time.Duration) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || !(n >= 0 && n <= 1e6) {
			return fmt.Errorf("%s takes seconds, not %q", option, v)
		}
		*to = time.Duration(n * float64(time.Second))
		return nil
	}
}

func parse(args []string) (*options, error) {
	o := &options{method: "GET", connect: defaultConnect}
	for i := 0; i < len(args); i++ {
		word := args[i]
		if len(word) < 2 || word[0] != '-' {
			o.target = word
			continue
		}
		if o.flag(word) {
			continue
		}
		value, given := "", false
		if long, v, ok := strings.Cut(word, "="); ok && strings.HasPrefix(word, "--") {
			word, value, given = long, v, true
		} else if !strings.HasPrefix(word, "--") && len(word) > 2 {
			word, value, given = word[:2], word[2:], true
		}
		set := o.valued(word)
		if set == nil {
			return o, fmt.Errorf("unknown option %s; pvcurl --help lists them", word)
		}
		if !given {
			if i++; i == len(args) {
				return o, fmt.Errorf("option %s needs a value", word)
			}
			value = args[i]
		}
		if err := set(value); err != nil {
			return o, err
		}
	}
	return o, o.check()
}

func (o *options) check() error {
	if o.socket == "" {
		o.socket = client.FindSocket()
	}
	if rest, ok := strings.CutPrefix(o.target, "http://"); ok {
		_, path, _ := strings.Cut(rest, "/")
		o.target = "/" + path
	} else if rest, ok := strings.CutPrefix(o.target, "localhost/"); ok {
		o.target = "/" + rest
	}
	switch {
	case o.target == "":
		return errors.New("usage: no path to ask for, such as /containers; pvcurl --help lists the options")
	case o.target[0] != '/' || strings.ContainsFunc(o.target, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return fmt.Errorf("%q is not a path of the control socket: it begins with / and has no blanks", o.target)
	case o.socket == "":
		return fmt.Errorf("there is no socket %s; name it with --unix-socket", strings.Join(client.Sockets, ", "))
	}
	for _, h := range append([]string{o.method + ":"}, o.headers...) {
		if !strings.Contains(h, ":") || strings.ContainsAny(h, "\r\n") {
			return fmt.Errorf("%q is not a header", h)
		}
	}
	return nil
}

func (o *options) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	req := &client.Request{Method: o.method, Path: o.target, Header: o.headers}
	closeBody, err := o.body(req, stdin)
	if err != nil {
		return err
	}
	defer closeBody()
	if !hasHeader(o.headers, "Content-Type") {
		req.Header = append([]string{"Content-Type: application/json"}, o.headers...)
	}
	if req.Body == nil {
		req.Body = strings.NewReader("") // a length is always sent
	}
	client := client.Client{Socket: o.socket, HTTP10: true, Connect: o.connect, Timeout: o.total}
	if o.verbose {
		client.Trace = func(line string) { fmt.Fprintln(stderr, line) }
	}
	resp, err := client.Do(ctx, req)
	if err != nil {
		return err
	}
	defer resp.Close()
	return o.print(resp, stdout)
}

func hasHeader(headers []string, name string) bool {
	for _, h := range headers {
		if k, _, ok := strings.Cut(h, ":"); ok && strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

// body sets the request's body from --data TEXT, --data @FILE or -T FILE, "-" being
// standard input.
func (o *options) body(req *client.Request, stdin io.Reader) (closeBody func(), err error) {
	none := func() {}
	file := o.upload
	if o.data != nil {
		name, isFile := strings.CutPrefix(*o.data, "@")
		if !isFile {
			req.Body, req.Size = strings.NewReader(*o.data), int64(len(*o.data))
			return none, nil
		}
		file = name
	}
	switch file {
	case "":
		return none, nil
	case "-":
		text, err := bounded.Read(stdin, maxStdin)
		if err != nil {
			return none, fmt.Errorf("reading standard input: %w", err)
		}
		req.Body, req.Size = strings.NewReader(string(text)), int64(len(text))
		return none, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return none, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return none, err
	}
	req.Body, req.Size = f, st.Size()
	return func() { _ = f.Close() }, nil
}

func (o *options) print(resp *client.Response, stdout io.Writer) error {
	if err := o.save(resp, stdout); err != nil {
		return err
	}
	_, err := io.WriteString(stdout, expand(o.write, resp.Status))
	return err
}

// save writes the answer to the file of -o, or to standard output.
func (o *options) save(resp *client.Response, stdout io.Writer) error {
	if o.output == "" {
		return o.copy(stdout, resp)
	}
	f, err := os.Create(o.output)
	if err != nil {
		return err
	}
	return errors.Join(o.copy(f, resp), f.Close())
}

func (o *options) copy(out io.Writer, resp *client.Response) error {
	if o.include {
		head := strings.ReplaceAll(resp.Head, "\n", "\r\n")
		if _, err := io.WriteString(out, head+"\r\n"); err != nil {
			return err
		}
	}
	if _, err := io.Copy(out, resp); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// expand writes -w's format: the status and the usual escapes.
func expand(format string, status int) string {
	code := fmt.Sprintf("%03d", status)
	return strings.NewReplacer("%{http_code}", code, "%{response_code}", code, "%%", "%", `\n`, "\n", `\r`, "\r", `\t`, "\t").Replace(format)
}
