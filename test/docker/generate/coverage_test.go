package generate

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// features are what cases are to have in them, each as what an instruction is
// written like.
var features = []struct{ name, like string }{
	{"RUN, several commands", `^RUN [^\[<]* && `},
	{"RUN, joined by ;", `^RUN [^<\[]*; `},
	{"RUN as JSON", `^RUN \[`},
	{"RUN heredoc, unquoted", `^RUN <<EO`},
	{"RUN heredoc, quoted", `^RUN <<['"]`},
	{"RUN heredoc, <<-", `^RUN <<-`},
	{"RUN heredoc with a shebang", `(?s)^RUN <<.*\n#!/`},
	{"RUN heredoc that fails within", `(?s)^RUN <<.*\nfalse\n`},
	{"RUN cat <<EOF > file", `^RUN .*cat <<`},
	{"RUN sh <<EOF", `^RUN sh <<`},
	{"RUN, quoted blanks", `^RUN .*'[^']* [^']*'`},
	{"RUN ln", `^RUN .*ln /`},
	{"RUN ln -s", `^RUN .*ln -s`},
	{"RUN rm", `^RUN .*rm `},
	{"RUN: a file for a folder", `^RUN .*rm -rf (.*) && echo instead`},
	{"RUN: a folder for a file", `^RUN .*rm (-f )?.* && mkdir`},
	{"RUN mv", `^RUN .*mv `},
	{"RUN cp -a", `^RUN .*cp -a `},
	{"RUN chown", `^RUN .*chown `},
	{"RUN chmod of setuid", `^RUN .*chmod 4755`},
	{"RUN chmod of sticky", `^RUN .*chmod 1777`},
	{"RUN mkdir -m", `^RUN .*mkdir -m`},
	{"RUN sees id", `^RUN .*\bid > `},
	{"RUN sees pwd", `^RUN .*\bpwd > `},
	{"RUN sees umask", `^RUN .*\bumask > `},
	{"RUN sees the environment", `^RUN .*env \| grep`},
	{"RUN sees modes and owners", `^RUN .*stat -c`},
	{"RUN sees a variable", `^RUN .*echo "\$`},
	{"RUN adds a user", `^RUN .*>> /etc/passwd`},
	{"RUN --mount=type=bind of the context", `^RUN --mount=type=bind[^ ]* `},
	{"RUN --mount without a type", `^RUN --mount=(source|src|from|target|dst|rw|ro|readonly)`},
	{"RUN --mount of a stage", `^RUN .*--mount=[^ ]*from=`},
	{"RUN --mount with a source", `^RUN .*--mount=[^ ]*(source|src)=`},
	{"RUN --mount to a relative path", `^RUN .*--mount=[^ ]*(target|dst|destination)=[.a-z]`},
	{"RUN --mount=rw", `^RUN .*--mount=[^ ]*(,rw|readwrite)`},
	{"RUN --mount=type=cache", `^RUN .*--mount=[^ ]*type=cache`},
	{"RUN --mount=type=cache with an owner", `^RUN .*--mount=type=cache[^ ]*uid=`},
	{"RUN --mount=type=tmpfs", `^RUN .*--mount=[^ ]*type=tmpfs`},
	{"RUN --mount with quotes", `^RUN .*--mount=[^ ]*"/`},
	{"RUN --mount with a variable", `^RUN .*--mount=[^ ]*\$\{`},
	{"RUN with two mounts", `^RUN --mount.* --mount`},
	{"RUN --network", `^RUN --network`},
	{"COPY of several", `^COPY (--\S+ )*[^\[<-]\S* \S+ \S+\n`},
	{"COPY as JSON", `^COPY (--\S+ )*\[`},
	{"COPY of a name with a blank", `^COPY (--\S+ )*\["[^"]* [^"]*",`},
	{"COPY .", `^COPY (--\S+ )*\. `},
	{"COPY to .", `^COPY .* \.\n`},
	{"COPY of a pattern", `^COPY (--\S+ )*\S*\*`},
	{"COPY of a folder/.", `^COPY (--\S+ )*\S+/\. `},
	{"COPY --from a name", `^COPY .*--from=[b-zA-Z][a-z.-]+ `},
	{"COPY --from a number", `^COPY .*--from=\d`},
	{"COPY --from an image", `^COPY .*--from=alpine:`},
	{"COPY --from in capitals", `^COPY .*--from=[A-Z]{2}`},
	{"COPY --chown by name", `^COPY .*--chown=app `},
	{"COPY --chown by name and group", `^COPY .*--chown=app:`},
	{"COPY --chown in figures", `^COPY .*--chown=\d+:\d+`},
	{"COPY --chown of a uid", `^COPY .*--chown=\d+ `},
	{"COPY --chown of a user that RUN added", `^COPY .*--chown=svc`},
	{"COPY --chown by variable", `^COPY .*--chown=\$`},
	{"COPY --chmod in figures", `^COPY .*--chmod=\d`},
	{"COPY --chmod in letters", `^COPY .*--chmod=[a-z+]`},
	{"COPY --chmod by variable", `^COPY .*--chmod=\$`},
	{"COPY --link", `^COPY .*--link`},
	{"COPY --link --chown", `^COPY .*(--link.*--chown|--chown.*--link)`},
	{"COPY --exclude", `^COPY .*--exclude`},
	{"COPY --parents", `^COPY .*--parents`},
	{"COPY --parents from within", `^COPY .*--parents.* \S+/\./`},
	{"COPY heredoc, unquoted", `^COPY .*<<[A-Z]`},
	{"COPY heredoc, quoted", `^COPY .*<<['"]`},
	{"COPY heredoc, <<-", `^COPY .*<<-`},
	{"COPY heredocs", `^COPY .*<<.*<<`},
	{"COPY heredoc with a variable", `(?s)^COPY [^\n]*<<[A-Z].*\n[^\n]*\$\{`},
	{"COPY from a variable", `^COPY (--\S+ )*[^-\s]*\$\S* \S+`},
	{"COPY to a variable", `^COPY .* \S*\$[^ ]*\n`},
	{"ADD of a file or folder", `^ADD (--\S+ )*(app.conf|static|a/|docs|private)`},
	{"ADD .tar", `^ADD .*files\.tar `},
	{"ADD .tgz", `^ADD .*files\.(tgz|tar\.gz)`},
	{"ADD .txz", `^ADD .*files\.(txz|tar\.xz)`},
	{"ADD .tzst", `^ADD .*files\.(tzst|tar\.zst)`},
	{"ADD of a tar by another name", `^ADD .*files\.bin`},
	{"ADD .gz of no tar", `^ADD .*data\.json\.gz`},
	{"ADD --chown", `^ADD .*--chown`},
	{"ADD --chmod", `^ADD .*--chmod`},
	{"ADD --link", `^ADD .*--link`},
	{"ADD heredoc", `^ADD .*<<`},
	{"ENV of several", `^ENV [A-Za-z_]+=\S* [A-Za-z_]+=`},
	{"ENV without =", `^ENV [A-Za-z_]+ `},
	{"ENV of a variable", `^ENV .*=\S*\$`},
	{"ENV PATH", `^ENV .*PATH=.*PATH`},
	{"ENV with quotes", `^ENV .*="`},
	{"ENV with an escape", `^ENV .*\\`},
	{"ENV ${V:-x}", `^ENV .*\$\{\w+:-`},
	{"ENV ${V:+x}", `^ENV .*\$\{\w+:\+`},
	{"ENV ${V#x} or ${V%x}", `^ENV .*\$\{\w+[#%]`},
	{"ENV ${V/x/y}", `^ENV .*\$\{\w+//?o/`},
	{"ARG without a value", `^ARG [A-Z_]+\n`},
	{"ARG with one", `^ARG [A-Za-z_]+=`},
	{"ARG of a variable", `^ARG .*=\S*\$`},
	{"ARG TARGETARCH", `^ARG .*TARGETARCH`},
	{"LABEL of several", `^LABEL \S+=\S+ \S+=`},
	{"LABEL of JSON", `^LABEL .*'\{"`},
	{"LABEL with an apostrophe", `^LABEL .*"it's"`},
	{"LABEL with quotes in quotes", `^LABEL .*\\"(hi|app|a)\\"`},
	{"LABEL without =", `^LABEL legacy `},
	{"LABEL of a variable", `^LABEL .*\$`},
	{"EXPOSE a range", `^EXPOSE .*8000-8002`},
	{"EXPOSE in capitals", `^EXPOSE .*TCP`},
	{"EXPOSE sctp", `^EXPOSE .*sctp`},
	{"EXPOSE a variable", `^EXPOSE .*\$`},
	{"USER by name", `^USER app\n`},
	{"USER with a group", `^USER app:docker`},
	{"USER in figures", `^USER \d+:\d+`},
	{"USER by variable", `^USER .*\$\{?[AO]`},
	{"USER that RUN added", `^USER svc`},
	{"WORKDIR, relative", `^WORKDIR [.a-z]`},
	{"WORKDIR with a slash at the end", `^WORKDIR .*/\n`},
	{"WORKDIR by variable", `^WORKDIR .*\$\{?[ADC]`},
	{"WORKDIR with a blank", `^WORKDIR .* `},
	{"WORKDIR /workspace", `^WORKDIR /workspace`},
	{"VOLUME", `^VOLUME /`},
	{"VOLUME as JSON", `^VOLUME \[`},
	{"VOLUME by variable", `^VOLUME .*\$`},
	{"ENTRYPOINT as JSON", `^ENTRYPOINT \[`},
	{"ENTRYPOINT, shell", `^ENTRYPOINT [^\[]`},
	{"CMD as JSON", `^CMD \["`},
	{"CMD, shell", `^CMD [^\[]`},
	{"CMD []", `^CMD \[\]`},
	{"CMD that looks like JSON", `^CMD \['`},
	{"HEALTHCHECK as JSON", `^HEALTHCHECK .*CMD \[`},
	{"HEALTHCHECK, shell", `^HEALTHCHECK .*CMD [^\[]`},
	{"HEALTHCHECK NONE", `^HEALTHCHECK NONE`},
	{"HEALTHCHECK --start-interval", `^HEALTHCHECK .*--start-interval`},
	{"SHELL", `^SHELL`},
	{"STOPSIGNAL", `^STOPSIGNAL`},
	{"ONBUILD RUN", `^ONBUILD RUN`},
	{"ONBUILD COPY", `^ONBUILD COPY`},
}

// ofCases are features of more than one instruction.
var ofCases = []struct {
	name string
	has  func(*Case) bool
}{
	{"one stage", func(c *Case) bool { return len(c.Stages) == 1 }},
	{"two stages", func(c *Case) bool { return len(c.Stages) == 2 }},
	{"three stages", func(c *Case) bool { return len(c.Stages) == 3 }},
	{"FROM a stage", func(c *Case) bool {
		return slices.ContainsFunc(c.Stages, func(s Stage) bool {
			return slices.ContainsFunc(c.Stages, func(b Stage) bool { return b.Name != "" && strings.EqualFold(b.Name, s.Base) })
		})
	}},
	{"FROM a stage with triggers", func(c *Case) bool {
		return slices.ContainsFunc(c.Stages, func(s Stage) bool {
			return slices.ContainsFunc(c.Stages, func(b Stage) bool {
				return b.Name != "" && strings.EqualFold(b.Name, s.Base) && slices.ContainsFunc(b.Body, func(i Instruction) bool { return i.OnBuild })
			})
		})
	}},
	{"FROM by ARG", func(c *Case) bool { return strings.Contains(c.Stages[0].Base, "$") }},
	{"FROM --platform", func(c *Case) bool { return c.Stages[0].Platform != "" }},
	{"scratch at last", func(c *Case) bool { return c.Stages[len(c.Stages)-1].Base == "scratch" }},
	{"target", func(c *Case) bool { return c.Target != "" }},
	{"build args", func(c *Case) bool { return len(c.BuildArgs) > 0 }},
	{"a stage's name in capitals", func(c *Case) bool {
		return slices.ContainsFunc(c.Stages, func(s Stage) bool { return s.Name != strings.ToLower(s.Name) })
	}},
	{"escape directive", func(c *Case) bool { return c.Escape != "" }},
	{"CRLF", func(c *Case) bool { return c.CRLF }},
	{"lower case", func(c *Case) bool { return hasInstruction(c, func(i Instruction) bool { return i.Lower }) }},
	{"comment", func(c *Case) bool { return hasInstruction(c, func(i Instruction) bool { return i.Comment != "" }) }},
	{"continued lines", func(c *Case) bool { return hasInstruction(c, func(i Instruction) bool { return i.Breaks }) }},
	{"a comment between them", func(c *Case) bool {
		return hasInstruction(c, func(i Instruction) bool { return i.Breaks && i.Inside != "" })
	}},
	{"ARG after ENV of its name", func(c *Case) bool { return twice(c, "ENV", "ARG") }},
	{"ENV after ARG of its name", func(c *Case) bool { return twice(c, "ARG", "ENV") }},
	{".dockerignore", func(c *Case) bool { return len(c.Ignore) > 0 }},
	{".dockerignore: a/*/c, !a/b", func(c *Case) bool { return slices.Contains(c.Ignore, "a/*/c") && slices.Contains(c.Ignore, "!a/b") }},
	{".dockerignore: **/*.md, !docs", func(c *Case) bool { return slices.Contains(c.Ignore, "**/*.md") && slices.Contains(c.Ignore, "!docs") }},
	{".dockerignore: all but", func(c *Case) bool { return slices.Contains(c.Ignore, "*") }},
	{".dockerignore: Dockerfile", func(c *Case) bool { return slices.Contains(c.Ignore, "Dockerfile") }},
	{".dockerignore: comment", func(c *Case) bool { return len(c.Ignore) > 0 && c.Ignore[0][:1] == "#" }},
	{"setuid in the context", func(c *Case) bool {
		return slices.ContainsFunc(c.Files, func(f File) bool { return f.Mode&0o4000 != 0 })
	}},
	{"empty folder in the context", func(c *Case) bool {
		return slices.ContainsFunc(c.Files, func(f File) bool { return f.Path == "empty" })
	}},
	{"COPY of a link", func(c *Case) bool {
		return hasInstruction(c, func(i Instruction) bool {
			return i.Name == "COPY" && !hasFlag(i, "--from") && slices.ContainsFunc(c.Files, func(f File) bool { return f.Kind == Symlink && f.Path == i.Words[0] })
		})
	}},
	{"COPY after VOLUME", func(c *Case) bool {
		for _, s := range c.Stages {
			v := slices.IndexFunc(s.Body, func(i Instruction) bool { return i.Name == "VOLUME" })
			if v >= 0 && slices.ContainsFunc(s.Body[v:], func(i Instruction) bool {
				return i.Name == "COPY" && strings.HasPrefix(i.Words[len(i.Words)-1], s.Body[v].Words[0])
			}) {
				return true
			}
		}
		return false
	}},
	{"COPY after USER", func(c *Case) bool {
		for _, s := range c.Stages {
			u := slices.IndexFunc(s.Body, func(i Instruction) bool { return i.Name == "USER" })
			if u >= 0 && slices.ContainsFunc(s.Body[u:], func(i Instruction) bool { return i.Name == "COPY" }) {
				return true
			}
		}
		return false
	}},
}

// twice tells whether a stage has a variable in two instructions, in that order.
func twice(c *Case, first, then string) bool {
	for _, s := range c.Stages {
		names := map[string]bool{}
		for _, i := range s.Body {
			for _, w := range i.Words {
				name, _, _ := strings.Cut(w, "=")
				if i.Name == then && names[name] {
					return true
				}
				if i.Name == first {
					names[name] = true
				}
			}
		}
	}
	return false
}

// TestCoverage has each feature occur in a few of the cases or more. With -v it
// prints in how many.
func TestCoverage(t *testing.T) {
	const fewest = 5
	counts := map[string]int{}
	like := make([]*regexp.Regexp, len(features))
	for n, f := range features {
		like[n] = regexp.MustCompile(f.like)
	}
	for _, base := range append([]string{"scratch"}, Bases...) {
		counts["FROM "+base] = 0
	}
	for _, c := range manyCases() {
		has := map[string]bool{}
		for _, s := range c.Stages {
			has["FROM "+s.Base] = true
		}
		for _, i := range c.instructions() {
			line := text(*i)
			for n, f := range features {
				if !has[f.name] && like[n].MatchString(line) {
					has[f.name] = true
				}
			}
		}
		for _, f := range ofCases {
			if f.has(c) {
				has[f.name] = true
			}
		}
		for name := range has {
			counts[name]++
		}
	}
	var names []string
	for _, f := range features {
		names = append(names, f.name)
	}
	for _, f := range ofCases {
		names = append(names, f.name)
	}
	for _, base := range append([]string{"scratch"}, Bases...) {
		names = append(names, "FROM "+base)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	for _, name := range names {
		if testing.Verbose() {
			fmt.Fprintf(w, "%s\t%d\n", name, counts[name])
		}
		if counts[name] < fewest {
			t.Errorf("%s: in %d of %d cases", name, counts[name], len(manyCases()))
		}
	}
}
