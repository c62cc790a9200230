package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
)

// credentialsFile is where git-clone's workspace basic-auth has the logins, a
// URL a line: https://git-scm.com/docs/git-credential-store.
const credentialsFile = ".git-credentials"

// credentials are URLs with a user and a password.
type credentials []*url.URL

// readCredentials reads those of a workspace; of "" there are none. No error
// has a password.
func readCredentials(dir string) (credentials, error) {
	if dir == "" {
		return nil, nil
	}
	content, err := os.ReadFile(filepath.Join(dir, credentialsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("workspace basic-auth has no %s: its secret needs a key of that name, with lines such as https://USER:TOKEN@git.example.com", credentialsFile)
	}
	if err != nil {
		return nil, err
	}
	var known credentials
	for number, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		login, err := url.Parse(line)
		if err != nil || login.Host == "" || login.User == nil {
			return nil, fmt.Errorf("workspace basic-auth: line %d of %s is not as https://USER:TOKEN@git.example.com", number+1, credentialsFile)
		}
		known = append(known, login)
	}
	return known, nil
}

// of is the login for a URL: the first of its scheme and host and, where the
// URL has one, of its user. It is nil where there is none, and git hosts get no
// other's.
func (c credentials) of(address string) transport.AuthMethod {
	wanted, err := url.Parse(address)
	if err != nil {
		return nil
	}
	for _, login := range c {
		if login.Scheme != wanted.Scheme || login.Host != wanted.Host {
			continue
		}
		if name := wanted.User.Username(); name != "" && name != login.User.Username() {
			continue
		}
		password, _ := login.User.Password()
		return &http.BasicAuth{Username: login.User.Username(), Password: password}
	}
	return nil
}
