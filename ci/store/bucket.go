package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Settings of S3 in the environment, those of Amazon's own programs.
const (
	envKey      = "AWS_ACCESS_KEY_ID"
	envSecret   = "AWS_SECRET_ACCESS_KEY"
	envToken    = "AWS_SESSION_TOKEN"
	envProfile  = "AWS_PROFILE"
	envFile     = "AWS_SHARED_CREDENTIALS_FILE"
	envRegion   = "AWS_REGION"
	envRegion2  = "AWS_DEFAULT_REGION"
	envServer   = "AWS_ENDPOINT_URL_S3"
	envServer2  = "AWS_ENDPOINT_URL"
	envBundle   = "AWS_CA_BUNDLE"
	envNoRoles  = "AWS_EC2_METADATA_DISABLED"
	amazon      = "s3.amazonaws.com"
	amazonFirst = "us-east-1"
)

// partSize is the size from which a file is uploaded in parts, and that of a part, in bytes.
const partSize = 64 << 20

// metaSHA256 is the metadata of an uploaded file with its SHA-256.
const metaSHA256 = "Sha256"

// bucket is a backend. The version of a file is its ETag.
type bucket struct {
	client *minio.Client
	server *url.URL // of a server other than Amazon's
	region string
	name   string
	prefix string // "" or with a '/' at the end

	mu          sync.Mutex
	conditional bool // the server observes conditions
}

var _ backend = (*bucket)(nil)

// settings returns the first of variables that has a value.
type settings []string

func (s settings) first(names ...string) string {
	for _, name := range names {
		for _, v := range slices.Backward(s) {
			if value, ok := strings.CutPrefix(v, name+"="); ok && value != "" {
				return value
			}
		}
	}
	return ""
}

// openBucket opens BUCKET/PREFIX. Nothing is sent yet.
func openBucket(place string, env settings) (*bucket, error) {
	name, prefix, _ := strings.Cut(place, "/")
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		if err := checkName(prefix); err != nil {
			return nil, err
		}
		prefix += "/"
	}
	// Asking the server for the region needs a right that a pipeline may lack.
	b := &bucket{name: name, prefix: prefix, region: cmp.Or(env.first(envRegion, envRegion2), amazonFirst)}
	var err error
	if b.server, err = env.server(); err != nil {
		return nil, err
	}
	host, o := amazon, &minio.Options{Secure: true, Region: b.region, MaxRetries: 4}
	if b.server != nil {
		host, o.Secure, o.BucketLookup = b.server.Host, b.server.Scheme == "https", minio.BucketLookupPath
	}
	if o.Creds, err = env.credentials(); err != nil {
		return nil, err
	}
	if o.Transport, err = env.transport(o.Secure); err != nil {
		return nil, err
	}
	b.client, err = minio.New(host, o)
	return b, fault.Wrap(fault.BadInput, err, "reading the settings of S3")
}

// server returns the address of a server other than Amazon's, or nil.
func (s settings) server() (*url.URL, error) {
	text := s.first(envServer, envServer2)
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return nil, fault.New(fault.BadInput, "%s or %s must be the address of a server, https://HOST[:PORT]", envServer, envServer2)
	}
	return u, nil
}

// transport returns the client of HTTP, which may trust other certificates than those of the machine.
func (s settings) transport(secure bool) (*http.Transport, error) {
	t, err := minio.DefaultTransport(secure)
	if file := s.first(envBundle); err == nil && file != "" {
		if t.TLSClientConfig, err = trusting(file); err != nil {
			return nil, fault.New(fault.BadInput, "%s: %w", envBundle, err)
		}
	}
	return t, err
}

// credentials returns those of the environment, of the file of credentials, or of the role of the
// machine.
func (s settings) credentials() (*credentials.Credentials, error) {
	key, secret := s.first(envKey), s.first(envSecret)
	if (key == "") != (secret == "") {
		return nil, fault.New(fault.BadInput, "%s and %s must be set both, or none", envKey, envSecret)
	}
	if key != "" {
		return credentials.NewStaticV4(key, secret, s.first(envToken)), nil
	}
	chain := []credentials.Provider{&credentials.FileAWSCredentials{Filename: s.first(envFile), Profile: s.first(envProfile)}}
	if s.first(envNoRoles) != "true" {
		// A machine without a role must not wait long for a service that is not there.
		dial := &net.Dialer{Timeout: time.Second}
		chain = append(chain, &credentials.IAM{Client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dial.DialContext}}})
	}
	return credentials.NewChainCredentials(chain), nil
}

// maxBundle bounds a file of certificates, in bytes.
const maxBundle = 16 << 20

// trusting trusts the certificates of a file.
func trusting(file string) (*tls.Config, error) {
	text, err := bounded.ReadRegular(file, maxBundle)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fault.New(fault.BadInput, "%s has no certificate in PEM", file)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// base is the address of the files.
func (b *bucket) base() string {
	base := "https://" + b.name + ".s3." + b.region + ".amazonaws.com"
	if b.server != nil {
		base = b.server.Scheme + "://" + b.server.Host + "/" + b.name
	}
	return strings.TrimSuffix(base+"/"+escape(b.prefix), "/")
}

// escape escapes a name for an address.
func escape(name string) string { return (&url.URL{Path: name}).EscapedPath() }

func (b *bucket) open(ctx context.Context, name string) (*Object, error) {
	o, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.explain(err)
	}
	info, err := o.Stat()
	if err != nil {
		return nil, errors.Join(b.explain(err), o.Close())
	}
	return &Object{&explained{o, b}, info.Size, info.ETag}, nil
}

// explained gives errors of reading their kinds.
type explained struct {
	*minio.Object
	b *bucket
}

// Read implements io.Reader.
func (e *explained) Read(p []byte) (int, error) {
	n, err := e.Object.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = e.b.explain(err)
	}
	return n, err
}

func (b *bucket) put(ctx context.Context, name string, c content, condition string) (string, error) {
	if condition != Any {
		if err := b.checkConditional(ctx); err != nil {
			return "", err
		}
	}
	return b.send(ctx, name, c, condition)
}

func (b *bucket) send(ctx context.Context, name string, c content, condition string) (string, error) {
	o := minio.PutObjectOptions{ContentType: c.mime, PartSize: partSize}
	if c.sha256 != "" {
		o.UserMetadata = map[string]string{metaSHA256: c.sha256}
	} else {
		o.CacheControl = "no-cache" // what is not known by its digest may change
	}
	switch condition {
	case Any:
	case Absent:
		o.SetMatchETagExcept("*")
	default:
		o.SetMatchETag(condition)
	}
	info, err := b.client.PutObject(ctx, b.name, b.prefix+name, c, c.size, o)
	if err != nil {
		if condition != Any && condition != Absent && code(err) == minio.NoSuchKey {
			return "", changed() // it was removed
		}
		return "", b.explain(err)
	}
	return info.ETag, nil
}

// probeName is the file with which a server shows whether it observes conditions.
const probeName = ".pvci-conditional"

// checkConditional returns an error for a server that ignores the conditions of requests, as old ones
// do: with it the work of another pipeline would be lost without a word.
func (b *bucket) checkConditional(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for try := 0; !b.conditional; try++ {
		_, err := b.send(ctx, probeName, content{ReadSeeker: strings.NewReader("pvci\n"), size: 5, mime: MIMEType(".txt")}, Absent)
		b.conditional = errors.Is(err, errChanged)
		if err != nil && !b.conditional {
			return fault.Wrap(fault.IO, err, "asking whether the server observes conditions")
		}
		if err == nil && try > 0 { // the first one may have made the file
			return fault.New(fault.Unsupported, "the server ignores the condition If-None-Match of a request: two pipelines would overwrite each other's work; use a server that observes it")
		}
	}
	return nil
}

func (b *bucket) digest(ctx context.Context, name string) (string, error) {
	info, err := b.client.StatObject(ctx, b.name, b.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return "", b.explain(err)
	}
	return info.UserMetadata[metaSHA256], nil
}

func (b *bucket) list(ctx context.Context, prefix string) ([]Entry, error) {
	ctx, stop := context.WithCancel(ctx) // ends the listing when this returns early
	defer stop()
	var out []Entry
	for o := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, b.explain(o.Err)
		}
		name := strings.TrimPrefix(o.Key, b.prefix)
		if checkName(name) == nil { // others are not ours
			out = append(out, Entry{name, o.Size})
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (b *bucket) remove(ctx context.Context, name string) error {
	err := b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{})
	if err = b.explain(err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// code is the server's word for an error, "" for an error that no server sent.
func code(err error) string { return minio.ToErrorResponse(err).Code }

// explain gives an error of the client its kind, and says what mends it.
func (b *bucket) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	r := minio.ToErrorResponse(err)
	switch r.Code {
	case minio.NoSuchKey, "NotFound":
		return missing()
	case minio.NoSuchBucket:
		return fault.New(fault.Missing, "the bucket %s does not exist: %w", b.name, err)
	case minio.PreconditionFailed, "ConditionalRequestConflict":
		return changed()
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired":
		return fault.New(fault.BadInput, "the server rejects it (%s): check %s and %s, and the rights of this user", r.Code, envKey, envSecret)
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect":
		return fault.New(fault.BadInput, "the bucket %s is in another region: set %s: %w", b.name, envRegion, err)
	case minio.NotImplemented:
		return fault.New(fault.Unsupported, "the server does not support it: %w", err)
	}
	switch {
	case r.StatusCode == http.StatusNotFound:
		return missing()
	case r.StatusCode == http.StatusForbidden:
		return fault.New(fault.BadInput, "the server rejects it: check %s and %s, and the rights of this user", envKey, envSecret)
	case strings.Contains(err.Error(), "Access Key") || strings.Contains(err.Error(), "IAM"):
		return fault.New(fault.BadInput, "no credentials for S3 were found: set %s and %s: %w", envKey, envSecret, err)
	}
	return fault.New(fault.Unreachable, "%w", err)
}
