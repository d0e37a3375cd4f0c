package pvcontrol

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// sbomExamples follow the help of the command.
const sbomExamples = `
  pvcontrol sbom > device.spdx.json       what the running revision is made of, as SPDX 2.3
  pvcontrol sbom web                      what the container web is made of
  pvcontrol sbom --revision=locals/next   the same for another revision on the device
`

// showSBOM prints the bill of materials of a revision, or of one of its containers.
func showSBOM(t *tool, args []string) error {
	path, part := "/sbom", ""
	for i := 0; i < len(args); i++ {
		rev, isRevision := strings.CutPrefix(args[i], "--revision")
		switch {
		case isRevision && rev == "" && i+1 < len(args):
			i++
			rev = "=" + args[i]
			fallthrough
		case isRevision && len(rev) > 1 && rev[0] == '=':
			path = "/steps/" + rev[1:] + "/sbom"
		case strings.HasPrefix(args[i], "-") || part != "" || args[i] == "":
			return fmt.Errorf("%w: pvcontrol sbom [CONTAINER] [--revision=REVISION]", errUsage)
		default:
			part = args[i]
		}
	}
	if part != "" {
		path += "/" + url.PathEscape(part)
	}
	resp, err := t.client.Ask(t.ctx, &client.Request{Path: path})
	if err != nil {
		return err
	}
	defer resp.Close()
	return t.output(resp, true)
}
