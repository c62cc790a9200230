package modules

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/slipway-ci/slipway/internal/step"
)

// place is where modules are whose paths begin with a prefix.
type place struct {
	prefix string
	url    *url.URL // of the repository
	folder string   // in it, "" for its root
}

// byPath are the repositories that paths tell themselves
// (cmd/go/internal/vcs/vcs.go). What is before a suffix is the URL there too:
// git hosts know a repository by both.
var byPath = []*regexp.Regexp{
	regexp.MustCompile(`^(?P<prefix>(?P<repository>(?:github\.com|bitbucket\.org)/[\w.\-]+/[\w.\-]+))(?:/[\w.\-]+)*$`),
	regexp.MustCompile(`^(?P<prefix>(?P<repository>(?:[a-z0-9.\-]+\.)+[a-z0-9.\-]+(?:/~?[\w.\-]+)+?)\.git)(?:/~?[\w.\-]+)*$`),
}

// find is https://go.dev/ref/mod#vcs-find, for git repositories. modulePath is
// one by [golang.org/x/mod/module.CheckPath]: it begins with a host.
func (f *Fetcher) find(ctx context.Context, modulePath string) (place, error) {
	scheme := "https"
	if f.Direct.PlainHTTP {
		scheme = "http"
	}
	for _, known := range byPath {
		if match := known.FindStringSubmatch(modulePath); match != nil {
			address, err := url.Parse(scheme + "://" + match[known.SubexpIndex("repository")])
			return place{prefix: match[known.SubexpIndex("prefix")], url: address}, step.BadInput(err)
		}
	}
	found, page, err := f.discover(ctx, scheme, modulePath, modulePath)
	if err != nil {
		return place{}, err
	}
	if found.prefix != modulePath {
		// A page may tell of the repositories of others: it is asked whose
		// modules they are.
		own, ownPage, err := f.discover(ctx, scheme, found.prefix, modulePath)
		if err != nil {
			return place{}, err
		}
		if own != found {
			return place{}, step.BadInput(fmt.Errorf("%s and %s disagree about the repository of %s; mend their go-import tags", page, ownPage, found.prefix))
		}
	}
	return f.place(found, page)
}

// place checks what a page says.
func (f *Fetcher) place(found goImport, page string) (place, error) {
	proxyNext := "name a module proxy that has it in the param go-private-proxy"
	switch found.vcs {
	case "git":
	case "mod":
		return place{}, step.BadInput(fmt.Errorf("%s says that the module proxy %s has it: name that in the param go-private-proxy", page, found.repository))
	default:
		return place{}, step.BadInput(fmt.Errorf("%s says that it is in a repository of %s, and only git is known here; %s", page, found.vcs, proxyNext))
	}
	address, err := url.Parse(found.repository)
	if err != nil || address.Host == "" {
		return place{}, step.BadInput(fmt.Errorf("%s has a go-import tag whose repository is no URL; %s", page, proxyNext))
	}
	if address.Scheme != "https" && (address.Scheme != "http" || !f.Direct.PlainHTTP) {
		return place{}, step.BadInput(fmt.Errorf("%s says that its repository is %s, and %s is not fetched by: give it an https URL there, or %s", page, address.Redacted(), address.Scheme, proxyNext))
	}
	if address.User != nil {
		return place{}, step.BadInput(fmt.Errorf("%s says that its repository is %s, and a login is no part of that: %s is its place", page, address.Redacted(), gitCredentials))
	}
	return place{found.prefix, address, strings.Trim(path.Clean("/"+found.folder), "/")}, nil
}

// goImport is the content of a tag <meta name="go-import">.
type goImport struct{ prefix, vcs, repository, folder string }

// discover asks the page of a path where a module is, and returns its URL too.
func (f *Fetcher) discover(ctx context.Context, scheme, pagePath, modulePath string) (goImport, string, error) {
	host, rest, _ := strings.Cut(pagePath, "/")
	page := &url.URL{Scheme: scheme, Host: host, Path: "/" + rest, RawQuery: "go-get=1"}
	defer f.Direct.tell(page, nil)()
	all, answer, err := f.read(ctx, page, f.gitLogin)
	if _, workspace := f.gitLogin(page); workspace != "" && answer != nil && len(all) == 0 && hidden(answer.code) {
		// A login for repositories need not be one for pages, which a host may
		// show to everybody: GitLab's deploy tokens.
		all, answer, err = f.read(ctx, page, nil)
	}
	if answer == nil {
		return goImport{}, "", err
	}
	var found *goImport
	for _, one := range all { // cmd/go/internal/vcs: one of a proxy goes before the others
		if one.prefix != modulePath && !strings.HasPrefix(modulePath, one.prefix+"/") {
			continue
		}
		switch {
		case found == nil || one.vcs == "mod" && found.vcs != "mod":
			found = &one
		case found.vcs != "mod" && one.vcs != "mod":
			return goImport{}, "", step.BadInput(fmt.Errorf("%s has more than one go-import tag for it", page))
		}
	}
	switch {
	case found != nil:
		return *found, page.String(), nil
	case hidden(answer.code):
		return goImport{}, "", fmt.Errorf("%s: %s: %w", page, answer.status, f.noRepository(answer.from))
	case answer.code >= http.StatusInternalServerError || answer.code == http.StatusTooManyRequests:
		return goImport{}, "", errPassing{fmt.Errorf("%s: %s: look at the host's log", page, answer.status)}
	case err != nil:
		return goImport{}, "", step.BadInput(fmt.Errorf("%s: %w", page, err))
	}
	return goImport{}, "", step.BadInput(errAbsent{fmt.Errorf("%s has no go-import tag that says where its repository is: %w", page, f.noRepository(answer.from))})
}

// Limits of what a git host answers: of packs, which are on disk, and of lists of
// references and errors, which are in memory.
const (
	maxPack   = 4 << 30
	maxAnswer = 64 << 20
)

// bounded is a client whose answers end at these.
func bounded(client *http.Client) *http.Client {
	limited := *client
	limited.Transport = boundedTransport{cmp.Or(client.Transport, http.DefaultTransport)}
	return &limited
}

type boundedTransport struct{ http.RoundTripper }

func (b boundedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	limit := int64(maxAnswer)
	if response.StatusCode == http.StatusOK && strings.HasSuffix(request.URL.Path, "/git-upload-pack") {
		limit = maxPack
	}
	response.Body = http.MaxBytesReader(nil, response.Body, limit)
	return response, nil
}

// hidden says whether a status is one of what is private or not there.
func hidden(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound || status == http.StatusGone
}

// answer is what a host says beside a page.
type answer struct {
	code   int
	status string   // with its number
	from   *url.URL // after redirects
}

// read is the go-import tags of a page and the answer that had them; nil if
// there was none.
func (f *Fetcher) read(ctx context.Context, page *url.URL, logins logins) ([]goImport, *answer, error) {
	response, err := f.ask(ctx, page, logins)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	found, err := goImports(io.LimitReader(response.Body, maxInfo))
	return found, &answer{response.StatusCode, response.Status, response.Request.URL}, err
}

// noRepository says what to do where a host does not show something that is
// private: hosts do not tell that from what is not there.
func (f *Fetcher) noRepository(address *url.URL) error {
	if _, workspace := f.gitLogin(address); workspace != "" {
		return step.BadInput(errAbsent{fmt.Errorf("there is nothing, or the login that the workspace %s has for %s may not read it", workspace, address.Host)})
	}
	return step.BadInput(errAbsent{fmt.Errorf("there is nothing, or it is private: bind the workspace %s to a secret whose key .git-credentials has a line for %s://%s", gitCredentials, address.Scheme, address.Host)})
}

// goImports reads the go-import tags of a page's head, as
// cmd/go/internal/vcs/discovery.go does.
func goImports(page io.Reader) ([]goImport, error) {
	decoder := xml.NewDecoder(page)
	decoder.Strict = false
	decoder.CharsetReader = func(charset string, input io.Reader) (io.Reader, error) {
		if charset = strings.ToLower(charset); charset != "utf-8" && charset != "ascii" {
			return nil, fmt.Errorf("its charset %q is not utf-8", charset)
		}
		return input, nil
	}
	var found []goImport
	for {
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) || err != nil && len(found) > 0 {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		switch element := token.(type) {
		case xml.EndElement:
			if strings.EqualFold(element.Name.Local, "head") {
				return found, nil
			}
		case xml.StartElement:
			if strings.EqualFold(element.Name.Local, "body") {
				return found, nil
			}
			if !strings.EqualFold(element.Name.Local, "meta") || attribute(element, "name") != "go-import" {
				continue
			}
			switch fields := strings.Fields(attribute(element, "content")); len(fields) {
			case 3:
				found = append(found, goImport{fields[0], fields[1], fields[2], ""})
			case 4:
				found = append(found, goImport{fields[0], fields[1], fields[2], fields[3]})
			}
		}
	}
}

func attribute(element xml.StartElement, name string) string {
	for _, attribute := range element.Attr {
		if strings.EqualFold(attribute.Name.Local, name) {
			return attribute.Value
		}
	}
	return ""
}
