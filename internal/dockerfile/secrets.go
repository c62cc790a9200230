package dockerfile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// secretShape is a form of secrets that nothing else has.
type secretShape struct {
	what string
	form *regexp.Regexp
}

// secretShapes are known forms. They are compiled at their first use: this
// program is started for each operation too.
var secretShapes = sync.OnceValue(func() []secretShape {
	return []secretShape{
		{"a private key", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY`)},
		{"a Google service account's key", regexp.MustCompile(`"type"\s*:\s*"service_account"`)},
		{"a GitHub token", regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})`)},
		{"a GitLab token", regexp.MustCompile(`\bgl[a-z]{2,5}-[A-Za-z0-9_-]{20,}`)},
		{"an AWS access key", regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`)},
		{"a Slack token", regexp.MustCompile(`\bxox[abposr]-[A-Za-z0-9-]{10,}`)},
		{"an npm token", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{30,}`)},
		{"a JSON web token", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.`)},
		{"a URL with a password", regexp.MustCompile(`\w://[^/\s:@]*:[^/\s:@$]+@`)},
		{"a netrc entry", regexp.MustCompile(`\bmachine\s+\S+\s+login\s+\S+\s+password\s`)},
	}
})

// SecretIn says what secret a text has in it, by its form; "" for none that is
// known.
func SecretIn(text string) string {
	for _, shape := range secretShapes() {
		if shape.form.MatchString(text) {
			return shape.what
		}
	}
	return ""
}

// secretNames are the last words in names of variables that hold secrets. A
// name that goes on, as in TOKEN_URL or SECRET_NAME, is of something else.
var secretNames = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(?:^|[_-])(?:(?:access|auth|api|github|gh|gitlab|npm)?token|password|passwd|passphrase|secret|credentials?|netrc|(?:api|access|secret|private|ssh|deploy|signing|encryption|account|client)[_-]?key|apikey)$`)
})

// harmless are values that are no secret under whatever name.
var harmless = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(?:|true|false|yes|no|on|off|none|null|\d{1,9}|\$.*|[./~][\w./~-]*)$`)
})

// secretGiven says after a build arg's name why it is taken for a secret, "" if
// it is not.
func secretGiven(name, value string) string {
	if what := SecretIn(value); what != "" {
		return ": its value has " + what
	}
	public := strings.Contains(strings.ToUpper(name), "PUBLIC")
	if secretNames().MatchString(name) && !public && !harmless().MatchString(value) {
		return " is a secret by its name"
	}
	return ""
}

// checkArgs finds secrets that are given as build args. Every RUN of the build
// can read those, they stay in the run's object and in kaniko's command line,
// and what a Dockerfile does with an ARG may put them into the image.
func (d *derivation) checkArgs() error {
	for _, name := range slices.Sorted(maps.Keys(d.options.BuildArgs)) {
		why := secretGiven(name, d.options.BuildArgs[name])
		if why == "" {
			continue
		}
		return d.file.errorAt(d.declares(name), fmt.Sprintf("build arg %s%s; every RUN could read it, and it would stay in the run's params", name, why),
			fmt.Sprintf("put it into a secret for the workspace secrets and use RUN --mount=type=secret,id=%s; for modules there are the params go-private and go-private-proxy", strings.ToLower(name)))
	}
	return nil
}

// declares is the line of the first ARG of that name, 0 for none.
func (d *derivation) declares(name string) int {
	all := slices.Clone(d.file.globals)
	for _, n := range d.needed() {
		all = append(all, n.program...)
	}
	for _, i := range all {
		if c, ok := i.command.(*instructions.ArgCommand); ok {
			for _, arg := range c.Args {
				if arg.Key == name {
					return i.line
				}
			}
		}
	}
	return 0
}

// writtenSecrets are notes on secrets in the Dockerfile itself: they are where
// they should not be already.
func writtenSecrets(i *instruction, note func(line int, format string, args ...any)) {
	pairs := map[string]string{}
	switch c := i.command.(type) {
	case *instructions.EnvCommand:
		for _, pair := range c.Env {
			pairs[pair.Key] = pair.Value
		}
	case *instructions.ArgCommand:
		for _, arg := range c.Args {
			if arg.Value != nil {
				pairs[arg.Key] = *arg.Value
			}
		}
	}
	for name, value := range pairs {
		if what := SecretIn(value); what != "" {
			note(i.line, "%s %s has %s: whoever has the image or the repository has it too", i.keyword(), name, what)
		}
	}
}
