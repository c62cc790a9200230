package dockerfile

import (
	"slices"
	"testing"
)

func TestAssignments(t *testing.T) {
	t.Parallel()
	for script, want := range map[string][]string{
		`GOCACHE=/c go build`:                            {"GOCACHE"},
		`A=1 B="x y" go build; C=2`:                      {"A", "B", "C"},
		`cd /src && GOFLAGS=-mod=mod make`:               {"GOFLAGS"},
		`export A=1 B`:                                   {"A"},
		`env -i A=1 go build`:                            {"A"},
		`go env -w GOPROXY=off GOFLAGS=-v`:               {"GOPROXY", "GOFLAGS"},
		`if true; then A=1 go build; fi`:                 {"A"},
		`(A=1; go build)`:                                {"A"},
		`sh -c 'A=1 go build'`:                           {"A"},
		`bash -ec "A=1 go build"`:                        nil, // not worth more rules
		`echo "GOCACHE=$GOCACHE"`:                        nil,
		`echo GOCACHE=$GOCACHE`:                          nil,
		`go build -ldflags "-X main.v=1" # GOFLAGS=-v x`: nil,
		`make GOFLAGS=-v`:                                nil, // make's own
		`"unclosed A=1`:                                  nil,
		`a \`:                                            nil,
	} {
		if got := assignments(script); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
}
