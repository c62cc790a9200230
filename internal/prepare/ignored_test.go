package prepare_test

import (
	"os"
	"strings"
	"testing"
)

// What is copied to a path that kaniko ignores is told.
func TestCopiesToIgnoredPaths(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ignored = []string{"/var/cache/"}
	if err := os.WriteFile(s.path("source/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const dropped = ": kaniko drops folders that are copied there, and nothing there is in the image\n"
	for instruction, want := range map[string]string{
		"COPY file /var/cache/app/":      "Dockerfile:2: COPY copies to /var/cache/app: the param ignore-paths has /var/cache/" + dropped,
		"COPY file /root/.config/go/env": "Dockerfile:2: COPY copies to /root/.config/go/env: that is where Go's settings are for this build" + dropped,
		"COPY file /root/.config/app":    "",
	} {
		_, log := s.run(t, "FROM alpine\n"+instruction+"\n")
		if !strings.Contains(log, want) || strings.Contains(log, dropped) != (want != "") {
			t.Errorf("%s:\n%s\nwant %q", instruction, log, want)
		}
	}
}
