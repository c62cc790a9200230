package dockerfile

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keep is a Pin that pins nothing.
func keep(_ context.Context, image, _ string) (string, error) { return image, nil }

func TestErrorNamesFileLineProblemAndFix(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]Error{
		"build/Dockerfile:7: no such stage; add it": {Name: "build/Dockerfile", Line: 7, Problem: "no such stage", Fix: "add it"},
		"Dockerfile: no FROM":                       {Name: "Dockerfile", Problem: "no FROM"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLineTooLong(t *testing.T) {
	t.Parallel()
	_, err := Parse("Dockerfile", []byte("FROM golang\nRUN "+strings.Repeat("x", 1<<16)+"\n"))
	want := "Dockerfile:2: the line is longer than 65536 bytes; break it with a line continuation"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNothingToChange(t *testing.T) {
	t.Parallel()
	source := "FROM golang:1.26 AS build\nRUN true"
	f, err := Parse("Dockerfile", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.Derive(t.Context(), Options{Platform: "linux/amd64", Pin: keep})
	if err != nil {
		t.Fatal(err)
	}
	if string(d.Content) != source || len(d.Changes) > 0 || d.Diff() != "" {
		t.Errorf("got %q, %v, diff %q", d.Content, d.Changes, d.Diff())
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	d, _, err := derive(t.Context(), []byte("# syntax=docker/dockerfile:1\n\n# The app.\nFROM golang:1.26\nRUN true\nRUN false\n"), Options{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	want := `--- Dockerfile
+++ Dockerfile (as built)
@@ -3,3 +3,3 @@
 # The app.
-FROM golang:1.26
+FROM golang@sha256:cb1af413
 RUN true
`
	if diff := cmp.Diff(want, d.Diff()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A registry that does not answer is no fault of the Dockerfile: the error
// wraps Pin's and says which line asks for the image.
func TestPinFails(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	for want, source := range map[string]string{
		"Dockerfile:1: base image golang: connection refused":                                          "FROM golang\n",
		"Dockerfile:2: COPY --from=biuld: no stage has this name, and as an image: connection refused": "FROM scratch\nCOPY --from=biuld /a /a\n",
	} {
		f, err := Parse("Dockerfile", []byte(source))
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Derive(t.Context(), Options{Pin: func(context.Context, string, string) (string, error) { return "", refused }})
		var finding *Error
		if !errors.Is(err, refused) || errors.As(err, &finding) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Each image may be far away: all are asked for before the first has answered.
// Of several that cannot be had, the error is of the first in the file.
func TestPinsAreAskedForAtOnce(t *testing.T) {
	t.Parallel()
	f, err := Parse("Dockerfile", []byte("FROM golang AS build\nCOPY --from=busybox /bin/sh /sh\nFROM alpine\nCOPY --from=build /sh /sh\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("it was asked for alone"))
	defer cancel()
	var asked atomic.Int32
	all := make(chan struct{})
	_, err = f.Derive(ctx, Options{Pin: func(ctx context.Context, image, _ string) (string, error) {
		if asked.Add(1) == 3 {
			close(all)
		}
		select {
		case <-all:
			return "", errors.New("there is no " + image)
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}})
	if want := "Dockerfile:1: base image golang: there is no golang"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMentions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"/workspace":                     true,
		"cd /workspace && make":          true,
		"-o=/workspace/app":              true,
		"PATH=/bin:/workspace/bin":       true,
		`["ls","/workspace"]`:            true,
		"cd //workspace":                 true,
		"cd ../workspace":                true,
		"rm -r /workspace*":              true,
		"${DIR:-/workspace}":             true,
		"/workspaces":                    false,
		"/workspace-old /workspace.d":    false,
		"data/workspace ./workspace":     false,
		"$HOME/workspace ${X}/workspace": false,
		"https://workspace/x":            false,
		"github.com/workspace/x":         false,
	} {
		if got := mentions(text, "/workspace") >= 0; got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{
		"/":                 true,
		"/*":                true,
		"/work*":            true,
		"/workspace":        true,
		"/work*/app":        true,
		"/w/workspace":      false,
		"/bin":              false,
		"/workspace-old/me": false,
	} {
		if got := covers(pattern, "/workspace"); got != want {
			t.Errorf("%q: got %t, want %t", pattern, got, want)
		}
	}
}
