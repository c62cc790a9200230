package inputs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-ci/slipway/internal/step"
)

// MediaType is a record's, as the one layer of an OCI artifact.
const MediaType = "application/vnd.slipway.inputs.v1+json"

// tagPrefix is what all tags of records begin with.
const tagPrefix = "slipway-inputs-"

// Record says which image was built from which inputs.
type Record struct {
	Inputs string    `json:"inputs"` // the digest of their list
	Image  string    `json:"image"`  // the digest of the image's manifest
	Built  time.Time `json:"built"`
	By     string    `json:"by"` // the run that built it
	// Parts are short hashes of the inputs, for a person to see what has
	// changed since.
	Parts map[string]string `json:"parts"`
}

// maxParts is how many inputs a record lists: beyond that, the files of the
// context are one.
const maxParts = 5000

// partLength is what is kept of a part's hash. It tells apart what changed by
// itself; that nobody made another input of the same hash is the digest's to
// say.
const partLength = 16

// New is the record of a list, without its image.
func New(l List) *Record {
	r := &Record{Inputs: l.Digest(), Parts: map[string]string{}}
	files := sha256.New()
	for _, input := range l.sorted() {
		if input.Kind == File && len(l) > maxParts {
			field(files, input.Name)
			field(files, input.Value)
			r.Parts[string(File)] = hex.EncodeToString(files.Sum(nil))[:partLength]
			continue
		}
		sum := sha256.Sum256([]byte(input.Value))
		r.Parts[input.String()] = hex.EncodeToString(sum[:])[:partLength]
	}
	return r
}

// taskRun is NAMESPACE/NAME with names that Kubernetes takes: it goes into a log
// and a result, and whoever can write a tag can write it. Their lengths, 63 and
// 253, are not in the expression, which would take milliseconds to compile.
var taskRun = regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9.-]+$`)

func isTaskRun(text string) bool {
	namespace, name, _ := strings.Cut(text, "/")
	return len(namespace) <= 63 && len(name) <= 253 && taskRun.MatchString(text)
}

// Parse reads a record. An error says what makes it none.
func Parse(content []byte) (*Record, error) {
	var r Record
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return nil, fmt.Errorf("it is no record of inputs: %w", err)
	}
	if _, err := v1.NewHash(r.Image); err != nil {
		return nil, fmt.Errorf("it names no image: %w", err)
	}
	if r.Built.IsZero() {
		return nil, errors.New("it does not say when the image was built")
	}
	if !isTaskRun(r.By) {
		return nil, errors.New("it does not say by which run the image was built")
	}
	return &r, nil
}

// Encode is the record as Parse reads it.
func (r *Record) Encode() ([]byte, error) { return json.Marshal(r) }

// Tag is where the record of a list of inputs is kept in a repository.
func Tag(repository name.Repository, digest string) name.Tag {
	return repository.Tag(tagPrefix + digest)
}

// LastTag is where the last record of one image is kept as well. image is what
// tells that image from others whose records are in the repository.
func LastTag(repository name.Repository, image ...string) name.Tag {
	sum := sha256.New()
	for _, part := range image {
		field(sum, part)
	}
	return repository.Tag(tagPrefix + "last-" + hex.EncodeToString(sum.Sum(nil))[:partLength])
}

// Changed names what is not as it was when other was made, the most telling
// first; what follows from another change is left out.
func (r *Record) Changed(other *Record) []string {
	var changed []string
	for part := range r.Parts {
		if r.Parts[part] != other.Parts[part] {
			changed = append(changed, part)
		}
	}
	for part := range other.Parts {
		if _, ok := r.Parts[part]; !ok {
			changed = append(changed, part)
		}
	}
	slices.SortFunc(changed, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	if len(changed) > 1 {
		changed = slices.DeleteFunc(changed, func(part string) bool {
			return part == string(Derived) || part == string(Operations) || part == string(Config)
		})
	}
	return changed
}

func rank(part string) int {
	return slices.IndexFunc(kinds, func(kind Kind) bool {
		return part == string(kind) || strings.HasPrefix(part, string(kind)+":") || strings.HasPrefix(part, string(kind)+" ")
	})
}

// Leave puts the record into a file, and Take reads it there: a step that
// cannot be written to lies between the two.
func (r *Record) Leave(file string) error {
	content, err := r.Encode()
	if err != nil {
		return err
	}
	return step.WriteFile(file, content, 0o644)
}

// Take reads what Leave has written.
func Take(file string) (*Record, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r Record
	return &r, json.Unmarshal(content, &r)
}
