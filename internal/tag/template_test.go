package tag_test

import (
	"errors"
	"strings"
	"testing"
	"text/template"

	"github.com/slipway-ci/slipway/internal/tag"
)

func variables() tag.Variables {
	return tag.Repository("registry.example:5000/team/app:v1").With(tag.Variables{
		"IMAGE_TAG": tag.Literal("v1"),
		"BROKEN":    func() (string, error) { return "", errors.New("out of order") },
		"LONG":      tag.Literal(strings.Repeat("x", 1<<10)),
	})
}

func TestExpand(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                  "",
		"plain, 100 % }} $": "plain, 100 % }} $",
		"{{.IMAGE_REPO}} {{.IMAGE_NAME}} {{.IMAGE_TAG}}": "registry.example:5000/team app v1",
		`{{"{{"}}.x}}`:                               "{{.x}}",
		"{{- .IMAGE_TAG -}} x":                       "v1x",
		"{{.IMAGE_NAME | upper}}":                    "APP",
		`{{trunc -2 .IMAGE_NAME}}`:                   "pp",
		`{{.IMAGE_NAME | trimSuffix "p"}}`:           "ap",
		"{{/* nothing */}}x":                         "x",
		`{{if and .IMAGE_TAG (not false)}}y{{end}}`:  "y",
		`{{if ne .IMAGE_TAG "v1"}}y{{else}}n{{end}}`: "n",
		`{{or "" .IMAGE_TAG}}`:                       "v1",
		`{{if false}}{{else if true}}second{{end}}`:  "second",
	} {
		if got, err := tag.Expand(text, variables()); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
}

// A template of a stranger reads nothing else, and is over soon.
func TestExpandRefuses(t *testing.T) {
	t.Setenv("PASSWORD", "secret-word")
	for text, want := range map[string]string{
		"{{.PASSWORD}}":                         "there is no variable PASSWORD; there are BROKEN, IMAGE_NAME, IMAGE_REPO, IMAGE_TAG, LONG",
		`{{default "x" .PASSWORD}}`:             "there is no variable PASSWORD",
		"{{.IMAGE_TAG.x}}":                      ".IMAGE_TAG.x is more than a template here can have",
		"{{.BROKEN}}":                           "variable BROKEN: out of order",
		`{{env "PASSWORD"}}`:                    `1: function "env" not defined`,
		`{{cmd "id"}}`:                          `1: function "cmd" not defined`,
		`{{printf "%999999d" 1}}`:               `1: function "printf" not defined`,
		"{{range 1000000000}}{{end}}":           "is more than a template here can have: variables, pipelines, functions and if",
		`{{define "x"}}{{end}}{{template "x"}}`: `{{template "x"}} is more than a template here can have`,
		"{{$x := .IMAGE_TAG}}{{$x}}":            "is more than a template here can have",
		"{{$.IMAGE_TAG}}":                       "is more than a template here can have",
		"{{.}}":                                 ". is more than a template here can have",
		"{{with .IMAGE_TAG}}{{.}}{{end}}":       "is more than a template here can have",
		"{{break}}":                             "{{break}} outside {{range}}",
		"{{.IMAGE_TAG":                          "1: unclosed action",
		"{{trunc .IMAGE_TAG}}":                  "trunc: wrong number of arguments",
		`{{"x" .IMAGE_TAG}}`:                    `"x" is no function`,
		`{{.IMAGE_TAG | "x"}}`:                  "non executable command in pipeline stage 2",
		`{{trunc "x" .IMAGE_TAG}}`:              "trunc: x is no number",
		`{{lower 1}}`:                           "lower: 1 is no text",
		`{{eq 1 "1"}}`:                          "eq: 1 and 1 are not of one kind",
		`{{trunc 1.5 .IMAGE_TAG}}`:              "1.5 is no whole number",
		strings.Repeat("{{.LONG}}", 65):         "it yields more than 65536 bytes",
		"{{" + strings.Repeat("x", 64<<10):      "it has more than 65536 bytes",
		`{{.LONG` + strings.Repeat(` | replace "x" "xxxxxxxxxx"`, 20) + "}}": "it yields more than 65536 bytes",
	} {
		got, err := tag.Expand(text, variables())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %.60q, %v, want %s", text, got, err, want)
		}
	}
}

// What is expanded here is expanded as text/template does it.
func TestExpandAsTextTemplateDoes(t *testing.T) {
	t.Parallel()
	values := map[string]string{"IMAGE_TAG": "v1", "IMAGE_NAME": "app", "EMPTY": ""}
	vars := tag.Variables{}
	for name, value := range values {
		vars[name] = tag.Literal(value)
	}
	for _, text := range []string{
		"", "plain", "{{.IMAGE_TAG}}", "a {{- .IMAGE_TAG -}} b", "{{/* x */}}", "{{- /* x */ -}}\n x", `{{"\u00e9\n"}}{{` + "`raw`" + `}}`,
		"{{if .EMPTY}}y{{end}}", "{{if .EMPTY}}y{{else}}n{{end}}", "{{if not .EMPTY}}{{if .IMAGE_TAG}}z{{end}}{{end}}",
		`{{if eq .IMAGE_TAG "v0" "v1"}}y{{else if ne .IMAGE_NAME "app"}}m{{else}}n{{end}}`,
		"{{and .IMAGE_TAG .EMPTY .IMAGE_NAME}}", "{{or .EMPTY .IMAGE_NAME}}", "{{or .EMPTY}}", "{{not .EMPTY}}", "{{and 0 true}}", "{{or 0 3}}",
		`{{.IMAGE_NAME | eq "app"}}`, `{{(or .EMPTY "x") | ne "x"}}`, "{{true}} {{-7}} {{0x10}}", "{{define `x`}}{{end}}{{.IMAGE_TAG}}", "{{define `x`}}{{end}}",
	} {
		parsed, err := template.New("").Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		if err := parsed.Execute(&want, values); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got, err := tag.Expand(text, vars); err != nil || got != want.String() {
			t.Errorf("%s: got %q, %v, text/template has %q", text, got, err, want.String())
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"{{.IMAGE_TAG}}", `{{"{{"}}`, `{{if .LONG}}{{trunc 3 .LONG}}{{end}}`, "{{(and 1).x}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := tag.Expand(text, variables())
		if err == nil && len(got) > 64<<10 {
			t.Errorf("%d bytes of %q", len(got), text)
		}
	})
}
