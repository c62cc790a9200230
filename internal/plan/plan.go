// Package plan is what the prepare step decides and the build and push steps
// obey: one struct in one file, on a volume that the build step mounts
// read-only. It holds no credential.
package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/step"
)

// Plan is everything that happens after prepare. Paths are absolute, and the
// same in each step.
type Plan struct {
	// Started is when prepare started; a build's time counts from here.
	Started time.Time `json:"started"`
	// Written is when it ended, as far as the plan can know: the time of the
	// file that Read has read.
	Written time.Time `json:"-"`

	// Tags are what the image is called in its repository, besides the tag
	// that the param image may have.
	Tags []string `json:"tags,omitempty"`

	// Unchanged is the image that an earlier build has made of the same
	// inputs. Then there is nothing to build, and what concerns kaniko means
	// nothing.
	Unchanged *Unchanged `json:"unchanged,omitempty"`
	// Record is where push keeps what this build was made from, and the file
	// that says so; nil for nowhere.
	Record *Record `json:"record,omitempty"`

	// Args are kaniko's arguments, Env what is added to its environment
	// (RUN instructions do not see it).
	Args []string          `json:"args"`
	Env  map[string]string `json:"env"`

	// Dockerfile is the user's, as they call it, and Runs are the instructions of
	// it that are a RUN to kaniko, in the file's order.
	Dockerfile string `json:"dockerfile"`
	Runs       []Run  `json:"runs,omitempty"`

	// Operate is the program that carries out operations, and Kept the folder for
	// what stages keep for others.
	Operate string `json:"operate,omitempty"`
	Kept    string `json:"kept,omitempty"`

	// ImageConfig is the image's configuration, by the OCI image specification,
	// but for rootfs, history and time, which push adds.
	ImageConfig json.RawMessage `json:"imageConfig,omitempty"`

	// What is set up in kaniko's container before it starts, for RUN
	// instructions to find. kaniko is told to ignore these paths, so none of
	// it reaches the image.
	// The toolchain comes first.
	Toolchain *Toolchain `json:"toolchain,omitempty"`
	Links     []Link     `json:"links"`
	Files     []File     `json:"files"`

	// Cache is what the build has of the cache volume; nil where none is bound.
	Cache *Cache `json:"cache,omitempty"`

	// Unused says which caches the build does not use, and why, for a person.
	Unused []string `json:"unused,omitempty"`
	// NoToolchain says why there is no Toolchain, for a person.
	NoToolchain string `json:"noToolchain,omitempty"`

	// Layout is the folder of the OCI image layout that kaniko leaves.
	Layout string `json:"layout"`

	// Reproducible says whether times are taken out of what kaniko leaves. Not
	// out of BaseLayers, the digests of the layers that are its final base's.
	Reproducible bool     `json:"reproducible"`
	BaseLayers   []string `json:"baseLayers,omitempty"`
	// Compression is the level of gzip for new layers, "1" to "9"; "" is 1.
	Compression string `json:"compression,omitempty"`
	// Recompress says that kaniko writes new layers in zstd, since they are
	// written once more without their times: they become gzip then.
	Recompress bool `json:"recompress,omitempty"`

	// Layers is kaniko's layer cache, nil for none.
	Layers *Layers `json:"layers,omitempty"`

	// ActionGraph is the pipe in which go commands of a RUN say what they
	// compiled, Compiled the file for what that comes to. Anything can write
	// to both: believe nothing of it.
	ActionGraph string `json:"actionGraph"`
	Compiled    string `json:"compiled"`
	// Modules is the module cache of the build; "" where each stage has its
	// own. Downloaded is a file for the number of modules that came into it.
	// Anything can write to both.
	Modules    string `json:"modules,omitempty"`
	Downloaded string `json:"downloaded"`

	// Times is a file for what the build step's time went to, as [Times].
	// Anything can write to it.
	Times string `json:"times"`
}

// Run is an instruction that is a RUN to kaniko.
type Run struct {
	Line int    `json:"line"` // in the user's Dockerfile
	Text string `json:"text"` // on one line; of a RUN without that word and its flags
	// As is what kaniko's Dockerfile has after RUN and its flags.
	As string `json:"as"`
	// Copies says that it is a COPY or an ADD, or keeps what a later one copies.
	Copies bool `json:"copies,omitempty"`
	// Keeps says that it keeps what later stages copy.
	Keeps bool `json:"keeps,omitempty"`
	// Operations are the instructions, on one line each, that it carries out as
	// operations; none for a RUN that is kaniko's own to carry out.
	Operations []string `json:"operations,omitempty"`
}

// String is the instruction for a person, "RUN go build".
func (r Run) String() string {
	if r.Copies {
		return r.Text
	}
	return "RUN " + r.Text
}

// Layers is kaniko's layer cache.
type Layers struct {
	Index  string             `json:"index"`  // the tag of its index, in a registry
	Folder layercache.Folder  `json:"folder"` // where kaniko finds and leaves entries. RUN instructions can write there
	Pulled []layercache.Entry `json:"pulled"` // what was there before kaniko started
	TTL    time.Duration      `json:"ttl"`
	// Run and Copy say which new layers are worth an entry: those of RUN, those of
	// COPY and ADD. Layers of a Keep never are, as it must be carried out.
	Run  bool `json:"run,omitempty"`
	Copy bool `json:"copy,omitempty"`
	// Used is a file for the keys that kaniko looked up. Anything can write to
	// it: believe nothing of it.
	Used string `json:"used"`
}

// Unchanged is an image that need not be built.
type Unchanged struct {
	Digest string    `json:"digest"` // in the repository that is pushed to
	Built  time.Time `json:"built"`
	By     string    `json:"by"` // the run that built it
}

// Record is what push keeps of a build's inputs.
type Record struct {
	Repository string `json:"repository"`
	Last       string `json:"last"` // the tag in Repository that the last record of this image has as well
	File       string `json:"file"` // as [github.com/slipway-ci/slipway/internal/inputs.Record] leaves it
}

// Cache is the cache volume, for the build step to hold what the build uses, and
// to keep the rest within its budget.
type Cache struct {
	Volume     string `json:"volume"`
	Toolchains string `json:"toolchains,omitempty"` // where the build step sees the volume's; "" for nowhere
	Size       int64  `json:"size,omitempty"`       // bytes that all caches may hold; 0 for as many as there is room for
	Repository string `json:"repository,omitempty"` // whose build it is
	GoBuild    string `json:"goBuild,omitempty"`    // the volume's GOCACHE; "" where it is not used
	GoMod      string `json:"goMod,omitempty"`      // and its GOMODCACHE

	KeepsCompiled bool `json:"keepsCompiled,omitempty"` // all go commands of the build keep in GoBuild what they compile

	Holds  []string `json:"holds,omitempty"`  // folders that must stay while the build lasts
	Leases []string `json:"leases,omitempty"` // files that keep them until the build step does
}

// Toolchain is Go: a folder at Path whose programs are copies and whose other
// entries are links, both of what is in Tree.
type Toolchain struct {
	Path string `json:"path"`
	Tree string `json:"tree"`
}

// Ignore makes kaniko neither write, scan nor delete path.
func (p *Plan) Ignore(path string) { p.Args = append(p.Args, "--ignore-path="+path) }

// Link is a symbolic link at Path to Target.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// File is a file at Path, readable by every user.
type File struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

const fileName = "plan.json"

// Write puts p into the folder dir.
func (p *Plan) Write(dir string) error {
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(p); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	if err := step.WriteFile(filepath.Join(dir, fileName), content.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

// Read takes the plan from the folder dir.
func Read(dir string) (*Plan, error) {
	path := filepath.Join(dir, fileName)
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the plan that the step prepare leaves: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	var p Plan
	if err := decoder.Decode(&p); err != nil {
		return nil, fmt.Errorf("read the plan %s: %w; are all steps of one release?", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the plan that the step prepare leaves: %w", err)
	}
	p.Written = info.ModTime()
	return &p, nil
}
