package devices

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Environment variables of the deploy project (manual: Update CI Reference). The API's address is
// GitLab's own variable.
const (
	envDeployProject = "DEPLOY_TRIGGER_PROJECT"
	envDeployToken   = "DEPLOY_TRIGGER_TOKEN"
	envDeployRef     = "DEPLOY_TRIGGER_REF"
	envAPI           = "CI_API_V4_URL"
)

const (
	publicAPI  = "https://gitlab.com/api/v4"
	defaultRef = "main"
)

// trigger is a request for a pipeline of another project (GitLab: Pipeline trigger tokens API).
type trigger struct {
	address string
	form    url.Values
}

// deployment returns what triggers the deploy project, nil when none is set or the tag is not a
// stable one.
func (p *promotion) deployment() (*trigger, error) {
	project, token := p.env.get(envDeployProject), p.env.get(envDeployToken)
	switch {
	case project == "" && token == "":
		return nil, nil
	case project == "":
		return nil, fault.New(fault.BadInput, "the variable %s is set, and %s is not", envDeployToken, envDeployProject)
	case token == "":
		return nil, fault.New(fault.BadInput, "the variable %s is set, and %s is not", envDeployProject, envDeployToken)
	case channel(p.tag, "") != channelStable:
		return nil, nil
	}
	api := p.env.get(envAPI)
	if api == "" {
		api = publicAPI
	}
	ref := p.env.get(envDeployRef)
	if ref == "" {
		ref = defaultRef
	}
	u, err := url.Parse(api)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fault.New(fault.BadInput, "%s is not the address of an API: https://HOST/api/v4 is expected", envAPI)
	}
	u.RawPath = strings.TrimSuffix(u.EscapedPath(), "/") + "/projects/" + url.PathEscape(project) + "/trigger/pipeline"
	u.Path = strings.TrimSuffix(u.Path, "/") + "/projects/" + project + "/trigger/pipeline"
	form := url.Values{"token": {token}, "ref": {ref}, "variables[PROMOTED_TAG]": {p.tag}}
	if from := p.env.get("CI_PROJECT_PATH"); from != "" {
		form.Set("variables[PROMOTED_PROJECT]", from)
	}
	return &trigger{u.String(), form}, nil
}

// deployTimeout bounds the answer to a trigger.
const deployTimeout = time.Minute

// deploy triggers the deploy project and returns the address of its pipeline.
func (p *promotion) deploy(ctx context.Context, t *trigger) (string, error) {
	project := p.env.get(envDeployProject)
	if p.DryRun {
		p.say("would trigger the project %s", project)
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, deployTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.address, strings.NewReader(t.form.Encode()))
	if err != nil {
		return "", fault.Wrap(fault.BadInput, err, "triggering the project %s", project)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := p.places.web.Do(req)
	if err != nil {
		return "", fault.Wrap(fault.Unreachable, err, "triggering the project %s", project)
	}
	body, err := bounded.Read(resp.Body, maxPEM)
	if err := errors.Join(err, resp.Body.Close()); err != nil && !errors.Is(err, io.EOF) {
		return "", fault.Wrap(fault.Unreachable, err, "triggering the project %s", project)
	}
	var answer struct {
		Web string `json:"web_url"`
	}
	switch {
	case resp.StatusCode == http.StatusCreated && json.Unmarshal(body, &answer) == nil:
		p.say("triggered the project %s: %s", project, answer.Web)
		return answer.Web, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return "", fault.New(fault.BadInput, "triggering the project %s: the server answers %s: %s or %s is wrong", project, resp.Status, envDeployProject, envDeployToken)
	case resp.StatusCode == http.StatusBadRequest:
		return "", fault.New(fault.BadInput, "triggering the project %s: the server answers %s: it may have no branch %s, which %s names", project, resp.Status, t.form.Get("ref"), envDeployRef)
	}
	return "", fault.New(fault.Unreachable, "triggering the project %s: the server answers %s", project, resp.Status)
}
