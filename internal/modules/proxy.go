package modules

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/internal/step"
)

const (
	attempts = 3
	pause    = 500 * time.Millisecond // between them
)

// wanted is a file of a module.
type wanted struct {
	module    Module
	name      string // at a proxy, but for the extension
	extension string
	file      string // where it is to be
	limit     int64  // of its size, in bytes
	check     func(file string) error
}

// download takes a file from the first source that has it. As GOPROXY has it,
// the next is asked where a proxy says 404 or 410, or where there is no such
// repository or version; after a "|" also where one fails.
func (f *Fetcher) download(ctx context.Context, w wanted, repositories *repositories) (int64, error) {
	last := step.BadInput(errors.New("there is no proxy to fetch it from; set the param go-private-proxy to the URL of one, or to direct"))
	rest := f.Proxies
	for rest != "" {
		at := strings.IndexAny(rest, ",|")
		source, next, anyError := rest, "", false
		if at >= 0 {
			source, next, anyError = rest[:at], rest[at+1:], rest[at] == '|'
		}
		rest = next
		get := repositories.get
		switch source = strings.TrimSpace(source); {
		case source == "off":
			return 0, last
		case strings.Contains(source, "://"):
			get = func(ctx context.Context, w wanted) (int64, error) {
				return f.get(ctx, strings.TrimSuffix(source, "/")+"/"+w.name+w.extension, w)
			}
		case source != "direct" || f.Direct == nil:
			continue
		}
		var n int64
		err := try(ctx, func() (err error) {
			n, err = get(ctx, w)
			return err
		})
		if err == nil || ctx.Err() != nil {
			return n, err
		}
		last = err
		if !anyError && !errors.As(err, new(errAbsent)) {
			break
		}
	}
	return 0, last
}

// errAbsent is an answer that there is no such module or version.
type errAbsent struct{ error }

// errPassing is a failure that may pass.
type errPassing struct{ error }

// passing is an error of a network, which may pass, but for what does not.
func passing(err error) error {
	if errors.As(err, new(*tls.CertificateVerificationError)) {
		return step.BadInput(fmt.Errorf("%w; who signed it must be in /etc/ssl/certs of the image of the step prepare", err))
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return step.BadInput(fmt.Errorf("its answer is larger than %d bytes", tooLarge.Limit))
	}
	return errPassing{err}
}

// try repeats what a network may get wrong.
func try(ctx context.Context, do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		if !errors.As(err, new(errPassing)) || attempt == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// get takes a file from a proxy.
func (f *Fetcher) get(ctx context.Context, address string, w wanted) (int64, error) {
	asked, err := url.Parse(address)
	if err != nil {
		return 0, step.BadInput(err)
	}
	response, err := f.ask(ctx, asked, f.proxyLogin)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if err := f.refused(response); err != nil {
		return 0, fmt.Errorf("%s: %s: %w", asked.Redacted(), response.Status, err)
	}
	n, err := w.keep(func(file *os.File) error {
		if _, err := io.Copy(file, io.LimitReader(response.Body, w.limit+1)); err != nil {
			return errPassing{err}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", asked.Redacted(), err)
	}
	return n, nil
}

// keep writes a file beside its place, checks it, and puts it there.
func (w wanted) keep(write func(file *os.File) error) (int64, error) {
	temporary, err := os.CreateTemp(filepath.Dir(w.file), filepath.Base(w.file)+".tmp-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(temporary.Name())
	err = write(temporary)
	info, statErr := temporary.Stat()
	if err := errors.Join(err, statErr, temporary.Close()); err != nil {
		return 0, err
	}
	if info.Size() > w.limit {
		return 0, step.BadInput(fmt.Errorf("its %s is larger than %d bytes", w.extension, w.limit))
	}
	if err := w.check(temporary.Name()); err != nil {
		return 0, step.BadInput(err)
	}
	if err := os.Chmod(temporary.Name(), 0o644); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(temporary.Name(), w.file)
}

// logins is a way to find the login for a URL, and the workspace that has it: ""
// where none has.
type logins func(address *url.URL) (login Login, workspace string)

// ask sends a request, with the login of its host that logins has, if that is
// not nil.
func (f *Fetcher) ask(ctx context.Context, address *url.URL, logins logins) (*http.Response, error) {
	request := (&http.Request{Method: http.MethodGet, URL: address, Header: http.Header{}}).WithContext(ctx)
	client := *f.Client
	client.CheckRedirect = notDown
	if logins != nil {
		logins.logIn(request)
		client.CheckRedirect = logins.redirected
	}
	response, err := client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, passing(fmt.Errorf("%s: %w", address.Redacted(), err))
	}
	return response, nil
}

// redirected has each host on the way get its own login and no other's: Go's
// client hands them on to subdomains, other ports and plain http.
func (l logins) redirected(request *http.Request, via []*http.Request) error {
	request.Header.Del("Authorization")
	// A login goes in the clear only to whom a param names.
	if request.URL.Scheme == "https" || request.URL.Host == via[0].URL.Host {
		l.logIn(request)
	}
	return notDown(request, via)
}

// notDown follows redirects, but for those to what is less safe.
func notDown(request *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("it redirects more than ten times")
	}
	if last := via[len(via)-1].URL; last.Scheme == "https" && request.URL.Scheme != "https" {
		return fmt.Errorf("it redirects from https to %s", request.URL.Redacted())
	}
	return nil
}

func (l logins) logIn(request *http.Request) {
	if login, workspace := l(request.URL); workspace != "" {
		request.SetBasicAuth(login.Name, login.Password)
	}
}

// gitLogin is that for a git host.
func (f *Fetcher) gitLogin(address *url.URL) (login Login, workspace string) {
	if user := f.Direct.Credentials.Of(address); user != nil {
		password, _ := user.Password()
		return Login{user.Username(), password}, gitCredentials
	}
	return f.proxyLogin(address)
}

// proxyLogin is that for a module proxy.
func (f *Fetcher) proxyLogin(address *url.URL) (login Login, workspace string) {
	if login, known := f.Netrc[address.Hostname()]; known {
		return login, "netrc"
	}
	return Login{}, ""
}

// refused says what a proxy's answer other than 200 means.
func (f *Fetcher) refused(response *http.Response) error {
	switch code := response.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound || code == http.StatusGone:
		return step.BadInput(errAbsent{errors.New("the proxy has no such module or version")})
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		host := response.Request.URL.Hostname()
		if _, workspace := f.proxyLogin(response.Request.URL); workspace != "" {
			return step.BadInput(fmt.Errorf("the login that the workspace %s has for %s may not read it", workspace, host))
		}
		return step.BadInput(fmt.Errorf("bind the workspace netrc to a secret whose key .netrc has a line for machine %s", host))
	case code >= http.StatusInternalServerError || code == http.StatusTooManyRequests:
		return errPassing{errors.New("the proxy fails; look at its log")}
	default:
		return errors.New("the proxy does not answer as a module proxy")
	}
}
