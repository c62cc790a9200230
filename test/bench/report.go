package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/slipway-ci/slipway/internal/step"
)

//go:embed method.md
var method string

// tried is written by hand, for the figures of docs/bench.
//
//go:embed tried.md
var tried string

// publish makes the report of a file of results in dir: the file itself, the
// charts and README.md.
func publish(file, dir string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read what was measured: %w; run 'make bench' first", err)
	}
	files, err := report(content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := step.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// report is the files of docs/bench, made of bench.json.
func report(content []byte) (map[string]string, error) {
	r := &results{}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, err
	}
	files := map[string]string{"bench.json": string(content)}
	var text strings.Builder
	fmt.Fprintf(&text, "# Benchmarks\n\nWritten by `make bench-report` from [bench.json](bench.json), which `make bench` measured.\n\n")
	fmt.Fprintf(&text, "%s: %d cores of %s, %.0f GiB, Linux %s, %s; Slipway %s, %s.\n",
		"One machine", r.Machine.Cores, r.Machine.CPU, float64(r.Machine.Memory)/(1<<30), r.Machine.Kernel, r.Machine.Go, r.Slipway.Commit, r.Started.Format(time.DateOnly))
	text.WriteString("Seconds are medians, with the least and the most where there is more than one run. Only\nratios within this one table mean anything elsewhere.\n")
	text.WriteString(r.disturbance())
	text.WriteString("\n## Goals\n\n" + r.goals())
	for _, app := range appNames {
		if !r.has(app) {
			continue
		}
		fmt.Fprintf(&text, "\n## The %s app\n\n![%s app](%[1]s.svg)\n", app, app)
		files[app+".svg"] = r.chart(app)
		for _, kind := range caseNames {
			if table := r.table(app, kind); table != "" {
				fmt.Fprintf(&text, "\n### %s, %s: %s\n\n%s", app, kind, describe(kind), table)
			}
		}
	}
	text.WriteString("\n## Where Slipway loses\n\n" + r.losses())
	text.WriteString("\n## Where Slipway's time goes\n\nOf the run in the middle, by the times that Tekton's entrypoint leaves: seconds from\none start to the next.\n\n" + r.phases())
	text.WriteString("\n" + tried)
	text.WriteString("\n## Runs that failed\n\n" + r.failures() + "\n" + r.compared())
	text.WriteString("\n" + method)
	files["README.md"] = text.String()
	return files, nil
}

// disturbed is the load, per core, above which others had their share of a run.
// What is run one after another leaves less behind.
const disturbed = 2

// disturbance warns of runs that began while others used the machine.
func (r *results) disturbance() string {
	n := 0
	for _, rec := range r.Records {
		if rec.Load > disturbed*float64(r.Machine.Cores) {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("\n**%d of %d runs began while others kept the machine busy** (load before: processes that wanted\na core in the minute before): of those runs only the CPU seconds can be compared.\n", n, len(r.Records))
}

func describe(kind string) string {
	if k, ok := severals[kind]; ok {
		return k.String()
	}
	return cases[kind].about
}

// has says whether anything is known of an app.
func (r *results) has(app string) bool {
	return slices.ContainsFunc(r.Records, func(rec record) bool { return rec.App == app })
}

func (r *results) goals() string {
	rows := [][]string{{"figure", "small", "medium"}}
	for _, g := range goals {
		row := []string{g.String()}
		for _, app := range requiredApps {
			verdict := ""
			if g.apps == nil || slices.Contains(g.apps, app) {
				verdict = g.verdict(r, app)
			}
			row = append(row, verdict)
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// table has every contender's figures of an app and a case; "" if there are
// none.
func (r *results) table(app, kind string) string {
	rows := [][]string{{"contender", "runs", "build s", "end to end s", "CPU s", "MB pulled", "MB pushed", "compiled", "load before"}}
	for _, contender := range contestantNames {
		all := r.of(contender, app, kind, total)
		if len(all) == 0 {
			continue
		}
		of := func(value func(record) *float64) string { return r.of(contender, app, kind, value).String() }
		rows = append(rows, []string{contender, fmt.Sprint(len(all)), of(build), all.String(), of(cpu), of(pulled), of(pushed), of(compiled), of(load)})
	}
	if len(rows) == 1 {
		return ""
	}
	return markdown(rows)
}

func compiled(r record) *float64 {
	if r.Compiled == nil {
		return nil
	}
	n := float64(*r.Compiled)
	return &n
}

// ours are what this repository brings.
var ours = []string{"slipway", "slipway-one-pod"}

// compared says how much of what was built others have built too.
func (r *results) compared() string {
	good, compared := 0, 0
	for _, one := range r.Records {
		if !one.OK || one.Binary == "" {
			continue
		}
		good++
		if slices.ContainsFunc(r.Records, func(other record) bool {
			return other.OK && other.Contender != one.Contender && other.App == one.App && other.Source == one.Source && other.Binary == one.Binary
		}) {
			compared++
		}
	}
	return fmt.Sprintf("Of %d runs of one app that went well, %d built a source that another contender built as well: the same\nprogram, to the byte.\n", good, compared)
}

// losses lists what cost others less than it costs Slipway. The floor is no contender.
func (r *results) losses() string {
	var lines []string
	for _, app := range appNames {
		for _, kind := range caseNames {
			for _, what := range []struct {
				name, unit string
				value      func(record) *float64
			}{{"build", "s", build}, {"end to end", "s", total}, {"CPU", "s", cpu}, {"pulled", "MB", pulled}, {"pushed", "MB", pushed}} {
				slipway := r.of("slipway", app, kind, what.value)
				for _, contender := range contestantNames {
					theirs := r.of(contender, app, kind, what.value)
					if slices.Contains(ours, contender) || contender == "floor" || len(slipway) == 0 || len(theirs) == 0 || median(theirs) >= median(slipway) || number(median(theirs)) == number(median(slipway)) {
						continue
					}
					lines = append(lines, fmt.Sprintf("- %s, %s, %s: %s takes %s %s, Slipway %s.\n", app, kind, what.name, contender, number(median(theirs)), what.unit, number(median(slipway))))
				}
			}
		}
	}
	if lines == nil {
		return "In no case that was run.\n"
	}
	return strings.Join(lines, "")
}

// phases are those of the runs of Slipway's that took the median time.
func (r *results) phases() string {
	rows := [][]string{{"app", "case", "contender", "phases"}}
	for _, app := range appNames {
		for _, kind := range caseNames {
			for _, contender := range ours {
				if parts := r.phasesOf(contender, app, kind); parts != nil {
					rows = append(rows, []string{app, kind, contender, strings.Join(parts, " · ")})
				}
			}
		}
	}
	return markdown(rows)
}

func (r *results) phasesOf(contender, app, kind string) (parts []string) {
	var runs []record
	for _, rec := range r.Records {
		if rec.OK && rec.Contender == contender && rec.App == app && rec.Case == kind && len(rec.Phases) > 0 {
			runs = append(runs, rec)
		}
	}
	if len(runs) == 0 {
		return nil
	}
	slices.SortFunc(runs, func(a, b record) int { return int(1000 * (*a.SecondsTotal - *b.SecondsTotal)) })
	for _, p := range runs[len(runs)/2].Phases {
		parts = append(parts, fmt.Sprintf("%s %.2f", p.Name, p.Seconds))
	}
	return parts
}

func (r *results) failures() string {
	var lines []string
	for _, rec := range slices.Concat(r.Failures, r.Records) {
		if !rec.OK {
			lines = append(lines, fmt.Sprintf("- %s: %s\n", rec.job, rec.Problem))
		}
	}
	if lines == nil {
		lines = []string{"None.\n"}
	}
	if broken := r.brokenOff(); broken != nil {
		lines = append(lines, "\nBegun and broken off by whoever ran this, so that nothing is known of them: "+strings.Join(broken, ", ")+".\n")
	}
	return strings.Join(lines, "")
}

// brokenOff are the jobs of which more runs were begun than have a record.
func (r *results) brokenOff() []string {
	ended := map[string]int{}
	for _, rec := range slices.Concat(r.Failures, r.Records) {
		ended[rec.String()]++
	}
	var jobs []string
	for _, j := range slices.Sorted(maps.Keys(r.Attempts)) {
		if !strings.Contains(j, "warm-up") && r.Attempts[j] > ended[j] {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// chart has a panel for each case.
func (r *results) chart(app string) string {
	var panels []panel
	for _, kind := range caseNames {
		p := panel{title: kind + ": " + describe(kind)}
		for _, contender := range contestantNames {
			all := r.of(contender, app, kind, total)
			if len(all) == 0 {
				continue
			}
			row := bar{label: contender, total: median(all), least: slices.Min(all), most: slices.Max(all)}
			if builds := r.of(contender, app, kind, build); len(builds) > 0 {
				row.build = median(builds)
			}
			p.bars = append(p.bars, row)
		}
		if len(p.bars) > 0 {
			panels = append(panels, p)
		}
	}
	return svg("The "+app+" app: seconds by case and contender", panels)
}

// markdown is a table with a head.
func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}

// tables are the same figures for a terminal.
func tables(r *results) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "app\tcase\tcontender\truns\tbuild s\tend to end s\tCPU s")
	for _, app := range appNames {
		for _, kind := range caseNames {
			for _, contender := range contestantNames {
				if all := r.of(contender, app, kind, total); len(all) > 0 {
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", app, kind, contender, len(all), r.of(contender, app, kind, build), all, r.of(contender, app, kind, cpu))
				}
			}
		}
	}
	fmt.Fprintln(w)
	for _, g := range goals {
		fmt.Fprintf(w, "%s\t\t\t\t%s\t%s\n", g, g.verdict(r, "small"), g.verdict(r, "medium"))
	}
	w.Flush()
	return b.String()
}
