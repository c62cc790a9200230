package tag_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/internal/tag"
)

// clone is one at skaffold's example commit (its git_commit_test.go).
type clone struct {
	description string
	changed     bool
	damaged     bool // its index
	branch      string
}

func (c clone) Describe() (string, error) { return c.description, nil }
func (c clone) Commit() (string, error)   { return "eefe1b9c44eb0aa87199c9a079f2d48d8eb8baed", nil }
func (c clone) Tree() (string, error)     { return "3bed02ca656e336307e4eb4d80080d7221cba62c", nil }

func (c clone) Changed() (bool, error) {
	if c.damaged {
		return false, errors.New("unknown extension")
	}
	return c.changed, nil
}

func (c clone) Branch() (string, error) {
	if c.branch == "" {
		return "", errors.New("no branch")
	}
	return c.branch, nil
}

func (c clone) Abbreviate(name string) (string, error) { return name[:7], nil }

func source(c clone) *tag.Source {
	return &tag.Source{
		Started:     time.Date(2015, 3, 7, 11, 6, 39, 123456789, time.UTC),
		Git:         func() (tag.Git, error) { return c, nil },
		InputDigest: func() (string, error) { return strings.Repeat("0f", 32), nil },
	}
}

func noGit() *tag.Source {
	s := source(clone{})
	s.Git = func() (tag.Git, error) { return nil, errors.New("no git clone") }
	return s
}

// The tags that skaffold's own tests and documentation have.
func TestPolicies(t *testing.T) {
	t.Parallel()
	clean, dirty := clone{description: "eefe1b9", branch: "master"}, clone{description: "v1", changed: true, branch: "feature/x"}
	for _, tc := range []struct {
		entry string
		clone clone
		want  string
	}{
		{"gitCommit", clean, "eefe1b9"},
		{"gitCommit", dirty, "v1-dirty"},
		{"gitCommit", clone{description: "v/2"}, "v_2"},
		{"gitCommit", clone{description: "v1-1-g3cec6b9"}, "v1-1-g3cec6b9"},
		{"gitCommit", clone{description: "-.x" + strings.Repeat("y", 200)}, "__x" + strings.Repeat("y", 125)},
		{"gitCommit:variant=Tags", clean, "eefe1b9"},
		{"gitCommit:variant=CommitSha", clean, "eefe1b9c44eb0aa87199c9a079f2d48d8eb8baed"},
		{"gitCommit:variant=CommitSha", dirty, "eefe1b9c44eb0aa87199c9a079f2d48d8eb8baed-dirty"},
		{"gitCommit:variant=AbbrevCommitSha", clean, "eefe1b9"},
		{"gitCommit:variant=abbrevcommitsha,ignoreChanges=true", dirty, "eefe1b9"},
		{"gitCommit:variant=TreeSha", clean, "3bed02ca656e336307e4eb4d80080d7221cba62c"},
		{"gitCommit:variant=AbbrevTreeSha", clean, "3bed02c"},
		{"gitCommit:variant=Branches,ignoreChanges=false", dirty, "feature_x-dirty"},
		{"gitCommit:prefix=test-,ignoreChanges=1", dirty, "test-v1"},
		{"dateTime", clean, "2015-03-07_11-06-39.123_UTC"},
		{"dateTime:format=2006-01-02", clean, "2015-03-07"},
		{"dateTime:format=2006-01-02_15-04-05.999_MST,timezone=Europe/Berlin", clean, "2015-03-07_12-06-39.123_CET"},
		{"dateTime:timezone=America/New_York", clean, "2015-03-07_06-06-39.123_EST"},
		{"inputDigest", clean, strings.Repeat("0f", 32)},
		{"sha256", clean, "latest"},
		{"v1.2.3", clean, "v1.2.3"},
		{"{{.GIT}}-{{.DATE}}-{{.SHA}}", clean, "eefe1b9-2015-03-07_11-06-39.123_UTC-latest"},
		{"{{.INPUT_DIGEST | trunc 12}}", clean, "0f0f0f0f0f0f"},
		{"{{.IMAGE_NAME}}-{{.RELEASE}}", clean, "app-1.2"},
		{"{{.DAY}}-{{.COMMIT}}", clean, "2015-03-07-3bed02c"},
		{`{{default "none" .EMPTY}}`, clean, "none"},
		{`{{.REF | trimPrefix "refs/heads/" | replace "/" "-" | lower}}`, clean, "feature-x"},
		{`{{if eq .RELEASE "1.2"}}stable{{else}}edge{{end}}`, clean, "stable"},
	} {
		variables, err := tag.TemplateValues([]string{"RELEASE=1.2", "DAY=dateTime:format=2006-01-02", "COMMIT=gitCommit:variant=AbbrevTreeSha", "EMPTY=", "REF=refs/heads/Feature/x"}, source(tc.clone))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tag.Tags("registry.example/team/app", []string{tc.entry}, *source(tc.clone), variables)
		if err != nil || !slices.Equal(got, []string{tc.want}) {
			t.Errorf("%s: got %q, %v, want %s", tc.entry, got, err, tc.want)
		}
	}
}

func TestBadTags(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		"a/b":                           `"a/b": "a/b" is no tag: it takes letters, digits, _, . and -, and at most 128`,
		"{{.REF}}":                      `"{{.REF}}": "refs/heads/x" is no tag: it takes letters, digits, _, . and -, and at most 128`,
		"{{.EMPTY}}":                    `"{{.EMPTY}}": "" is no tag: it takes letters, digits, _, . and -, and at most 128`,
		strings.Repeat("x", 129):        `is no tag`,
		"gitCommit:variant=x":           `"gitCommit:variant=x": gitCommit: variant "x" is none of Tags, CommitSha, AbbrevCommitSha, TreeSha, AbbrevTreeSha, Branches`,
		"gitCommit:kind=Tags":           `gitCommit: "kind=Tags" is not OPTION=VALUE with an option of variant, prefix, ignoreChanges`,
		"gitCommit:Tags":                `gitCommit: "Tags" is not OPTION=VALUE`,
		"gitCommit:ignoreChanges=maybe": `gitCommit: ignoreChanges is "maybe": it must be true or false`,
		"gitCommit":                     `"gitCommit": gitCommit: no git clone`,
		"{{.GIT}}":                      `"{{.GIT}}": variable GIT: gitCommit: no git clone`,
		"sha256:x=y":                    `sha256 has no option`,
		"dateTime:timezone=Nowhere":     `dateTime: timezone "Nowhere" is none that Go knows (Europe/Berlin, UTC): unknown time zone Nowhere`,
		"dateTime:timezone=../../x":     `dateTime: timezone "../../x" is none that Go knows`,
		"{{.IMAGE_TAG}}":                `there is no variable IMAGE_TAG; there are DATE, EMPTY, GIT, IMAGE_NAME, IMAGE_REPO, INPUT_DIGEST, REF, SHA`,
	} {
		variables, err := tag.TemplateValues([]string{"REF=refs/heads/x", "EMPTY="}, noGit())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tag.Tags("app", []string{entry}, *noGit(), variables); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v\nwant %s", entry, got, err, want)
		}
	}
}

func TestIgnoreChangesDoesWithoutTheIndex(t *testing.T) {
	t.Parallel()
	s := source(clone{description: "v1", damaged: true})
	got, err := tag.Tags("app", []string{"gitCommit:ignoreChanges=true"}, *s, tag.Variables{})
	if err != nil || !slices.Equal(got, []string{"v1"}) {
		t.Errorf("got %s, %v", got, err)
	}
	const want = `"gitCommit": gitCommit: look for changed files: unknown extension; ignoreChanges=true does without`
	if _, err := tag.Tags("app", []string{"gitCommit"}, *s, tag.Variables{}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestBadTemplateValues(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"RELEASE":     `"RELEASE" is not NAME=VALUE with a name of letters, digits and _`,
		"a-b=c":       `"a-b" is not NAME=VALUE`,
		"=c":          `"" is not NAME=VALUE`,
		"IMAGE_TAG=x": `IMAGE_TAG is the image's own`,
	} {
		if _, err := tag.TemplateValues([]string{given}, noGit()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", given, err, want)
		}
	}
}

// What decides the image is known after the templates that decide it.
func TestTheInputDigestComesLate(t *testing.T) {
	t.Parallel()
	s := noGit()
	digest := s.InputDigest
	s.InputDigest = func() (string, error) { return "", errors.New("too early") }
	variables, err := tag.TemplateValues([]string{"SHORT=inputDigest"}, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tag.Expand("{{.SHORT}}", variables); err == nil {
		t.Errorf("too early: got %s", got)
	}
	s.InputDigest = digest
	if got, err := tag.Expand("{{.SHORT | trunc 4}} {{.INPUT_DIGEST | trunc 2}}", variables); err != nil || got != "0f0f 0f" {
		t.Errorf("got %s, %v", got, err)
	}
}

// A value from a stranger is a value, whatever it looks like.
func TestTemplateValuesAreNoTemplates(t *testing.T) {
	t.Parallel()
	variables, err := tag.TemplateValues([]string{"BRANCH={{.GIT}}"}, noGit())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tag.Expand("{{.BRANCH}}", variables); err != nil || got != "{{.GIT}}" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		image      string
		tags, more []string
		want       string
	}{
		{"registry.example/app", nil, nil, "registry.example/app:latest"},
		{"registry.example:5000/app", nil, nil, "registry.example:5000/app:latest"},
		{"registry.example/app:v1", nil, nil, "registry.example/app:v1"},
		{"registry.example/app", []string{"v1", "v2"}, nil, "registry.example/app:v1 registry.example/app:v2"},
		{"registry.example:5000/app:v0", []string{"v1", "v0"}, nil, "registry.example:5000/app:v0 registry.example:5000/app:v1"},
		{"app", []string{"v1"}, []string{"mirror.example/app", "mirror.example/app:v1", "app:v1"}, "app:v1 mirror.example/app:latest mirror.example/app:v1"},
	} {
		all, err := tag.Destinations(tc.image, tc.tags, tc.more)
		var urls []string
		for _, one := range all {
			urls = append(urls, one.URL)
		}
		if got := strings.Join(urls, " "); err != nil || got != tc.want {
			t.Errorf("%s %s %s: got %s, %v, want %s", tc.image, tc.tags, tc.more, got, err, tc.want)
		}
	}
	digest := "@sha256:" + strings.Repeat("0", 64)
	for want, given := range map[string][2]string{
		"param image: app" + digest + " has a digest, which only the build decides": {"app" + digest, "b"},
		"param destinations: b" + digest + " has a digest":                          {"app", "b" + digest},
		"param destinations: b: must specify a tag name after the colon":            {"app", "b:"},
	} {
		if _, err := tag.Destinations(given[0], nil, []string{given[1]}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// sha256 is latest, for an image that has no tag of its own.
func TestSha256(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{"app": "[latest]", "app:v1": "[]"} {
		got, err := tag.Tags(image, []string{"sha256"}, *noGit(), tag.Variables{})
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: got %s, %v, want %s", image, got, err, want)
		}
	}
}
