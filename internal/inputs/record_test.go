package inputs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/inputs"
)

const image = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestRecordAndBack(t *testing.T) {
	t.Parallel()
	record := inputs.New(inputs.List{{Kind: inputs.File, Name: "main.go", Value: "1"}, {Kind: inputs.BuildArg, Name: "A", Value: "a <value>"}})
	record.Image, record.Built, record.By = image, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "team/run"
	content, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(content), "value>") {
		t.Errorf("a value is in the record: %s", content)
	}
	back, err := inputs.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(record, back); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"":                                   "no record",
		"null":                               "names no image",
		"[]":                                 "no record",
		`{"inputs":"1"}`:                     "names no image",
		`{"image":"other"}`:                  "names no image",
		`{"image":"` + image + `"}`:          "when the image was built",
		`{"image":"` + image + `","what":1}`: "no record",
		`{"image":"` + image + `","built":"yesterday"}`:                                                         "no record",
		`{"image":"md5:0","built":"2026-01-02T03:04Z"}`:                                                         "no record",
		`{"image":"` + image + `","built":"2026-01-02T03:04:05Z"}`:                                              "by which run",
		`{"image":"` + image + `","built":"2026-01-02T03:04:05Z","by":"run"}`:                                   "by which run",
		`{"image":"` + image + `","built":"2026-01-02T03:04:05Z","by":"team/run\nunchanged: yes"}`:              "by which run",
		`{"image":"` + image + `","built":"2026-01-02T03:04:05Z","by":"team/` + strings.Repeat("r", 254) + `"}`: "by which run",
	} {
		if _, err := inputs.Parse([]byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", content, err, want)
		}
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	list := func(values ...string) *inputs.Record {
		return inputs.New(inputs.List{
			{Kind: inputs.Derived, Value: values[0]},
			{Kind: inputs.Dockerfile, Value: values[1]},
			{Kind: inputs.File, Name: values[2], Value: "same"},
			{Kind: inputs.BuildArg, Name: "VERSION", Value: values[3]},
		})
	}
	for name, tc := range map[string]struct {
		now  *inputs.Record
		want []string
	}{
		"nothing":                {list("d", "D", "a.go", "1"), nil},
		"in order":               {list("d", "E", "a.go", "2"), []string{"Dockerfile", "build arg VERSION"}},
		"a new name":             {list("d", "D", "b.go", "1"), []string{"context: a.go", "context: b.go"}},
		"what follows":           {list("e", "E", "a.go", "1"), []string{"Dockerfile"}},
		"what follows by itself": {list("e", "D", "a.go", "1"), []string{"derived Dockerfile"}},
	} {
		if diff := cmp.Diff(tc.want, tc.now.Changed(list("d", "D", "a.go", "1"))); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
}

// A record is small, however many files there are, and knows all the same that
// one of them changed.
func TestRecordOfManyFiles(t *testing.T) {
	t.Parallel()
	var list inputs.List
	for i := range 20_000 {
		list = append(list, inputs.Input{Kind: inputs.File, Name: fmt.Sprint(i), Value: "same"})
	}
	before := inputs.New(list)
	if content, err := before.Encode(); err != nil || len(content) > 1000 {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	list[19_999].Value = "changed"
	if diff := cmp.Diff([]string{"context"}, inputs.New(list).Changed(before)); diff != "" {
		t.Error(diff)
	}
}
