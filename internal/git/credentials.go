package git

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// credentialsFile is where a workspace for git hosts has the logins, a URL a
// line, as git-clone's basic-auth has them:
// https://git-scm.com/docs/git-credential-store.
const credentialsFile = ".git-credentials"

// Credentials are URLs with a user and a password.
type Credentials []*url.URL

// ReadCredentials reads those of a workspace that is mounted at dir; of "", and
// of a secret that is optional and does not exist, there are none. No error has
// a password.
func ReadCredentials(workspace, dir string) (Credentials, error) {
	if dir == "" {
		return nil, nil
	}
	content, err := os.ReadFile(filepath.Join(dir, credentialsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, checkEmpty(workspace, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("workspace %s: %w", workspace, err)
	}
	var known Credentials
	for number, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		login, err := url.Parse(line)
		if err != nil || login.Host == "" || login.User == nil {
			return nil, fmt.Errorf("workspace %s: line %d of %s is not as https://USER:TOKEN@git.example.com", workspace, number+1, credentialsFile)
		}
		known = append(known, login)
	}
	return known, nil
}

// checkEmpty refuses a secret with keys ("..data" is the kubelet's own).
func checkEmpty(workspace, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("workspace %s: %w", workspace, err)
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), "..") }) {
		return fmt.Errorf("workspace %s has no %s: its secret needs a key of that name, with lines such as https://USER:TOKEN@git.example.com", workspace, credentialsFile)
	}
	return nil
}

// Of is the login for a URL, of its scheme and host and, where the URL has one,
// of its user: the one whose path leads furthest to the URL's, such as a
// project's own, or else the first, as git has it. It is nil where there is
// none, and git hosts get no other's.
func (c Credentials) Of(wanted *url.URL) *url.Userinfo {
	var first, nearest *url.URL
	for _, login := range c {
		if login.Scheme != wanted.Scheme || login.Host != wanted.Host {
			continue
		}
		if name := wanted.User.Username(); name != "" && name != login.User.Username() {
			continue
		}
		if first == nil {
			first = login
		}
		if leads(login.Path, wanted.Path) && (nearest == nil || len(login.Path) > len(nearest.Path)) {
			nearest = login
		}
	}
	if nearest == nil {
		nearest = first
	}
	if nearest == nil {
		return nil
	}
	return nearest.User
}

// leads says whether a path is another's beginning. Repositories go by their
// paths with .git and without.
func leads(beginning, path string) bool {
	beginning, path = strings.TrimSuffix(strings.Trim(beginning, "/"), ".git"), strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	return beginning == "" || path == beginning || strings.HasPrefix(path, beginning+"/")
}
