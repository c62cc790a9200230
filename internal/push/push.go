// Package push is the step that sends the built image to its registry and
// reports the result. Where to is the params' to say, and nothing that a RUN
// instruction could have written.
package push

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/artifact"
	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/logins"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/tag"
)

// Config is the step's environment.
type Config struct {
	Prepared string `env:"PREPARED_PATH, required"` // where prepare left its plan
	Logins   string `env:"LOGINS_PATH, required"`   // where it left the logins
	Output   string `env:"WORKSPACE_OUTPUT_PATH"`   // "" where none is bound
	TaskRun  string `env:"TASK_RUN, required"`      // NAMESPACE/NAME of this run

	Artifact  string `env:"PARAM_ARTIFACT"` // has its words in the place of the next
	Image     string `env:"PARAM_IMAGE"`
	Push      bool   `env:"PARAM_PUSH, required"`
	PushRetry int    `env:"PARAM_PUSH_RETRY, required"`
	Layout    string `env:"PARAM_OCI_LAYOUT_PATH"`
	Tar       string `env:"PARAM_TAR_PATH"`

	URLResult    string `env:"RESULT_IMAGE_URL_PATH, required"`
	URLsResult   string `env:"RESULT_IMAGE_URLS_PATH, required"`
	DeployResult string `env:"RESULT_DEPLOY_IMAGE_PATH, required"`
	DigestResult string `env:"RESULT_IMAGE_DIGEST_PATH, required"`
	ReportResult string `env:"RESULT_BUILD_REPORT_PATH, required"`
}

// Report is the result build-report. A count that is not known is null.
type Report struct {
	// Seconds from prepare's start until the image was where it should be.
	Seconds float64 `json:"seconds"`
	// Times is what they went to; nil where that is not known.
	Times *Times `json:"times,omitempty"`
	// Packages that go commands of the build compiled, and that they took
	// from their cache.
	Compiled *int `json:"compiled"`
	Cached   *int `json:"cached"`
	// Modules that came into the module cache meanwhile.
	Modules *int `json:"modules"`
	// Unused says which caches were not used, and why.
	Unused []string `json:"unused,omitempty"`
	// NoToolchain says why Go was not taken from the kept toolchains; "" if it
	// was.
	NoToolchain string `json:"noToolchain,omitempty"`
	// Unchanged says that nothing was built: it is the image that another run
	// has built of the same inputs.
	Unchanged *Unchanged `json:"unchanged,omitempty"`
}

// Unchanged says whose image it is.
type Unchanged struct {
	Built time.Time `json:"built"`
	By    string    `json:"by"` // NAMESPACE/NAME of the TaskRun
}

// progressEvery is how often a long push is heard of.
const progressEvery = 5 * time.Second

// Run pushes the image that the build step left, and then writes the results.
// args are the array params, as [step.Arrays] reads them.
func Run(ctx context.Context, args []string, env envconfig.Lookuper, stderr io.Writer) (err error) {
	began := time.Now()
	// Whatever happens: what this step can read when it ends may be published.
	if left, ok := env.Lookup("LOGINS_PATH"); ok {
		defer func() { err = errors.Join(err, logins.Folder(left).Delete()) }()
	}
	var c Config
	if err := step.Load(ctx, &c, env); err != nil {
		return err
	}
	folder := logins.Folder(c.Logins)
	results := []struct{ path, none string }{
		{c.URLsResult, "[]"}, {c.URLResult, ""}, {c.DigestResult, ""}, {c.DeployResult, ""}, {c.ReportResult, ""},
	}
	// Each of them in any case: the last word is this step's, not what a RUN
	// instruction may have said.
	for _, result := range results {
		if err := step.WriteResult(result.path, result.none); err != nil {
			return err
		}
	}
	var insecure, skipTLSVerify, known, clientCerts, more, immutable []string
	if err := step.Arrays(args, map[string]*[]string{
		"--insecure-registries":        &insecure,
		"--skip-tls-verify-registries": &skipTLSVerify,
		"--registry-certificates":      &known,
		"--registry-client-certs":      &clientCerts,
		"--destinations":               &more,
		"--immutable-tags":             &immutable,
	}); err != nil {
		return err
	}
	if err := registry.CheckRetries(c.PushRetry); err != nil {
		return step.BadInput(fmt.Errorf("param push-retry: %w", err))
	}
	out := output{plan.Output{Workspace: c.Output, Layout: c.Layout, Tar: c.Tar}}
	if err := out.Check(c.Push); err != nil {
		return step.BadInput(err)
	}
	one, err := artifact.Parse(c.Artifact)
	if err != nil {
		return step.BadInput(err)
	}
	keychain, err := registry.Credentials(folder.DockerConfig())
	if err != nil {
		return step.BadInput(err)
	}
	client, err := registry.New(registry.Options{
		Insecure:      insecure,
		SkipTLSVerify: skipTLSVerify,
		Certificates:  registry.Certificates{Folder: folder.Certificates(), Known: known, Client: clientCerts},
		Keychain:      keychain,
		Retries:       c.PushRetry,
	})
	if err != nil {
		return step.BadInput(fmt.Errorf("param %w", err))
	}
	if err := folder.Delete(); err != nil {
		return fmt.Errorf("delete the logins before looking at what was built: %w", err)
	}
	p, err := plan.Read(c.Prepared)
	if err != nil {
		return err
	}
	destinations, err := tag.Destinations(cmp.Or(one.Image, c.Image), p.Tags, more)
	if err != nil {
		return step.BadInput(err)
	}
	report := Report{NoToolchain: p.NoToolchain, Unused: p.Unused}
	var img v1.Image
	if p.Unchanged != nil {
		report.Unchanged = &Unchanged{Built: p.Unchanged.Built, By: p.Unchanged.By}
		img, err = existing(ctx, client, destinations[0], p.Unchanged.Digest)
	} else if img, err = built(p.Layout); err == nil {
		img, err = withConfig(img, p)
	}
	if err != nil && p.Unchanged == nil {
		err = fmt.Errorf("read the image that kaniko built: %w", err)
	}
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("read the image that kaniko built: %w", err)
	}

	if err := out.write(p.Layout, img, destinations, stderr); err != nil {
		return err
	}
	if c.Push {
		err = pushAll(ctx, client, destinations, immutable, img, digest, stderr, func() {
			if p.Record != nil && p.Unchanged == nil {
				record(ctx, client, p.Record, digest.String(), c.TaskRun, stderr)
			}
		})
	} else {
		fmt.Fprintln(stderr, "not pushed: the param push says so")
	}
	if err != nil {
		return err
	}
	now := time.Now()
	report.Seconds = rounded(now.Sub(p.Started))
	if spent, err := readTimes(p, began, now); err == nil {
		report.Times = spent.seconds()
		fmt.Fprintf(stderr, "time: %s\n", spent)
	} else {
		fmt.Fprintf(stderr, "time: what it went to is not known: %v\n", err)
	}
	tell(stderr, &report, p)
	if c.Push {
		for _, result := range []struct{ path, value string }{
			{c.URLsResult, tag.URLs(destinations)},
			{c.URLResult, destinations[0].URL},
			{c.DigestResult, digest.String()},
			{c.DeployResult, one.Name + "=" + destinations[0].URL + "@" + digest.String()},
		} {
			if err := step.WriteResult(result.path, result.value); err != nil {
				return err
			}
		}
	}
	// The image is where it should be: what is said of it does not fail that.
	if err := report.write(c.ReportResult); err != nil {
		fmt.Fprintf(stderr, "build-report: %v\n", err)
	}
	if c.Push && p.Unchanged == nil {
		pushLayers(ctx, client, p, stderr)
	}
	return nil
}

func (r *Report) write(path string) error {
	encoded, err := r.encode()
	if err != nil {
		return err
	}
	return step.WriteResult(path, encoded)
}

// maxReason is the most bytes of a reason in the report, fewer where the report
// would be too long; prepare's log has all of it.
const maxReason = 300

// encode is the report as JSON, of at most [step.MaxReport] bytes.
func (r *Report) encode() (string, error) {
	for limit := maxReason; ; limit = limit * 7 / 8 {
		short := *r
		short.NoToolchain, short.Unused = shortened(r.NoToolchain, limit), nil
		for _, why := range r.Unused {
			short.Unused = append(short.Unused, shortened(why, limit/len(r.Unused)))
		}
		var encoded strings.Builder
		encoder := json.NewEncoder(&encoded)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(&short); err != nil {
			return "", err
		}
		if text := strings.TrimSuffix(encoded.String(), "\n"); len(text) <= step.MaxReport || limit == 0 {
			return text, nil
		}
	}
}

// shortened keeps the beginning of a text, and its characters whole.
func shortened(text string, limit int) string {
	const more = "…"
	if len(text) <= limit {
		return text
	}
	end := max(limit-len(more), 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}

// pushTold pushes and tells how far it is.
func pushTold(ctx context.Context, client *registry.Client, tag name.Tag, img v1.Image, stderr io.Writer) error {
	updates := make(chan v1.Update, 64)
	told := make(chan struct{})
	go func() {
		defer close(told)
		last := time.Now()
		for update := range updates {
			if update.Error == nil && time.Since(last) >= progressEvery {
				last = time.Now()
				fmt.Fprintf(stderr, "push: %s of %s\n", units.HumanSize(float64(update.Complete)), units.HumanSize(float64(update.Total)))
			}
		}
	}()
	err := client.Push(ctx, tag, img, updates)
	<-told
	return err
}

// tell fills in the counts, and says for a person what the build cost.
func tell(stderr io.Writer, report *Report, p *plan.Plan) {
	if report.Unchanged != nil {
		fmt.Fprintf(stderr, "build: none, as nothing has changed; %.1f s\n", report.Seconds)
		return
	}
	modules := ""
	if count, err := readModules(p.Downloaded); err == nil {
		report.Modules = &count
		modules = fmt.Sprintf("%d modules downloaded; ", count)
	}
	count, err := readCompiled(p.Compiled)
	if err != nil {
		fmt.Fprintf(stderr, "build: %s%.1f s; how many packages were compiled is not known: %v\n", modules, report.Seconds, err)
		return
	}
	report.Compiled, report.Cached = &count.Compiled, &count.Cached
	fmt.Fprintf(stderr, "build: %d of %d packages compiled, %d from the cache; %s%.1f s\n",
		count.Compiled, count.Compiled+count.Cached, count.Cached, modules, report.Seconds)
}

// readCompiled takes the count from the file that the build step leaves.
func readCompiled(path string) (gocache.Compiled, error) {
	content, err := readLeft(path)
	if err != nil {
		return gocache.Compiled{}, errors.New("no go command left an account")
	}
	var count gocache.Compiled
	if err := json.Unmarshal(content, &count); err != nil || count.Compiled < 0 || count.Cached < 0 {
		return gocache.Compiled{}, errors.New("the account cannot be read")
	}
	return count, nil
}

// readModules is the same for the number of modules.
func readModules(path string) (int, error) {
	content, err := readLeft(path)
	if err != nil {
		return 0, err
	}
	count, err := strconv.ParseUint(string(content), 10, 31)
	return int(count), err
}

// readLeft reads a file that the build step leaves. A RUN may have put something
// else in its place: a link, or a pipe that would block.
func readLeft(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxManifest {
		return nil, fmt.Errorf("%s is not what the build step leaves", path)
	}
	return os.ReadFile(path)
}
