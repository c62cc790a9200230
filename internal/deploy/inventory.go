package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Labels say to which deploy an object belongs: only such an object is pruned
// or deleted by it. The inventory has them as well.
const (
	labelName      = "slipway-ci.github.io/deploy"
	labelNamespace = "slipway-ci.github.io/deploy-namespace"
)

const (
	inventoryPrefix = "slipway-deploy-" // of the ConfigMap's name
	inventoryKey    = "inventory"       // in the ConfigMap's data
	inventoryLimit  = 900 << 10         // bytes; the API server takes 1 MiB
	historyLength   = 10
)

// inventory is what is known of a deploy between its runs: who wrote last, and
// what. It holds names, no manifests.
type inventory struct {
	Place    place  `json:"place"`
	Run      string `json:"run,omitempty"` // for people
	Revision string `json:"revision,omitempty"`
	Overlay  string `json:"overlay,omitempty"`

	// Holder is the attempt of a run that may write: while Writing, it does.
	// An attempt that was killed leaves Writing behind, and so does one that is
	// paused: nobody can tell the two apart.
	Holder   string    `json:"holder"`
	Writing  bool      `json:"writing,omitempty"`
	Deadline time.Time `json:"deadline"` // of the holder

	Objects   []identity `json:"objects"`             // what the holder's overlay holds
	Leftovers []identity `json:"leftovers,omitempty"` // what earlier ones held and is to be pruned
	// Lingering is what an attempt that was overtaken while it wrote might
	// still create: it is looked for until that attempt's deadline is long over.
	Lingering []lingering `json:"lingering,omitempty"`

	History []entry `json:"history,omitempty"` // what became ready, the newest first
}

type lingering struct {
	Object identity  `json:"object"`
	Until  time.Time `json:"until"`
}

// entry is a deploy that became ready: all that is needed to render it again.
type entry struct {
	Place    place    `json:"place"`
	Revision string   `json:"revision,omitempty"`
	Overlay  string   `json:"overlay"`
	Images   []string `json:"images,omitempty"` // as the step's arguments
	// ImageFields are the fields that those were set in besides those of every kind.
	ImageFields []string `json:"imageFields,omitempty"`
}

// identity names an object: "apps/v1 Deployment feed/feed-agg". The version
// says how to ask for it; two that differ in nothing else are the same object.
type identity struct {
	APIVersion, Kind, Namespace, Name string
}

func identify(object *unstructured.Unstructured) identity {
	return identity{object.GetAPIVersion(), object.GetKind(), object.GetNamespace(), object.GetName()}
}

// object is as much of the object as its identity says.
func (id identity) object() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion(id.APIVersion)
	object.SetKind(id.Kind)
	object.SetNamespace(id.Namespace)
	object.SetName(id.Name)
	return object
}

// key is the same for the same object.
func (id identity) key() identity {
	group, _, ok := strings.Cut(id.APIVersion, "/")
	if !ok {
		group = ""
	}
	id.APIVersion = group
	return id
}

func (id identity) MarshalText() ([]byte, error) {
	at := id.Name
	if id.Namespace != "" {
		at = id.Namespace + "/" + id.Name
	}
	return []byte(id.APIVersion + " " + id.Kind + " " + at), nil
}

func (id *identity) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) != 3 {
		return fmt.Errorf("%q does not name an object", text)
	}
	*id = identity{APIVersion: words[0], Kind: words[1], Name: words[2]}
	if namespace, name, ok := strings.Cut(words[2], "/"); ok {
		id.Namespace, id.Name = namespace, name
	}
	return nil
}

// without is ids but for those in others.
func without(ids, others []identity) []identity {
	out := make(map[identity]bool, len(others))
	for _, id := range others {
		out[id.key()] = true
	}
	var left []identity
	for _, id := range ids {
		if !out[id.key()] {
			out[id.key()] = true // none twice
			left = append(left, id)
		}
	}
	return left
}

func contained(id identity, in []identity) bool {
	return slices.ContainsFunc(in, func(other identity) bool { return other.key() == id.key() })
}

// ledger is where a deploy's inventory is kept.
type ledger struct {
	*cluster
	name string // of the deploy
}

// stored is an inventory as it was read, and what is needed to replace that
// and nothing newer.
type stored struct {
	inventory
	config *corev1.ConfigMap // nil if there was none
}

func (l ledger) configMap() string { return inventoryPrefix + l.name }

// isInventory reports whether object has the name of an inventory, of whatever
// deploy: by it an overlay would decide where that one stands in the order, and
// what it is rolled back to.
func isInventory(object *unstructured.Unstructured) bool {
	return object.GetKind() == "ConfigMap" && object.GetAPIVersion() == "v1" && strings.HasPrefix(object.GetName(), inventoryPrefix)
}

// read returns an empty inventory where there is none yet.
func (l ledger) read(ctx context.Context) (s stored, err error) {
	err = l.persist(ctx, "the inventory "+l.configMap(), func() error {
		s = stored{}
		config, err := l.core.ConfigMaps(l.namespace).Get(ctx, l.configMap(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		} else if err != nil {
			return err
		}
		s.config = config
		return l.decode(config, &s.inventory)
	})
	if err != nil {
		return stored{}, l.explainInventory("read", err)
	}
	return s, nil
}

func (l ledger) decode(config *corev1.ConfigMap, into *inventory) error {
	if config.Labels[labelName] != l.name || config.Labels[labelNamespace] != l.namespace {
		return fmt.Errorf("it is not the inventory of the deploy %s: its label %s says %q; give this deploy another name", l.name, labelName, config.Labels[labelName])
	}
	if err := json.Unmarshal([]byte(config.Data[inventoryKey]), into); err != nil {
		return fmt.Errorf("it is damaged: %w; nothing can be pruned by it: delete it, and what it listed is yours to remove", err)
	}
	return nil
}

// replace writes inv where s was read. It fails with a conflict if somebody
// else has written in between.
func (l ledger) replace(ctx context.Context, s *stored, inv inventory) error {
	content, err := json.MarshalIndent(inv, "", "  ")
	if err != nil {
		return err
	}
	if len(content) > inventoryLimit {
		return fmt.Errorf("the inventory would have %d bytes, the limit is %d: deploy in parts, each with a name of its own", len(content), inventoryLimit)
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: l.configMap(), Namespace: l.namespace}}
	if s.config != nil {
		config = s.config.DeepCopy()
	}
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[labelName], config.Labels[labelNamespace] = l.name, l.namespace
	config.Data = map[string]string{inventoryKey: string(content)}
	maps := l.core.ConfigMaps(l.namespace)
	if s.config == nil {
		config, err = maps.Create(ctx, config, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		config, err = maps.Update(ctx, config, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return err
	}
	*s = stored{inventory: inv, config: config}
	return nil
}

func (l ledger) explainInventory(verb string, err error) error {
	err = fmt.Errorf("%s configmap/%s in namespace %s, the deploy's inventory: %w", verb, l.configMap(), l.namespace, err)
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf("%w; %s", err, remedy(err.Error()))
	}
	return err
}
