package tasks_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

var update = flag.Bool("update", false, "write anew what is generated: docs/reference.md, and what is for one pod")

const referenceFile = "../docs/reference.md"

// docs/reference.md says what the YAML says: change that, then write this anew
// with go test ./tasks -run TestReference -update.
func TestReference(t *testing.T) {
	t.Parallel()
	c := load(t)
	var doc strings.Builder
	doc.WriteString(`# Reference

Every param, workspace and result, as the YAML in [tasks](../tasks) and
[pipelines](../pipelines) has them. This page is generated from it.
`)
	for _, name := range slices.Sorted(maps.Keys(c.pipelines)) {
		if !strings.HasPrefix(name, "slipway-") {
			continue // an example's
		}
		spec := c.pipelines[name].Spec
		heading(&doc, "Pipeline", name, spec.Description)
		paramTable(&doc, spec.Params)
		workspaces := table{head: []string{"workspace", "", ""}}
		for _, w := range spec.Workspaces {
			workspaces.add(code(w.Name), needed(w.Optional), w.Description)
		}
		workspaces.write(&doc)
		results := table{head: []string{"result", ""}}
		for _, r := range spec.Results {
			results.add(code(r.Name), r.Description)
		}
		results.write(&doc)
	}
	for _, name := range slices.Sorted(maps.Keys(c.tasks)) {
		if !strings.HasPrefix(name, "slipway-") {
			continue // a stand-in of the local cluster
		}
		spec := c.tasks[name].Spec
		heading(&doc, "Task", name, spec.Description)
		paramTable(&doc, spec.Params)
		workspaces := table{head: []string{"workspace", "", ""}}
		for _, w := range spec.Workspaces {
			how := needed(w.Optional)
			if w.ReadOnly {
				how = strings.TrimPrefix(how+", read-only", ", ")
			}
			workspaces.add(code(w.Name), how, w.Description)
		}
		workspaces.write(&doc)
		results := table{head: []string{"result", ""}}
		for _, r := range spec.Results {
			results.add(code(r.Name), r.Description)
		}
		results.write(&doc)
	}

	if *update {
		if err := os.WriteFile(referenceFile, []byte(doc.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), doc.String()); diff != "" {
		t.Errorf("%s is not what the YAML says: want (-), got (+); write it anew with -update\n%s", referenceFile, diff)
	}
}

func heading(doc *strings.Builder, kind, name, description string) {
	fmt.Fprintf(doc, "\n## %s %s\n\n%s\n", kind, name, description)
}

func paramTable(doc *strings.Builder, params pipelinev1.ParamSpecs) {
	t := table{head: []string{"param", "default", ""}}
	for _, p := range params {
		value := "required"
		switch {
		case p.Default == nil:
		case p.Type == pipelinev1.ParamTypeArray:
			value = code("[" + strings.Join(p.Default.ArrayVal, ", ") + "]")
		case p.Default.StringVal == "":
			value = "empty"
		default:
			value = code(p.Default.StringVal)
		}
		t.add(code(p.Name), value, p.Description)
	}
	t.write(doc)
}

func needed(optional bool) string {
	if optional {
		return "optional"
	}
	return "required"
}

func code(text string) string { return "`" + text + "`" }

// table is one of Markdown's; without rows it is not written.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(doc *strings.Builder) {
	if len(t.rows) == 0 {
		return
	}
	fmt.Fprintf(doc, "\n| %s |\n|%s\n", strings.Join(t.head, " | "), strings.Repeat("---|", len(t.head)))
	for _, row := range t.rows {
		for n, cell := range row {
			row[n] = strings.ReplaceAll(strings.Join(strings.Fields(cell), " "), "|", `\|`)
		}
		fmt.Fprintf(doc, "| %s |\n", strings.Join(row, " | "))
	}
}
