// Package comment keeps comments in merge requests of GitLab and pull requests of GitHub: one for each
// name, which a later pipeline replaces. It speaks their APIs (docs.gitlab.com, "Notes API";
// docs.github.com, "REST API endpoints for issue comments").
package comment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Options say which comment is kept.
type Options struct {
	// Name is what a later comment replaces this one by.
	Name string
	// Text is Markdown. What is longer than systems take is cut.
	Text string
	// Getenv has the variables of the pipeline.
	Getenv func(string) string
	// Client does the requests. Default: one with a time limit.
	Client *http.Client
}

// longest is the size of a comment that GitHub takes, in characters; GitLab takes more.
const longest = 65000

var (
	nameForm       = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	repositoryForm = regexp.MustCompile(`^[A-Za-z0-9-]+/[A-Za-z0-9._-]*[A-Za-z0-9_-]$`)
)

// None says why there is nothing to comment on, or nothing to do it with.
type None struct{ Why string }

// Error implements error.
func (n *None) Error() string { return n.Why }

// Keep adds the comment, or replaces the one with its name, and returns its URL. The error is a [*None]
// outside of merge requests and without a token.
func Keep(ctx context.Context, o Options) (string, error) {
	if !nameForm.MatchString(o.Name) {
		return "", fault.New(fault.BadInput, "%q is not a valid name of a comment: want lower-case letters, digits, and . _ - between them", o.Name)
	}
	t, err := find(o.Getenv)
	if err != nil {
		return "", err
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: time.Minute}
	}
	client := *o.Client
	client.CheckRedirect = sameServer
	mark := fmt.Sprintf("<!-- pvci %s -->", o.Name)
	text := mark + "\n" + cut(o.Text)
	where, err := t.keep(ctx, &client, mark, text)
	if t.fork && errors.Is(err, errForbidden) {
		return "", &None{t.title + " is of a fork: its pipeline may not comment"}
	}
	return where, fault.Wrap(fault.Unreachable, err, "commenting on %s (the token is that of %s)", t.title, t.tokenName)
}

// sameServer rejects redirections to another server, which would get the token: net/http knows that the header
// Authorization is secret, not that PRIVATE-TOKEN is.
func sameServer(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != via[0].URL.Scheme || req.URL.Host != via[0].URL.Host || len(via) >= maxRedirects {
		return http.ErrUseLastResponse // whose status is the error
	}
	return nil
}

// maxRedirects bounds redirections of a request.
const maxRedirects = 5

// cut shortens a text at the end of a line.
func cut(text string) string {
	if len(text) <= longest {
		return text
	}
	text = text[:longest]
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	}
	return strings.ToValidUTF8(text, "") + "\n\n(The rest is in the files of the job.)\n"
}

// thread is the comments of a merge request in one of the APIs.
type thread struct {
	title     string // for messages
	comments  string // URL of the comments
	edit      func(id int64) string
	method    string // for changes
	header    [2]string
	tokenName string
	fork      bool // the branch is in another repository, whose pipelines have a token that only reads
}

// errForbidden is the error for a token that may not comment.
var errForbidden = errors.New("the token may not do this")

// find returns the merge request that the pipeline is of.
func find(getenv func(string) string) (*thread, error) {
	switch "true" {
	case getenv("GITLAB_CI"):
		return ofGitLab(getenv)
	case getenv("GITHUB_ACTIONS"):
		return ofGitHub(getenv)
	}
	return nil, &None{"this is not a pipeline of GitLab or GitHub"}
}

func ofGitLab(getenv func(string) string) (*thread, error) {
	number := getenv("CI_MERGE_REQUEST_IID")
	if number == "" {
		return nil, &None{"the pipeline is not of a merge request"}
	}
	token := getenv("COMMENT_TOKEN")
	if token == "" {
		return nil, &None{"COMMENT_TOKEN is not set: a token of the project with the scope api, as a masked variable"}
	}
	if _, err := strconv.ParseUint(number, 10, 63); err != nil {
		return nil, fault.New(fault.BadInput, "CI_MERGE_REQUEST_IID=%q is not a number", number)
	}
	at, err := api(getenv, "CI_API_V4_URL", "projects/"+url.PathEscape(getenv("CI_PROJECT_ID"))+"/merge_requests/"+number+"/notes")
	if err != nil {
		return nil, err
	}
	return &thread{
		title: "merge request " + number, comments: at + "?per_page=100&sort=asc&order_by=created_at", method: http.MethodPut,
		edit:   func(id int64) string { return fmt.Sprintf("%s/%d", at, id) },
		header: [2]string{"PRIVATE-TOKEN", token}, tokenName: "COMMENT_TOKEN",
	}, nil
}

func ofGitHub(getenv func(string) string) (*thread, error) {
	number, from, err := pullRequest(getenv("GITHUB_EVENT_PATH"))
	if err != nil {
		return nil, err
	}
	token := getenv("GITHUB_TOKEN")
	if token == "" {
		return nil, &None{"GITHUB_TOKEN is not set: env of the step, with the permission pull-requests: write"}
	}
	repository := getenv("GITHUB_REPOSITORY")
	if !repositoryForm.MatchString(repository) {
		return nil, fault.New(fault.BadInput, "GITHUB_REPOSITORY=%q is not the name of a repository", repository)
	}
	issues, err := api(getenv, "GITHUB_API_URL", "repos/"+repository+"/issues")
	if err != nil {
		return nil, err
	}
	return &thread{
		title: fmt.Sprintf("pull request %d", number), comments: fmt.Sprintf("%s/%d/comments?per_page=100", issues, number), method: http.MethodPatch,
		edit:   func(id int64) string { return fmt.Sprintf("%s/comments/%d", issues, id) },
		header: [2]string{"Authorization", "Bearer " + token}, tokenName: "GITHUB_TOKEN", fork: from != repository,
	}, nil
}

// api returns a URL below that of an API.
func api(getenv func(string) string, variable, below string) (string, error) {
	u, err := url.Parse(getenv(variable))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fault.New(fault.BadInput, "%s is not the URL of an API", variable)
	}
	return strings.TrimSuffix(u.String(), "/") + "/" + below, nil
}

// pullRequest returns the number of the pull request that an event is of, and the repository with its branch.
func pullRequest(file string) (number int64, from string, err error) {
	if file == "" {
		return 0, "", &None{"the pipeline is not of a pull request"}
	}
	data, err := bounded.ReadRegular(file, 16<<20)
	if err != nil {
		return 0, "", fault.Wrap(fault.IO, err, "reading the event (GITHUB_EVENT_PATH)")
	}
	var event struct {
		PullRequest *struct {
			Number int64 `json:"number"`
			Head   struct {
				Repo struct {
					FullName string `json:"full_name"`
				} `json:"repo"`
			} `json:"head"`
		} `json:"pull_request"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return 0, "", fault.Wrap(fault.BadInput, err, "reading the event %s", file)
	}
	if event.PullRequest == nil {
		return 0, "", &None{"the pipeline is not of a pull request"}
	}
	return event.PullRequest.Number, event.PullRequest.Head.Repo.FullName, nil
}

// note is a comment in both APIs.
type note struct {
	ID   int64  `json:"id"`
	Body string `json:"body"`
	URL  string `json:"html_url"` // GitHub's only
}

// pages bounds how many comments are looked through: 100 a page.
const pages = 50

// keep replaces the comment that begins with the mark, or adds one.
func (t *thread) keep(ctx context.Context, c *http.Client, mark, text string) (string, error) {
	for page := 1; page <= pages; page++ {
		var list []note
		if err := t.do(ctx, c, http.MethodGet, fmt.Sprintf("%s&page=%d", t.comments, page), nil, &list); err != nil {
			return "", err
		}
		for _, n := range list {
			if !strings.HasPrefix(n.Body, mark) {
				continue
			}
			where, err := t.write(ctx, c, t.method, t.edit(n.ID), text)
			if !errors.Is(err, errForbidden) { // else somebody else has written it
				return where, err
			}
		}
		if len(list) < 100 {
			break
		}
	}
	at, _, _ := strings.Cut(t.comments, "?")
	return t.write(ctx, c, http.MethodPost, at, text)
}

func (t *thread) write(ctx context.Context, c *http.Client, method, to, text string) (string, error) {
	var done note
	if err := t.do(ctx, c, method, to, map[string]string{"body": text}, &done); err != nil {
		return "", err
	}
	if done.URL == "" {
		done.URL = fmt.Sprintf("%s, note %d", t.title, done.ID)
	}
	return done.URL, nil
}

// do is one request. Errors have the server's answer, and never the token.
func (t *thread) do(ctx context.Context, c *http.Client, method, to string, in, out any) (err error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return err
	}
	req.Header.Set(t.header[0], t.header[1])
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := bounded.Read(res.Body, 64<<20)
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, req.URL.Redacted(), err)
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return fault.New(fault.BadInput, "%s %s: %s: %w", method, req.URL.Redacted(), res.Status, errForbidden)
	case res.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %s: %.200s", method, req.URL.Redacted(), res.Status, data)
	}
	return json.Unmarshal(data, out)
}
