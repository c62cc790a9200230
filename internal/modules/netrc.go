package modules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Netrc are logins by host.
type Netrc map[string]Login

// Login is a name with its password.
type Login struct{ Name, Password string }

// ReadNetrc reads the file .netrc or netrc of a folder, the workspace netrc; ""
// is no folder, and a folder without a key that of an optional secret.
func ReadNetrc(dir string) (Netrc, error) {
	if dir == "" {
		return nil, nil
	}
	for _, name := range []string{".netrc", "netrc"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("workspace netrc: %w", err)
		}
		return parseNetrc(string(content))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("workspace netrc: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "..") { // the kubelet's own
			return nil, fmt.Errorf("workspace netrc has the key %s, and neither .netrc nor netrc", entry.Name())
		}
	}
	return nil, nil
}

// parseNetrc knows what cmd/go knows of the format
// (https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html):
// machines with login and password, macros that are passed over, and that
// nothing after "default" counts. Errors never quote the file.
func parseNetrc(content string) (Netrc, error) {
	logins := Netrc{}
	var machine string
	var login Login
	inMacro := false
	keep := func() {
		if _, ok := logins[machine]; !ok && machine != "" && login.Name != "" && login.Password != "" {
			logins[machine] = login
		}
	}
	for line := range strings.Lines(content) {
		if inMacro {
			inMacro = strings.TrimSpace(line) != ""
			continue
		}
		fields := strings.Fields(line)
		for n := 0; n+1 < len(fields); n += 2 {
			switch fields[n] {
			case "machine":
				keep()
				machine, login = fields[n+1], Login{}
			case "login":
				login.Name = fields[n+1]
			case "password":
				login.Password = fields[n+1]
			case "macdef":
				inMacro = true
			}
		}
		if len(fields) > 0 && fields[0] == "default" {
			break
		}
	}
	keep()
	if len(logins) == 0 {
		return nil, errors.New("workspace netrc: no line reads: machine HOST login NAME password PASSWORD")
	}
	return logins, nil
}
