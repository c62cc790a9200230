package deploy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// manifest of each make that fields of Kubernetes' kinds have: lists whose items
// have keys, of one field and of two, sets, lists and maps that are atomic.
var inSyncManifests = map[string]string{
	"deployment": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: feed-agg, labels: {app: feed-agg, team: news}, annotations: {a: "1"}, finalizers: [a.test/x, b.test/y]}
spec:
  replicas: 2
  paused: false
  selector: {matchLabels: {app: feed-agg}}
  template:
    metadata: {labels: {app: feed-agg}}
    spec:
      nodeSelector: {disk: ssd}
      tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}]
      volumes: [{name: tmp, emptyDir: {}}, {name: conf, configMap: {name: conf, items: [{key: a, path: a}]}}]
      containers:
      - name: feed-agg
        image: r.test/feed-agg:1
        args: [a, b]
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        ports: [{containerPort: 80, protocol: TCP}, {containerPort: 81, protocol: TCP, name: other}]
        resources: {limits: {memory: 1Gi}}
      - name: beside
        image: r.test/beside:1
`,
	"service": `
apiVersion: v1
kind: Service
metadata: {name: feed-agg}
spec:
  selector: {app: feed-agg}
  ports: [{port: 80, protocol: TCP, name: http}, {port: 81, protocol: TCP, name: other}]
`,
	"config map": `
apiVersion: v1
kind: ConfigMap
metadata: {name: feeds, labels: {app: feed-agg}}
data: {feeds: a, more: b}
`,
}

// TestInSync: whatever the manifest and other managers change after an apply,
// what is said to be in sync is left as it is by the next one. The fields and
// owners are those of the API server's own code and schemas.
func TestInSync(t *testing.T) {
	t.Parallel()
	const histories = 1000
	types := applyconfigurations.NewTypeConverter(scheme.Scheme)
	for name, text := range inSyncManifests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2))
			found, missed := 0, 0
			for range histories {
				first := edited(r, parse(t, text), r.IntN(3))
				server := managedfieldstest.NewTestFieldManager(types, first.GroupVersionKind())
				if server.Apply(first.DeepCopy(), fieldManager, false) != nil {
					continue // the edits made no object of it
				}
				var by []string
				for range r.IntN(3) {
					other := edited(r, live(server), 1+r.IntN(2))
					if r.IntN(2) == 0 {
						by = append(by, fmt.Sprint("update: ", other.Object, server.Update(other, "other")))
						continue
					}
					other = edited(r, first, 1)
					by = append(by, fmt.Sprint("apply: ", other.Object, server.Apply(other, "another", true)))
				}
				wanted := edited(r, first, max(0, r.IntN(4)-2))

				was := live(server)
				said := (&target{object: wanted, before: was}).inSync()
				err := server.Apply(wanted.DeepCopy(), fieldManager, false)
				same := err == nil && reflect.DeepEqual(stable(was), stable(live(server)))
				switch {
				case said && !same:
					t.Fatalf("in sync, but applying it changes it (%v):\nfirst:  %v\n%v\nthen:   %v\nbefore: %v\nafter:  %v", err, first.Object, by, wanted.Object, was.Object, live(server).Object)
				case said:
					found++
				case same:
					missed++
				}
			}
			t.Logf("in sync: %d, and %d more that only a dry run tells", found, missed)
			if found < histories/10 || missed > found {
				t.Errorf("in sync is said of %d, and not of %d that are", found, missed)
			}
		})
	}
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	content, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(content); err != nil {
		t.Fatal(err)
	}
	return object
}

func live(server managedfieldstest.TestFieldManager) *unstructured.Unstructured {
	object, _ := server.Live().(*unstructured.Unstructured)
	return object
}

// edited is a copy of object with n random edits below its identity.
func edited(r *rand.Rand, object *unstructured.Unstructured, n int) *unstructured.Unstructured {
	object = object.DeepCopy()
	for range n {
		fields := []string{"metadata"}
		for field := range object.Object {
			if field == "spec" || field == "data" {
				fields = append(fields, field)
			}
		}
		slices.Sort(fields)
		field := fields[r.IntN(len(fields))]
		kept := map[string]any{}
		if field == "metadata" { // whose identity and owners are not its author's
			metadata, _ := object.Object[field].(map[string]any)
			for _, name := range []string{"name", "managedFields"} {
				if value, ok := metadata[name]; ok {
					kept[name] = value
					delete(metadata, name)
				}
			}
		}
		if object.Object[field] = edit(r, object.Object[field]); object.Object[field] == nil {
			object.Object[field] = kept
		}
		if metadata, ok := object.Object[field].(map[string]any); ok {
			maps.Copy(metadata, kept)
		}
	}
	return object
}

// edit changes one thing somewhere in node.
func edit(r *rand.Rand, node any) any {
	if r.IntN(30) == 0 {
		return nil
	}
	switch node := node.(type) {
	case map[string]any:
		if len(node) == 0 || r.IntN(8) == 0 {
			node[fmt.Sprintf("x%d", r.IntN(2))] = fmt.Sprint(r.IntN(2))
			return node
		}
		name := slices.Sorted(maps.Keys(node))[r.IntN(len(node))]
		if r.IntN(6) == 0 {
			delete(node, name)
			return node
		}
		node[name] = edit(r, node[name])
		return node
	case []any:
		if len(node) == 0 {
			return node
		}
		i := r.IntN(len(node))
		switch r.IntN(5) {
		case 0:
			return slices.Delete(node, i, i+1)
		case 1:
			slices.Reverse(node)
			return node
		case 2:
			return append(node, edit(r, runtime.DeepCopyJSONValue(node[i])))
		}
		node[i] = edit(r, node[i])
		return node
	case string:
		return fmt.Sprint(node, r.IntN(2))
	case int64:
		return node + int64(r.IntN(2))
	case bool:
		return !node
	}
	return node
}
