package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// record is a remote's record of an object.
type record struct {
	name string
	size int64 // -1 when unknown
	get  *url.URL
	put  *url.URL
	link bool // the content belongs to another owner
}

// objectType is the header that distinguishes an object from a link to one.
const objectType = "Pantahub-Object-Type"

// readRecord reads a record of an object that is expected to be sum.
func readRecord(r *reply, sum string, base *url.URL) (*record, error) {
	doc, err := canon.First(r.body)
	if err != nil {
		return nil, fmt.Errorf("reading the record of object %s: %w", sum, err)
	}
	for _, name := range []string{"sha256sum", "id"} {
		if got := textMember(doc, name); got != "" && got != sum {
			return nil, fmt.Errorf("reading the record of object %s: its %s is %.80q", sum, name, got)
		}
	}
	rec := &record{name: textMember(doc, "objectname"), size: recordSize(doc), link: r.header.Get(objectType) == "link"}
	if rec.get, err = signedURL(doc, "signed-geturl", base); err != nil {
		return nil, fmt.Errorf("reading the record of object %s: %w", sum, err)
	}
	if rec.put, err = signedURL(doc, "signed-puturl", base); err != nil {
		return nil, fmt.Errorf("reading the record of object %s: %w", sum, err)
	}
	return rec, nil
}

// recordSize reads "sizeint", or "size", which is a string.
func recordSize(doc canon.Value) int64 {
	v, _ := doc.Get("sizeint")
	if text, ok := v.Number(); ok {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			return n
		}
	}
	v, _ = doc.Get("size")
	text, ok := v.Text()
	if !ok {
		text, _ = v.Number()
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// signedURL reads a URL that must be used unchanged, because its query or path is the
// signature. It returns nil when the record has none.
func signedURL(doc canon.Value, name string, base *url.URL) (*url.URL, error) {
	v, _ := doc.Get(name)
	text, _ := v.Text()
	if text == "" {
		return nil, nil
	}
	rel, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, bareURLError(err))
	}
	u := base.ResolveReference(rel)
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s is not a URL of http or https", name)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// record asks for the location of an object's content.
func (c *Client) record(ctx context.Context, info *Info, sum, path string) (*record, error) {
	k := &call{method: http.MethodGet, url: info.objectURL(sum), auth: authRead}
	r, err := c.do(ctx, k, http.StatusOK)
	if err != nil {
		return nil, fmt.Errorf("asking for object %s (%s): %w", sum, path, err)
	}
	rec, err := readRecord(r, sum, k.url)
	if err == nil && rec.get == nil {
		err = fmt.Errorf("asking for object %s (%s): the answer has no signed-geturl", sum, path)
	}
	return rec, fault.Wrap(fault.Unreachable, err, "reading the answer of %s", shown(k.url))
}
