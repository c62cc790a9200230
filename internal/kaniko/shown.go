package kaniko

import (
	"bytes"
	"io"
	"regexp"
	"strings"

	"github.com/slipway-ci/slipway/internal/plan"
)

// shown passes kaniko's log on with the user's own instructions in the place of
// those that carry out operations, and without what kaniko says of these.
type shown struct {
	out  io.Writer
	plan *plan.Plan
	line []byte // the start of a line that may be kaniko's
	mid  bool   // the line that is being written has been let through
}

// info starts a line of kaniko's log, once it has no colour.
var info = []byte("INFO[")

// ofKaniko tells a line's text from its level.
var ofKaniko = regexp.MustCompile(`^(INFO\[[^\]]*\] )(.*?) *\n$`)

func (s *shown) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		complete := end > 0
		if !complete {
			end = len(rest)
		}
		part := rest[:end]
		rest = rest[end:]
		if !s.mid {
			s.line = append(s.line, part...)
			if n := min(len(s.line), len(info)); bytes.Equal(s.line[:n], info[:n]) && !complete && len(s.line) < maxLine {
				continue
			}
			part, s.line = s.replaced(s.line), nil
		}
		s.mid = !complete
		if _, err := s.out.Write(part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close lets through the start of a line that never ended.
func (s *shown) Close() error {
	_, err := s.out.Write(s.line)
	s.line = nil
	return err
}

// replaced returns what is shown of a line.
func (s *shown) replaced(line []byte) []byte {
	match := ofKaniko.FindSubmatch(line)
	if match == nil {
		return line
	}
	level, text := string(match[1]), string(match[2])
	if rest, ok := strings.CutPrefix(text, "RUN "); ok {
		for _, run := range s.plan.Runs {
			if (len(run.Operations) > 0 || run.Keeps) && strings.HasSuffix(rest, run.As) {
				var lines strings.Builder
				for _, instruction := range run.Operations {
					lines.WriteString(level + instruction + "\n")
				}
				return []byte(lines.String())
			}
		}
	}
	if s.plan.Operate == "" {
		return line
	}
	for _, own := range []string{"Cmd: " + s.plan.Operate, "Args: [operation ", "Running: [" + s.plan.Operate + " "} {
		if strings.HasPrefix(text, own) {
			return nil
		}
	}
	if s.plan.Kept != "" && (strings.HasPrefix(text, "COPY --from=") && strings.Contains(text, " "+s.plan.Kept+"/") || strings.HasPrefix(text, "Saving file "+strings.TrimPrefix(s.plan.Kept, "/")+"/")) {
		return nil
	}
	return line
}
