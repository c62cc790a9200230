package prepare_test

import (
	"strings"
	"testing"
)

// Where go commands may not see the flag that makes them leave an account, a
// program between them and their cache does.
func TestGoCommandsWithFlagsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for change, want := range map[string]bool{
		"":                               false,
		"ENV GOFLAGS=-mod=vendor":        true,
		"ARG GOFLAGS=-trimpath":          true,
		"RUN GOFLAGS=-mod=mod go vet":    true,
		"RUN go env -w GOFLAGS=-mod=mod": true,
		"RUN <<EOF\nexport GOFLAGS=-mod=mod\nEOF": true,
		"LABEL flags=GOFLAGS":                     false,
	} {
		p, _ := s.run(t, strings.Replace(build, "COPY . .", "COPY . .\n"+change, 1))
		line := "GOCACHEPROG=" + s.path("prepared/bin/prepare") + " go-cache " + p.ActionGraph + "\n"
		if settings := carrier(t, p).Content; strings.Contains(settings, line) != want || strings.Contains(settings, "GOCACHEPROG") != want {
			t.Errorf("with %q the settings are\n%s", change, settings)
		}
	}
	other, _ := s.run(t, strings.Replace(build, "FROM alpine\n", "FROM alpine\nRUN GOFLAGS=-v go build\nFROM alpine AS last\n", 1))
	if settings := carrier(t, other).Content; strings.Contains(settings, "GOCACHEPROG") {
		t.Errorf("for a stage that is not built the settings are\n%s", settings)
	}
}
