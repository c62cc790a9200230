package modules

import (
	"context"
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

// download takes name from the first proxy that has it, and puts it in file
// once it is checked. As GOPROXY has it, the next proxy is asked where one says
// 404 or 410; after a "|" also where it fails.
func (f *Fetcher) download(ctx context.Context, name, file string, limit int64, check func(string) error) (int64, error) {
	last := step.BadInput(errors.New("there is no proxy to fetch it from; set the param go-private-proxy to the URL of one"))
	rest := f.Proxies
	for rest != "" {
		at := strings.IndexAny(rest, ",|")
		proxy, next, anyError := rest, "", false
		if at >= 0 {
			proxy, next, anyError = rest[:at], rest[at+1:], rest[at] == '|'
		}
		rest = next
		if proxy = strings.TrimSpace(proxy); !strings.Contains(proxy, "://") {
			continue
		}
		n, err := f.try(ctx, strings.TrimSuffix(proxy, "/")+"/"+name, file, limit, check)
		if err == nil || ctx.Err() != nil {
			return n, err
		}
		last = err
		if !anyError && !errors.Is(err, errAbsent) {
			break
		}
	}
	return 0, last
}

// errAbsent is a proxy's answer that it has no such module.
var errAbsent = errors.New("the proxy has no such module or version")

// errPassing is a failure that may pass.
type errPassing struct{ error }

func (f *Fetcher) try(ctx context.Context, address, file string, limit int64, check func(string) error) (int64, error) {
	for attempt := 1; ; attempt++ {
		n, err := f.get(ctx, address, file, limit, check)
		if passing := (errPassing{}); !errors.As(err, &passing) || attempt == attempts {
			return n, err
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func (f *Fetcher) get(ctx context.Context, address, file string, limit int64, check func(string) error) (n int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, step.BadInput(err)
	}
	host := request.URL.Hostname()
	login, known := f.Netrc[host]
	if known {
		request.SetBasicAuth(login.Name, login.Password)
	}
	response, err := f.Client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return 0, errPassing{fmt.Errorf("%s: %w", request.URL.Redacted(), err)}
	}
	defer response.Body.Close()
	if err := refused(response, host, known); err != nil {
		return 0, fmt.Errorf("%s: %s: %w", request.URL.Redacted(), response.Status, err)
	}

	temporary, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".tmp-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(temporary.Name())
	n, err = io.Copy(temporary, io.LimitReader(response.Body, limit+1))
	if closeErr := temporary.Close(); err != nil || closeErr != nil {
		return 0, errPassing{fmt.Errorf("%s: %w", request.URL.Redacted(), errors.Join(err, closeErr))}
	}
	if n > limit {
		return 0, step.BadInput(fmt.Errorf("%s is larger than %d bytes", request.URL.Redacted(), limit))
	}
	if err := check(temporary.Name()); err != nil {
		return 0, step.BadInput(fmt.Errorf("%s: %w", request.URL.Redacted(), err))
	}
	if err := os.Chmod(temporary.Name(), 0o644); err != nil {
		return 0, err
	}
	return n, os.Rename(temporary.Name(), file)
}

// refused says what an answer other than 200 means.
func refused(response *http.Response, host string, known bool) error {
	switch code := response.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound || code == http.StatusGone:
		return step.BadInput(errAbsent)
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		if known {
			return step.BadInput(fmt.Errorf("the login that the workspace netrc has for %s may not read it", host))
		}
		return step.BadInput(fmt.Errorf("bind the workspace netrc to a secret whose key .netrc has a line for machine %s", host))
	case code >= http.StatusInternalServerError || code == http.StatusTooManyRequests:
		return errPassing{errors.New("the proxy fails; look at its log")}
	default:
		return errors.New("the proxy does not answer as a module proxy")
	}
}
