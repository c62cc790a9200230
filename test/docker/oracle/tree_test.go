package oracle

import (
	"archive/tar"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

func TestFlatten(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		layers [][]node
		want   []string // "NAME" or "NAME=CONTENT"
		says   string   // one of the problems
	}{
		"a file over a file": {
			layers: [][]node{{text("a", "1")}, {text("a", "2")}},
			want:   []string{"a=2"},
		},
		"a whiteout": {
			layers: [][]node{{folder("d", 0o755), text("d/a", "1"), text("d/b", "2")}, {text("d/.wh.a", "")}},
			want:   []string{"d", "d/b=2"},
		},
		"a whiteout of a folder": {
			layers: [][]node{{folder("d", 0o755), text("d/a", "1")}, {text(".wh.d", "")}},
		},
		"an opaque folder keeps what its layer has": {
			layers: [][]node{{folder("d", 0o755), text("d/a", "1")}, {folder("d", 0o700), text("d/b", "2"), text("d/.wh..wh..opq", "")}},
			want:   []string{"d", "d/b=2"},
		},
		"a file over a folder": {
			layers: [][]node{{folder("d", 0o755), text("d/a", "1")}, {text("d", "file")}},
			want:   []string{"d=file"},
		},
		"a folder over a folder": {
			layers: [][]node{{folder("d", 0o755), text("d/a", "1")}, {folder("d", 0o700)}},
			want:   []string{"d", "d/a=1"},
		},
		"below a link": {
			layers: [][]node{{folder("run", 0o755), folder("var", 0o755), link("var/run", "/run")}, {text("var/run/a", "1")}},
			want:   []string{"run", "run/a=1", "var", "var/run"},
		},
		"a hard link": {
			layers: [][]node{{text("a", "1")}, {hardLink("b", "a")}},
			want:   []string{"a=1", "b=1"},
		},
		"an absolute hard link": {
			layers: [][]node{{text("a", "1"), hardLink("b", "/a")}},
			want:   []string{"a=1", "b=1"},
			says:   "/b is a hard link with the absolute name /a",
		},
		"a folder without an entry": {
			layers: [][]node{{text("d/a", "1")}},
			want:   []string{"d", "d/a=1"},
			says:   "/d has no entry of its own",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := imageFrom(t, tc.layers...)
			tree, err := flatten(image, 0)
			if err != nil {
				t.Fatal(err)
			}
			if os.Getuid() == 0 {
				if problems, err := readBack(t.Context(), image); err != nil || len(problems) > 0 {
					t.Errorf("read back: %q, %v", problems, err)
				}
			}
			var got []string
			for _, name := range slices.Sorted(maps.Keys(tree.files)) {
				file := tree.files[name]
				switch {
				case name == "":
				case file.kind == tar.TypeReg:
					got = append(got, name+"="+string(file.head))
				default:
					got = append(got, name)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if problems := strings.Join(tree.problems, "\n"); !strings.Contains(problems, tc.says) || tc.says == "" && problems != "" {
				t.Errorf("problems %q, want %q", problems, tc.says)
			}
		})
	}
}

func TestHardLinkToNothing(t *testing.T) {
	t.Parallel()
	_, err := flatten(imageFrom(t, []node{hardLink("b", "a")}), 0)
	if err == nil || !strings.Contains(err.Error(), "hard link to a, which is not there") {
		t.Errorf("got %v", err)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	base := []node{folder("d", 0o755), text("d/a", "one\ntwo\n"), hardLink("d/b", "d/a"), link("l", "d")}
	for name, tc := range map[string]struct {
		theirs, ours []node
		want         string
	}{
		"nothing":      {base, base, ""},
		"content":      {base, replaced(base, text("d/a", "one\n2\n")), `/d/a: content: "two\n" (8 bytes) with BuildKit, "2\n" (6 bytes) with Slipway`},
		"mode":         {base, replaced(base, folder("d", 0o2755)), "/d: mode: 0755 with BuildKit, 2755 with Slipway"},
		"owner":        {base, replaced(base, owned(folder("d", 0o755), 1, 2)), "/d: owner: 0:0 with BuildKit, 1:2 with Slipway"},
		"link":         {base, replaced(base, link("l", "/d")), "/l: target: d with BuildKit, /d with Slipway"},
		"hard link":    {base, replaced(base, text("d/b", "one\ntwo\n")), "/d/a: names of the file: [d/a d/b] with BuildKit, [d/a] with Slipway"},
		"attribute":    {base, replaced(base, capable(text("d/a", "one\ntwo\n"))), "/d/a: attribute security.capability: none with BuildKit"},
		"kind":         {base, replaced(base, text("l", "")), `/l: kind: symbolic link, mode 0777, owner 0:0, to d with BuildKit, file, mode 0644, owner 0:0, content "" with Slipway`},
		"missing":      {base, base[3:], "/d: only in the image of BuildKit: folder, mode 0755, owner 0:0"},
		"mount points": {append(slices.Clone(base), folder("proc", 0o755), folder("sys", 0o755)), base, ""},
		"more there":   {append(slices.Clone(base), folder("proc", 0o755), text("proc/x", "")), base, "/proc: only in the image of BuildKit"},
		"of Slipway":   {base, append(slices.Clone(base), folder("proc", 0o755)), "/proc: only in the image of Slipway"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := compare(imageFrom(t, tc.theirs), imageFrom(t, tc.ours), "Slipway")
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == "" && len(got) > 0 || !strings.Contains(strings.Join(got, "\n"), tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestCompareConfigurations(t *testing.T) {
	t.Parallel()
	image := func(config v1.Config) v1.Image {
		made, err := mutate.Config(empty.Image, config)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	for name, tc := range map[string]struct {
		theirs, ours v1.Config
		want         []string
	}{
		"empty is absent":     {v1.Config{Cmd: []string{}, Labels: map[string]string{}}, v1.Config{}, nil},
		"for Windows":         {v1.Config{ArgsEscaped: true}, v1.Config{}, nil},
		"a variable":          {v1.Config{Env: []string{"A=1"}}, v1.Config{Env: []string{"A=2"}}, []string{`config.Env: ["A=1"] with BuildKit, ["A=2"] with Slipway`}},
		"only one has a user": {v1.Config{User: "app"}, v1.Config{}, []string{`config.User: "app" with BuildKit, nothing with Slipway`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := compare(image(tc.theirs), image(tc.ours), "Slipway")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// replaced has other nodes in the place of those of the same name.
func replaced(nodes []node, changed ...node) []node {
	made := slices.Clone(nodes)
	for _, one := range changed {
		at := slices.IndexFunc(made, func(n node) bool { return strings.TrimSuffix(n.Name, "/") == strings.TrimSuffix(one.Name, "/") })
		made[at] = one
	}
	return made
}

func imageFrom(t *testing.T, layers ...[]node) v1.Image {
	t.Helper()
	var image = empty.Image
	for _, nodes := range layers {
		var err error
		if image, err = with(image, nodes...); err != nil {
			t.Fatal(err)
		}
	}
	return image
}
