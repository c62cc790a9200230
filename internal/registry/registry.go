// Package registry talks to image registries: which hosts an image is asked
// from, over what transport, with whose credentials. Both ends of a build use
// it, so that a base image and a push to the same host are treated alike.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Options say how registries are reached. Mirrors, Maps and NoFallback mean
// what kaniko's --registry-mirror, --registry-map and
// --skip-default-registry-fallback mean
// (https://github.com/osscontainertools/kaniko#flag---registry-mirror): they
// apply to pulls only.
type Options struct {
	Mirrors       []string // "host[:port][/prefix]", asked in this order for images of Docker Hub
	Maps          []string // "registry=host[:port][/prefix]", several separated by ";"; before the mirrors
	NoFallback    bool     // a registry that has a map or a mirror is never asked itself
	Insecure      []string // "host[:port]" reached over plain HTTP
	SkipTLSVerify []string // "host[:port]" whose certificate is not checked
	Certificates  Certificates
	Keychain      authn.Keychain
	Retries       int // of a request that failed for a reason that may pass; each waits three times as long as the one before, the first a second
}

// maxRetries is where the last wait is an hour.
const maxRetries = 8

// CheckRetries refuses a number of retries that makes no sense.
func CheckRetries(retries int) error {
	if retries < 0 || retries > maxRetries {
		return fmt.Errorf("%d is no number from 0 to %d", retries, maxRetries)
	}
	return nil
}

// Client asks and fills registries.
type Client struct {
	keychain   authn.Keychain
	places     map[string][]place // by the registry's name in a reference
	noFallback bool
	insecure   []string
	transports map[string]http.RoundTripper // by host, where it is not the default
	retries    int

	mu      sync.Mutex
	pullers map[string]*remote.Puller // by host
}

// place is where a map or a mirror sends the requests for a registry.
type place struct{ host, prefix string }

// New is a client for o, or an error that names the option that does not parse.
func New(o Options) (*Client, error) {
	c := &Client{
		keychain:   o.Keychain,
		places:     map[string][]place{},
		pullers:    map[string]*remote.Puller{},
		noFallback: o.NoFallback,
		insecure:   o.Insecure,
		retries:    o.Retries,
	}
	if c.keychain == nil {
		c.keychain = authn.NewMultiKeychain()
	}
	for _, entry := range o.Maps {
		for _, one := range strings.Split(entry, ";") {
			from, to, ok := strings.Cut(one, "=")
			if !ok || from == "" {
				return nil, fmt.Errorf("registry-maps: %q is not REGISTRY=HOST[/PREFIX]", one)
			}
			if err := c.redirect(from, to); err != nil {
				return nil, fmt.Errorf("registry-maps: %q: %w", one, err)
			}
		}
	}
	for _, mirror := range o.Mirrors {
		if err := c.redirect(name.DefaultRegistry, mirror); err != nil {
			return nil, fmt.Errorf("registry-mirrors: %q: %w", mirror, err)
		}
	}
	for option, hosts := range map[string][]string{"insecure-registries": o.Insecure, "skip-tls-verify-registries": o.SkipTLSVerify} {
		for _, host := range hosts {
			if _, err := name.NewRegistry(host); err != nil {
				return nil, fmt.Errorf("%s: %q is not HOST[:PORT]", option, host)
			}
		}
	}
	var err error
	if c.transports, err = o.transports(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Client) redirect(from, to string) error {
	registry, err := name.NewRegistry(from)
	if err != nil {
		return err
	}
	host, prefix, _ := strings.Cut(to, "/")
	if _, err := name.NewRegistry(host); err != nil || host == "" || strings.Contains(to, "://") {
		return fmt.Errorf("%q is not HOST[:PORT][/PREFIX]", to)
	}
	key := registry.RegistryStr()
	c.places[key] = append(c.places[key], place{host, strings.Trim(prefix, "/")})
	return nil
}

// Image finds an image for platform: at the places its registry is mapped to,
// in order, then at the registry itself. The image's digest is the platform's
// own manifest's, never an index's. Its layers are read when they are asked
// for, until ctx ends. The error names every place that was asked.
func (c *Client) Image(ctx context.Context, image string, platform v1.Platform) (v1.Image, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return nil, err
	}
	refs, err := c.sources(ref)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, source := range refs {
		var img v1.Image
		err := c.pull(ctx, source, func(options ...remote.Option) (err error) {
			img, err = remote.Image(source, append(options, remote.WithPlatform(platform))...)
			return err
		})
		if err == nil {
			return img, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failures = append(failures, explain(source, "pull", err))
	}
	return nil, joined(failures)
}

// sources are the references to ask for ref, in order.
func (c *Client) sources(ref name.Reference) ([]name.Reference, error) {
	var refs []name.Reference
	repository := ref.Context()
	places := c.places[repository.RegistryStr()]
	for _, p := range places {
		path := repository.RepositoryStr()
		if p.prefix != "" {
			path = p.prefix + "/" + path
		}
		source, err := c.reference(p.host, path, ref)
		if err != nil {
			return nil, err
		}
		refs = append(refs, source)
	}
	if len(places) == 0 || !c.noFallback {
		source, err := c.reference(repository.RegistryStr(), repository.RepositoryStr(), ref)
		if err != nil {
			return nil, err
		}
		refs = append(refs, source)
	}
	return refs, nil
}

// reference is ref's tag or digest in a repository at host.
func (c *Client) reference(host, path string, ref name.Reference) (name.Reference, error) {
	var options []name.Option
	if slices.Contains(c.insecure, host) {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host, options...)
	if err != nil {
		return nil, err
	}
	repository := registry.Repo(path)
	if digest, ok := ref.(name.Digest); ok {
		return repository.Digest(digest.DigestStr()), nil
	}
	return repository.Tag(ref.Identifier()), nil
}

// Push writes img to tag and all it needs before it: when Push has returned
// without an error, the registry serves the image under tag. Failures that may
// pass are tried again, for about half a minute. Progress arrives on updates,
// which is closed at the end; updates may be nil.
func (c *Client) Push(ctx context.Context, tag name.Tag, img v1.Image, updates chan<- v1.Update) error {
	ref, err := c.reference(tag.RegistryStr(), tag.RepositoryStr(), tag)
	if err != nil {
		if updates != nil {
			close(updates)
		}
		return err
	}
	options := c.remoteOptions(ctx, ref)
	if updates != nil {
		options = append(options, remote.WithProgress(updates))
	}
	if err := remote.Write(ref, img, options...); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return explain(ref, "push", err)
	}
	return nil
}

// pull has request ask ref's registry with what the registry has granted before:
// each grant takes two requests more. After a failure the next asks anew.
func (c *Client) pull(ctx context.Context, ref name.Reference, request func(...remote.Option) error) error {
	host := ref.Context().RegistryStr()
	options := c.remoteOptions(ctx, ref)
	for again := false; ; again = true {
		puller, err := c.puller(host, options)
		if err != nil {
			return err
		}
		err = request(append(options, remote.Reuse(puller))...)
		if err == nil || absent(err) {
			return err
		}
		c.forget(host, puller)
		if again || ctx.Err() != nil || !errors.Is(err, context.Canceled) {
			return err
		}
		// It was another's request that asked for the grant, and was ended.
	}
}

func (c *Client) puller(host string, options []remote.Option) (*remote.Puller, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if puller := c.pullers[host]; puller != nil {
		return puller, nil
	}
	puller, err := remote.NewPuller(options...)
	if err == nil {
		c.pullers[host] = puller
	}
	return puller, err
}

func (c *Client) forget(host string, puller *remote.Puller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pullers[host] == puller {
		delete(c.pullers, host)
	}
}

func (c *Client) remoteOptions(ctx context.Context, ref name.Reference) []remote.Option {
	transport := c.transports[ref.Context().RegistryStr()]
	if transport == nil {
		transport = remote.DefaultTransport
	}
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(c.keychain),
		remote.WithTransport(transport),
		remote.WithUserAgent("slipway"),
		remote.WithRetryBackoff(remote.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: c.retries + 1}),
	}
}
