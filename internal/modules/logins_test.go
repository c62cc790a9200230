package modules_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/git"
	"github.com/slipway-ci/slipway/internal/git/gittest"
	"github.com/slipway-ci/slipway/internal/modules"
)

func TestDirectLogsIn(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	h.password = password
	login, err := url.Parse("http://robot:" + password + "@git.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	f := h.fetcher(t)
	f.Netrc = modules.Netrc{"corp.example": {Name: "page", Password: password}, "git.corp.example": {Name: "not-me", Password: "x"}}
	f.Direct.Credentials = git.Credentials{login}
	if _, err := f.Fetch(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	h.wantLogins(t, "[corp.example page git.corp.example robot]")
}

// A proxy decides where it redirects to, and not who gets a login in the clear.
func TestAProxySendsNoLoginElsewhere(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	h.answer["goproxy.corp.example"] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://other.corp.example"+r.URL.Path, http.StatusFound)
	}
	f := h.fetcher(t)
	f.Proxies = "http://goproxy.corp.example"
	f.Netrc = modules.Netrc{"goproxy.corp.example": {Name: "robot", Password: password}, "other.corp.example": {Name: "me", Password: password}}
	if _, err := f.Fetch(t.Context(), wanted); err == nil || !strings.Contains(err.Error(), "404 Not Found") {
		t.Errorf("the error is %v", err)
	}
	h.wantLogins(t, "[goproxy.corp.example robot]")
}

// GitLab knows no deploy token where pages are, and shows them to everybody else.
func TestDirectReadsPagesThatItsLoginMayNotRead(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	h.pages.Store("corp.example/lib", "corp.example/lib git http://corp.example/lib.git")
	h.answer["corp.example"] = func(w http.ResponseWriter, r *http.Request) {
		_, _, loggedIn := r.BasicAuth()
		switch {
		case r.URL.Query().Get("go-get") == "":
			gittest.Handler(t, h.root, password).ServeHTTP(w, r)
		case loggedIn:
			w.WriteHeader(http.StatusNotFound)
		default:
			fmt.Fprintf(w, "<html><head><meta name='go-import' content='%s'></head>", h.page("corp.example/lib"))
		}
	}
	f := h.fetcher(t)
	f.Netrc = modules.Netrc{"corp.example": {Name: "token", Password: password}}
	if _, err := f.Fetch(t.Context(), wanted); err != nil {
		t.Error(err)
	}
}

// A login is for its host, wherever that sends who asks.
func TestDirectKeepsLoginsToTheirHosts(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	to := func(host string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+host+r.URL.RequestURI(), http.StatusFound)
		}
	}
	moved := map[string]string{"corp.example": "pages.corp.example", "git.corp.example": "mirror.git.corp.example"}
	h.pages.Store("pages.corp.example/lib", h.page("corp.example/lib"))
	h.answer["corp.example"] = to(moved["corp.example"])
	h.answer["git.corp.example"] = to(moved["git.corp.example"])
	h.answer["mirror.git.corp.example"] = gittest.Handler(t, h.root, "").ServeHTTP
	f := h.fetcher(t)
	f.Netrc = modules.Netrc{"corp.example": {Name: "page", Password: password}, "git.corp.example": {Name: "robot", Password: password}}
	_, err := f.Fetch(t.Context(), wanted)
	for _, seen := range h.seen {
		if host, _, _ := strings.Cut(seen, " "); moved[host] == "" {
			t.Errorf("%s has a login", host)
		}
	}
	if len(h.seen) == 0 {
		t.Error("nobody was asked with a login")
	}
	if err != nil {
		t.Error(err)
	}
}
