package git_test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-ci/slipway/internal/git"
)

func TestEachURLHasItsLogin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".git-credentials"), []byte(`
https://app:1@git.example.com/team/app.git
https://team:2@git.example.com/team
https://lib:3@git.example.com/team/lib
https://only:4@other.example.com/team/app
http://plain:5@git.example.com
`), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := git.ReadCredentials("git-credentials", dir)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"https://git.example.com/team/app":         "app",
		"https://git.example.com/team/app.git":     "app",
		"https://git.example.com/team/app/v2":      "app",
		"https://git.example.com/team/lib.git":     "lib",
		"https://git.example.com/team/libs":        "team",
		"https://git.example.com/teams":            "app", // the host's first, as git has it
		"https://lib@git.example.com/team/app.git": "lib",
		"https://other.example.com/":               "only",
		"http://git.example.com/team/app":          "plain",
		"https://example.com/team/app":             "",
		"https://git.example.com:8443/team/app":    "",
	} {
		parsed, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := known.Of(parsed).Username(); got != want {
			t.Errorf("%s has the login %q, want %q", address, got, want)
		}
	}
}
