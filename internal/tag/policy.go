package tag

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // whatever base image the step is put on
)

// Source is what tag policies ask about.
type Source struct {
	Started     time.Time              // of the build
	Git         func() (Git, error)    // the clone that is built
	InputDigest func() (string, error) // 64 hexadecimal digits of all that decides the image
}

// Git is a clone at a commit.
type Git interface {
	Describe() (string, error) // as git describe --tags --always
	Commit() (string, error)
	Tree() (string, error) // of the build context
	Branch() (string, error)
	Abbreviate(name string) (string, error)
	Changed() (bool, error) // whether the build context is not as the commit has it
}

// A policy makes a tag, as the skaffold.yaml field of its name does
// (https://skaffold.dev/docs/taggers/).
type policy struct {
	options []string
	tag     func(s Source, options map[string]string) (string, error)
}

var policies = map[string]policy{
	"gitCommit":   {[]string{"variant", "prefix", "ignoreChanges"}, gitCommit},
	"dateTime":    {[]string{"format", "timezone"}, dateTime},
	"inputDigest": {nil, func(s Source, _ map[string]string) (string, error) { return s.InputDigest() }},
	"sha256":      {nil, func(Source, map[string]string) (string, error) { return latest, nil }},
}

// latest is the tag of an image that is given none.
const latest = "latest"

// applyPolicy is the tag that text asks for where it is a policy: its name, or
// NAME:OPTION=VALUE[,OPTION=VALUE…]. A value has no comma.
func applyPolicy(text string, s Source) (tag string, is bool, err error) {
	name, list, hasOptions := strings.Cut(text, ":")
	p, is := policies[name]
	if !is {
		return "", false, nil
	}
	options := map[string]string{}
	if hasOptions {
		for _, option := range strings.Split(list, ",") {
			key, value, ok := strings.Cut(option, "=")
			if !ok || !slices.Contains(p.options, key) {
				if len(p.options) == 0 {
					return "", true, fmt.Errorf("%s has no option", name)
				}
				return "", true, fmt.Errorf("%s: %q is not OPTION=VALUE with an option of %s", name, option, strings.Join(p.options, ", "))
			}
			options[key] = value
		}
	}
	tag, err = p.tag(s, options)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return tag, true, err
}

// defaultDate is skaffold's.
const defaultDate = "2006-01-02_15-04-05.999_MST"

// dateTime is the time at which the build began. A pod's local time zone is
// UTC.
func dateTime(s Source, options map[string]string) (string, error) {
	format := defaultDate
	if options["format"] != "" {
		format = options["format"]
	}
	zone, err := time.LoadLocation(options["timezone"])
	if err != nil {
		return "", fmt.Errorf("timezone %q is none that Go knows (Europe/Berlin, UTC): %w", options["timezone"], err)
	}
	return s.Started.In(zone).Format(format), nil
}

// variants of gitCommit, in lower case.
var variants = map[string]func(Git) (string, error){
	"":                Git.Describe,
	"tags":            Git.Describe,
	"commitsha":       Git.Commit,
	"abbrevcommitsha": func(g Git) (string, error) { return abbreviated(g, Git.Commit) },
	"treesha":         Git.Tree,
	"abbrevtreesha":   func(g Git) (string, error) { return abbreviated(g, Git.Tree) },
	"branches":        Git.Branch,
}

func abbreviated(g Git, full func(Git) (string, error)) (string, error) {
	name, err := full(g)
	if err != nil {
		return "", err
	}
	return g.Abbreviate(name)
}

func gitCommit(s Source, options map[string]string) (string, error) {
	variant, ok := variants[strings.ToLower(options["variant"])]
	if !ok {
		return "", fmt.Errorf("variant %q is none of Tags, CommitSha, AbbrevCommitSha, TreeSha, AbbrevTreeSha, Branches", options["variant"])
	}
	ignoreChanges := false
	if text, ok := options["ignoreChanges"]; ok {
		var err error
		if ignoreChanges, err = strconv.ParseBool(text); err != nil {
			return "", fmt.Errorf("ignoreChanges is %q: it must be true or false", text)
		}
	}
	clone, err := s.Git()
	if err != nil {
		return "", err
	}
	name, err := variant(clone)
	if err != nil {
		return "", err
	}
	name = options["prefix"] + sanitized(name)
	if ignoreChanges {
		return name, nil
	}
	changed, err := clone.Changed()
	if err != nil {
		return "", fmt.Errorf("look for changed files: %w; ignoreChanges=true does without", err)
	}
	if changed {
		name += "-dirty"
	}
	return name, nil
}

// Tags have neither slashes nor a leading dash or dot; branches and git's tags
// may (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests).
var (
	notInTag   = regexp.MustCompile(`[^a-zA-Z0-9_.-]`)
	notAtStart = regexp.MustCompile(`^[-.]+`)
)

func sanitized(name string) string {
	name = notInTag.ReplaceAllString(name, "_")
	name = notAtStart.ReplaceAllStringFunc(name, func(start string) string { return strings.Repeat("_", len(start)) })
	return name[:min(len(name), 128)]
}

// variableName is what a template can name.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// TemplateValues are the variables of the param template-values, each
// NAME=VALUE, over those that skaffold's customTemplate has: GIT, DATE, SHA and
// INPUT_DIGEST. A value may be a policy; it is no template. Policies ask s as it
// is when a template names them.
func TemplateValues(values []string, s *Source) (Variables, error) {
	variables := Variables{}
	for name, text := range map[string]string{"GIT": "gitCommit", "DATE": "dateTime", "SHA": "sha256", "INPUT_DIGEST": "inputDigest"} {
		variables[name] = value(text, s)
	}
	for _, given := range values {
		name, text, ok := strings.Cut(given, "=")
		if !ok || !variableName.MatchString(name) {
			return nil, fmt.Errorf("%q is not NAME=VALUE with a name of letters, digits and _", name)
		}
		if slices.Contains(imageVariables, name) {
			return nil, fmt.Errorf("%s is the image's own", name)
		}
		variables[name] = value(text, s)
	}
	return variables, nil
}

func value(text string, s *Source) func() (string, error) {
	return func() (string, error) {
		if tag, is, err := applyPolicy(text, *s); is {
			return tag, err
		}
		return text, nil
	}
}

// imageVariables are those of build args, labels and kaniko's environment.
var imageVariables = []string{"IMAGE_REPO", "IMAGE_NAME", "IMAGE_TAG"}

// With is v with more variables.
func (v Variables) With(more Variables) Variables {
	all := maps.Clone(v)
	maps.Copy(all, more)
	return all
}
