package dockerfile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/dockerfile"
)

// TestRuns: those that are carried out, with their lines in the source, whatever
// deriving does to the lines.
func TestRuns(t *testing.T) {
	t.Parallel()
	runs := derived(t, `FROM golang AS base
ONBUILD RUN echo onbuild

FROM golang AS unneeded
RUN echo unneeded

FROM base AS build
COPY --from=alpine /etc/os-release /
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download && \
    # and then
    go build -o /app .
RUN ["go", "version"]
RUN <<EOF
go env
EOF

FROM scratch
COPY --from=build /app /app
`, "", nil).Runs()
	want := []dockerfile.Run{
		{Line: 2, Text: "echo onbuild"},
		{Line: 9, Text: "go mod download &&     go build -o /app ."},
		{Line: 13, Text: `["go", "version"]`},
		{Line: 14, Text: "<<EOF"},
	}
	if diff := cmp.Diff(want, runs); diff != "" {
		t.Error(diff)
	}
}
