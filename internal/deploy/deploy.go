// Package deploy renders a kustomize overlay with the built images in it,
// applies it, waits until it is rolled out and prunes what left it. A file a
// verb or a stage: confine, render, image; order, apply, hooks, wait, prune;
// diff, remove, rollback; explain, report.
package deploy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/sethvargo/go-envconfig"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipway-ci/slipway/internal/step"
)

// config is the step's environment; tasks/deploy.yaml describes the params and
// holds their defaults. Array params are the step's arguments.
type config struct {
	Verb      string        `env:"PARAM_VERB, required"`
	Source    string        `env:"WORKSPACE_SOURCE_PATH, required"`
	Overlay   string        `env:"PARAM_OVERLAY"` // required but for rollback and delete
	Namespace string        `env:"PARAM_NAMESPACE"`
	Timeout   time.Duration `env:"PARAM_TIMEOUT, required"` // of the whole step

	Name       string `env:"PARAM_NAME"`
	Revision   string `env:"PARAM_REVISION"`
	EventTime  string `env:"PARAM_EVENT_TIME"`
	EventID    string `env:"PARAM_EVENT_ID"`
	Run        string `env:"PARAM_RUN"`
	Overrides  string `env:"PARAM_OVERRIDES"`
	RollbackTo string `env:"PARAM_ROLLBACK_TO"`
	Prune      bool   `env:"PARAM_PRUNE"`

	Kubeconfig string `env:"WORKSPACE_KUBECONFIG_PATH"` // "" for the cluster the step runs in
	Context    string `env:"PARAM_CONTEXT"`

	Changes  string `env:"RESULT_CHANGES_PATH"`
	Deployed string `env:"RESULT_REVISION_PATH"`
	Digests  string `env:"RESULT_IMAGES_PATH"`

	images      []string
	imageFields []string
	adoptFrom   []string
	tolerated   []string
}

// Run does what the param verb says, by the params and workspaces in env and
// the array params in args, and tells log what changed and how the rollout
// goes. No value of a Secret is shown, neither there nor in its error.
//
// Its errors are [step.BadInput] for what the user has to mend and
// [step.NotReady] once everything is applied. When ctx ends first, so does
// Run, with an error that says how far it came.
func Run(ctx context.Context, args []string, env envconfig.Lookuper, log io.Writer) error {
	var c config
	if err := step.Load(ctx, &c, env); err != nil {
		return err
	}
	err := step.Arrays(args, map[string]*[]string{
		"--images": &c.images, "--image-fields": &c.imageFields,
		"--take-ownership-from": &c.adoptFrom, "--tolerate": &c.tolerated,
	})
	if err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return step.BadInput(fmt.Errorf("timeout %s: give a duration above 0, such as 5m", c.Timeout))
	}
	m := &mask{log: log}
	return m.error(c.run(ctx, m))
}

func (c *config) run(ctx context.Context, log *mask) error {
	deadline, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("the param timeout, %s, is over", c.Timeout))
	defer cancel()
	switch c.Verb {
	case "apply":
		return c.apply(ctx, deadline, log)
	case "diff":
		return c.diff(deadline, log)
	case "render":
		r, err := c.render(deadline, log)
		if err != nil {
			return err
		}
		return printManifests(log, r.objects)
	case "delete":
		return c.delete(ctx, deadline, log)
	case "rollback":
		return c.rollback(ctx, deadline, log)
	default:
		return step.BadInput(fmt.Errorf("verb %q: give apply, diff, render, delete or rollback", c.Verb))
	}
}

// rendered is an overlay ready to be applied.
type rendered struct {
	images  []image
	params  []string // the images as they were given
	objects []*unstructured.Unstructured
}

// overlays are the folders of the param overlay.
func (c *config) overlays() (folders []string) {
	for folder := range strings.SplitSeq(c.Overlay, ",") {
		if folder = strings.TrimSpace(folder); folder != "" {
			folders = append(folders, folder)
		}
	}
	return folders
}

// recordedOverlay is the param as the inventory has it; "" if none is given.
func (c *config) recordedOverlay() string {
	folders := c.overlays()
	for i := range folders {
		folders[i] = filepath.Clean(folders[i])
	}
	return strings.Join(folders, ",")
}

func (c *config) render(ctx context.Context, log *mask) (*rendered, error) {
	if len(c.overlays()) == 0 {
		return nil, step.BadInput(fmt.Errorf("overlay is empty: give the folder of the overlay in the source"))
	}
	images, err := parseImages(c.images)
	if err != nil {
		return nil, step.BadInput(err)
	}
	fields, err := parseImageFields(c.imageFields)
	if err != nil {
		return nil, step.BadInput(err)
	}
	made, err := bounded(ctx, func() (*rendering, error) {
		return render(c.Source, c.overlays(), images, fields, c.Namespace)
	})
	if err != nil {
		return nil, step.BadInput(err)
	}
	for _, object := range made.objects {
		log.hide(object)
	}
	for _, note := range made.notes {
		logf(log, "%s", note)
	}
	return &rendered{images: images, params: c.images, objects: made.objects}, nil
}

// open connects to the cluster and prepares the run's hold on its inventory.
func (c *config) open(ctx context.Context, log *mask) (*deployment, error) {
	images, err := parseImages(c.images)
	if err != nil {
		return nil, step.BadInput(err)
	}
	name, given, err := c.name(images)
	if err != nil {
		return nil, step.BadInput(err)
	}
	to, err := connect(ctx, c.Kubeconfig, c.Context, c.Namespace, log)
	if err != nil {
		return nil, step.BadInput(err)
	}
	h := &hold{ledger: ledger{to, name}, named: given, attempt: strings.ToLower(rand.Text()), overrides: c.Overrides}
	h.run = inventory{Run: c.Run, Revision: c.Revision, Overlay: c.recordedOverlay()}
	event := c.EventID
	if event == "" {
		event = c.Run
	}
	if event == "" {
		event = h.attempt
	}
	h.run.Place.Event = event
	if c.EventTime != "" {
		if h.run.Place, err = newPlace(c.EventTime, event); err != nil {
			return nil, step.BadInput(err)
		}
	}
	go to.discover() // while the overlay is rendered
	return &deployment{hold: h, adoptFrom: c.adoptFrom, noPrune: !c.Prune, tolerated: c.tolerated}, nil
}

// apply brings what the overlay renders to the cluster and waits until it runs.
// deadline ends with ctx, or when the time is over.
func (c *config) apply(ctx, deadline context.Context, log *mask) error {
	d, err := c.open(deadline, log)
	if err != nil {
		return err
	}
	r, err := c.render(deadline, log)
	if err != nil {
		return err
	}
	if err := d.open(deadline); err != nil {
		return d.refused(deadline, err, "nothing was changed")
	}
	return c.roll(ctx, deadline, d, r)
}

// roll applies what was rendered as d, which has opened its inventory.
func (c *config) roll(ctx, deadline context.Context, d *deployment, r *rendered) error {
	logf(d.log, "%s: %d objects to %s, as deploy %s in namespace %s", c.recordedOverlay(), len(r.objects), d.host, d.name, d.namespace)
	if d.now.config == nil {
		logf(d.log, "the inventory configmap/%s is new: nothing is pruned", d.configMap())
	}
	for _, img := range r.images {
		logf(d.log, "image %s is %s", img.name, img)
	}
	objects, hooks, err := splitHooks(r.objects, d.attempt)
	if err != nil {
		return err
	}
	applied, err := d.apply(deadline, objects, hooks)
	if err == nil {
		made := count(applied, 0)
		logf(d.log, "%s", made)
		if err := c.results(d, r, made); err != nil {
			return err
		}
		err = d.await(deadline, applied)
	}
	closing, cancel := c.closing(ctx, deadline)
	defer cancel()
	for _, when := range []stage{after, verify} {
		if err == nil {
			err = d.runHooks(closing, hooks, when)
		}
	}
	if errors.Is(err, errOvertaken) {
		d.undo(closing, hooks.all())
	}
	if err != nil {
		return d.conclude(ctx, err)
	}
	if err := d.prune(closing); err != nil {
		return d.refused(closing, err, "everything is applied and ready, but for what is to be pruned")
	}
	done := entry{Place: d.run.Place, Revision: c.Revision, Overlay: c.recordedOverlay(), Images: r.params, ImageFields: c.imageFields}
	if err := d.settle(closing, done); err != nil {
		return d.refused(closing, err, "everything is applied and ready")
	}
	made := count(applied, d.prunings)
	if d.prunings > 0 {
		logf(d.log, "%s", made)
	}
	return c.results(d, r, made)
}

// closingTime is what a deploy has for its last hooks, pruning and the inventory
// where it waited to its deadline for an object that is tolerated to fail. It is
// well below lingerGrace.
const closingTime = 2 * time.Minute

// closing is the rest of deadline, or closingTime if that is more. It ends with
// ctx.
func (c *config) closing(ctx, deadline context.Context) (context.Context, context.CancelFunc) {
	end, _ := deadline.Deadline()
	if latest := time.Now().Add(closingTime); latest.After(end) {
		end = latest
	}
	return context.WithDeadlineCause(ctx, end, fmt.Errorf("the param timeout, %s, is over, and so are %s for what comes after waiting", c.Timeout, closingTime))
}

func (c *config) results(d *deployment, r *rendered, made changes) error {
	if err := step.WriteResult(c.Changes, made.String()); err != nil {
		return err
	}
	if err := step.WriteResult(c.Digests, digests(r.images)); err != nil {
		return err
	}
	return step.WriteResult(c.Deployed, d.run.Revision)
}

func logf(log io.Writer, format string, args ...any) {
	// A log that cannot be written must not stop a deploy.
	_, _ = fmt.Fprintf(log, format+"\n", args...)
}
