package oracle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxDifferences is how many differences are told.
const maxDifferences = 20

// Ranks of differences, the most telling first.
const (
	rankBroken = iota
	rankMissing
	rankContent
	rankConfig
	rankOwner
	rankMode
	rankLinks
)

type difference struct {
	rank int
	text string
}

// notCompared are the fields of a configuration beside config that say when and
// how an image was made, and not what it is.
var notCompared = map[string]string{
	"created": "the time of the build",
	"history": "each builder has its own words for an instruction",
	"rootfs":  "layers are compared by what they make together",
}

// notComparedOfConfig are fields of config that no container can tell.
var notComparedOfConfig = map[string]string{
	"ArgsEscaped": "OCI's image specification has it for Windows alone, and as deprecated; BuildKit sets it with each CMD",
}

// leftByRuntime are the mount points that BuildKit's runc makes in the root of a
// RUN, where the base has none of them, and that stay. Each container of the
// image gets them from its own runtime. Of what else it mounts (/etc/hosts,
// /etc/resolv.conf, targets of RUN --mount) BuildKit removes what it made.
var leftByRuntime = []string{"dev", "proc", "sys"}

// ofRuntime reports whether a file is such a mount point, and nothing else.
func (t *tree) ofRuntime(name string) bool {
	file := t.files[name]
	return slices.Contains(leftByRuntime, name) && file.kind == tar.TypeDir && file.mode == 0o755 && file.uid == 0 && file.gid == 0 && len(t.below(name)) == 0
}

// isEmptyWorkspace reports whether a file is what WORKDIR /workspace makes. Slipway
// cannot have it in an image, and its log says so.
func (t *tree) isEmptyWorkspace(name string) bool {
	return name == "workspace" && t.files[name].kind == tar.TypeDir && len(t.below(name)) == 0
}

// sharedLayers returns how many of their first layers two images share: those of
// the base image. A link from a new file to one of these is not compared, since
// it depends on BuildKit's snapshotter whether the layer has both.
func sharedLayers(a, b v1.Image) (int, error) {
	first, err := a.ConfigFile()
	if err != nil {
		return 0, err
	}
	second, err := b.ConfigFile()
	if err != nil {
		return 0, err
	}
	n := 0
	for n < min(len(first.RootFS.DiffIDs), len(second.RootFS.DiffIDs)) && first.RootFS.DiffIDs[n] == second.RootFS.DiffIDs[n] {
		n++
	}
	return n, nil
}

// compare tells how ours, which who made, differs from what BuildKit made.
func compare(theirs, ours v1.Image, who string) ([]string, error) {
	base, err := sharedLayers(theirs, ours)
	if err != nil {
		return nil, err
	}
	their, err := flatten(theirs, base)
	if err != nil {
		return nil, fmt.Errorf("read BuildKit's image: %w", err)
	}
	var all []difference
	our, err := flatten(ours, base)
	if err != nil {
		return []string{fmt.Sprintf("the image of %s cannot be unpacked: %v", who, err)}, nil
	}
	for _, problem := range our.problems {
		if !slices.Contains(their.problems, problem) {
			all = append(all, difference{rankBroken, "the image of " + who + ": " + problem})
		}
	}
	all = append(all, compareTrees(their, our, who)...)
	configs, err := compareConfigs(theirs, ours, who)
	if err != nil {
		return nil, err
	}
	all = append(all, configs...)
	slices.SortStableFunc(all, func(a, b difference) int { return a.rank - b.rank })
	var told []string
	for n, one := range all {
		if n == maxDifferences-1 && len(all) > maxDifferences {
			told = append(told, fmt.Sprintf("and %d more", len(all)-n))
			break
		}
		told = append(told, one.text)
	}
	return told, nil
}

func compareTrees(theirs, ours *tree, who string) []difference {
	names := slices.Collect(maps.Keys(theirs.files))
	names = slices.AppendSeq(names, maps.Keys(ours.files))
	slices.Sort(names)
	names = slices.Compact(names)
	var found []difference
	told := map[string]bool{} // folders that only one side has
	for _, name := range names {
		if name == "" {
			// An archive need not have the root, and runtimes have their own.
			continue
		}
		their, ok := theirs.files[name]
		our, too := ours.files[name]
		if ok && !too && (theirs.ofRuntime(name) || theirs.isEmptyWorkspace(name)) {
			continue
		}
		if !ok || !too {
			side, file := "BuildKit", their
			if !ok {
				side, file = who, our
			}
			told[name] = true
			if !told[path.Dir(name)] {
				found = append(found, difference{rankMissing, fmt.Sprintf("/%s: only in the image of %s: %s", name, side, file)})
			}
			continue
		}
		found = append(found, compareFiles("/"+name, their, our, who)...)
	}
	return found
}

func compareFiles(name string, their, our *inode, who string) []difference {
	var found []difference
	differ := func(rank int, what string, their, our any) {
		if !reflect.DeepEqual(their, our) {
			found = append(found, difference{rank, fmt.Sprintf("%s: %s: %v with BuildKit, %v with %s", name, what, their, our, who)})
		}
	}
	if their.kind != our.kind {
		differ(rankContent, "kind", their.String(), our.String())
		return found
	}
	switch {
	case their.sum != our.sum:
		a, b := unlike(their.head, our.head)
		differ(rankContent, "content", fmt.Sprintf("%s (%d bytes)", a, their.size), fmt.Sprintf("%s (%d bytes)", b, our.size))
	case their.kind == tar.TypeSymlink:
		differ(rankContent, "target", their.target, our.target)
	}
	differ(rankContent, "device", [2]int64{their.major, their.minor}, [2]int64{our.major, our.minor})
	differ(rankOwner, "owner", fmt.Sprintf("%d:%d", their.uid, their.gid), fmt.Sprintf("%d:%d", our.uid, our.gid))
	if their.kind != tar.TypeSymlink { // whose mode nothing can set, or ask for
		differ(rankMode, "mode", fmt.Sprintf("%04o", their.mode), fmt.Sprintf("%04o", our.mode))
	}
	for _, key := range slices.Compact(slices.Sorted(maps.Keys(their.xattrs))) {
		if _, ok := our.xattrs[key]; !ok {
			differ(rankMode, "attribute "+key, fmt.Sprintf("%q", their.xattrs[key]), "none")
		} else {
			differ(rankMode, "attribute "+key, fmt.Sprintf("%q", their.xattrs[key]), fmt.Sprintf("%q", our.xattrs[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(our.xattrs)) {
		if _, ok := their.xattrs[key]; !ok {
			differ(rankMode, "attribute "+key, "none", fmt.Sprintf("%q", our.xattrs[key]))
		}
	}
	if their.kind != tar.TypeDir && len(their.names) > 0 && len(our.names) > 0 { // none is a file of the base's
		differ(rankLinks, "names of the file", their.names, our.names)
	}
	return found
}

// unlike are the first lines that differ, quoted.
func unlike(their, our []byte) (string, string) {
	a, b := bytes.SplitAfter(their, []byte("\n")), bytes.SplitAfter(our, []byte("\n"))
	for n := 0; n < len(a) && n < len(b); n++ {
		if !bytes.Equal(a[n], b[n]) {
			return quoted(a[n]), quoted(b[n])
		}
	}
	return quoted(their), quoted(our)
}

func quoted(line []byte) string {
	const most = 120
	if len(line) > most {
		return fmt.Sprintf("%q…", line[:most])
	}
	return fmt.Sprintf("%q", line)
}

var kinds = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "folder", tar.TypeSymlink: "symbolic link", tar.TypeChar: "character device",
	tar.TypeBlock: "block device", tar.TypeFifo: "named pipe",
}

func (i *inode) String() string {
	kind, ok := kinds[i.kind]
	if !ok {
		kind = fmt.Sprintf("entry of type %q", i.kind)
	}
	text := fmt.Sprintf("%s, mode %04o, owner %d:%d", kind, i.mode, i.uid, i.gid)
	switch i.kind {
	case tar.TypeReg:
		text += ", content " + quoted(i.head)
	case tar.TypeSymlink:
		text += ", to " + i.target
	}
	return text
}

func compareConfigs(theirs, ours v1.Image, who string) ([]difference, error) {
	var raw [2]map[string]any
	for n, image := range []v1.Image{theirs, ours} {
		content, err := image.RawConfigFile()
		if err != nil {
			return nil, fmt.Errorf("read an image's configuration: %w", err)
		}
		if err := json.Unmarshal(content, &raw[n]); err != nil {
			return nil, fmt.Errorf("read an image's configuration: %w", err)
		}
	}
	found := compareFields("", raw[0], raw[1], notCompared, who)
	return append(found, compareFields("config.", fields(raw[0]["config"]), fields(raw[1]["config"]), notComparedOfConfig, who)...), nil
}

func fields(value any) map[string]any {
	object, _ := value.(map[string]any)
	return object
}

// compareFields compares JSON objects. What is empty is as good as absent: no
// runtime tells one from the other.
func compareFields(prefix string, theirs, ours map[string]any, but map[string]string, who string) []difference {
	keys := slices.Collect(maps.Keys(theirs))
	keys = slices.AppendSeq(keys, maps.Keys(ours))
	slices.Sort(keys)
	var found []difference
	for _, key := range slices.Compact(keys) {
		if _, ok := but[key]; ok || prefix == "" && key == "config" {
			continue
		}
		their, our := theirs[key], ours[key]
		if absent(their) && absent(our) || reflect.DeepEqual(their, our) {
			continue
		}
		found = append(found, difference{rankConfig, fmt.Sprintf("%s%s: %s with BuildKit, %s with %s", prefix, key, inJSON(their), inJSON(our), who)})
	}
	return found
}

func absent(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == ""
	case bool:
		return !value
	case float64:
		return value == 0
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	}
	return false
}

func inJSON(value any) string {
	if value == nil {
		return "nothing"
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
