package histories

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Fake is no API server: it is a model of how one treats concurrent writers,
// for ConfigMaps alone. It has what a deploy's order is built on (versions and
// preconditions, server-side apply with owners of fields and conflicts, dry
// runs) and nothing else: no admission, no validation, no watch. The test
// TestFakeAnswersAsTheRealOne holds it against the real one.
type Fake struct {
	mu      sync.Mutex
	version int
	objects map[string]*model // by namespace/name

	unconditional bool // no write of an object is refused for its version
}

// model is a stored ConfigMap: its fields, and who owns them.
type model struct {
	namespace, name string
	uid             string
	version         int
	fields          map[string]string          // "data/x", "labels/x", "annotations/x"
	owners          map[string]map[string]bool // by manager and operation ("slipway Apply"), the fields
}

// NewFake is an empty one.
func NewFake() *Fake { return &Fake{version: 100, objects: map[string]*model{}} }

// NewUnconditionalFake lets a write to an object land whatever version it names,
// but for the inventory's: with it the order is lost, and an oracle that does not
// see that sees nothing.
func NewUnconditionalFake() *Fake {
	f := NewFake()
	f.unconditional = true
	return f
}

// MakeNamespace has nothing to do.
func (f *Fake) MakeNamespace(string) error { return nil }

// ConfigMaps are those of a namespace, by name.
func (f *Fake) ConfigMaps(namespace string) (map[string]corev1.ConfigMap, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := map[string]corev1.ConfigMap{}
	for _, m := range f.objects {
		if m.namespace == namespace {
			found[m.name] = m.configMap()
		}
	}
	return found, nil
}

func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.URL.Path {
	case "/api":
		answer(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"}})
	case "/apis":
		answer(w, http.StatusOK, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}})
	case "/api/v1":
		answer(w, http.StatusOK, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "v1",
			APIResources: []metav1.APIResource{{Name: "configmaps", SingularName: "configmap", Namespaced: true, Kind: "ConfigMap", Verbs: metav1.Verbs{"get", "create", "list", "update", "patch", "delete"}}},
		})
	default:
		rest, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/")
		parts := strings.Split(rest, "/")
		if !ok || len(parts) < 2 || parts[1] != "configmaps" {
			fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, "no such path")
			return
		}
		name := ""
		if len(parts) > 2 {
			name = parts[2]
		}
		f.serve(w, r, parts[0], name)
	}
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request, namespace, name string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	var sent corev1.ConfigMap
	if len(body) > 0 && r.Method != http.MethodDelete {
		if err := json.Unmarshal(body, &sent); err != nil {
			fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
			return
		}
	}
	query := r.URL.Query()
	if r.Method == http.MethodGet && name == "" {
		f.list(w, namespace, query.Get("labelSelector"))
		return
	}
	dry := query.Get("dryRun") == metav1.DryRunAll
	manager := query.Get("fieldManager")
	if name == "" {
		name = sent.Name
	}
	now := f.objects[namespace+"/"+name]
	switch {
	case r.Method == http.MethodGet && now != nil:
		answer(w, http.StatusOK, now.configMap())
	case r.Method == http.MethodPost && now != nil:
		fail(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, "exists")
	case r.Method == http.MethodPost:
		f.store(w, nil, f.written(nil, namespace, name, &sent, manager), dry)
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == string(types.ApplyPatchType):
		f.apply(w, now, namespace, name, &sent, manager, query.Get("force") == "true", dry)
	case now == nil:
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, "not found")
	case r.Method == http.MethodPut:
		if f.stale(now, sent.UID, sent.ResourceVersion) {
			fail(w, http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
			return
		}
		f.store(w, now, f.written(now, namespace, name, &sent, manager), dry)
	case r.Method == http.MethodPatch: // a merge patch that sets fields
		if f.stale(now, sent.UID, sent.ResourceVersion) {
			fail(w, http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
			return
		}
		merged := now.copy()
		merged.set(fieldsOf(&sent), manager+" Update")
		f.store(w, now, merged, dry)
	case r.Method == http.MethodDelete:
		var options metav1.DeleteOptions
		if err := json.Unmarshal(body, &options); err != nil {
			fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
			return
		}
		if p := options.Preconditions; p != nil && (p.UID != nil && string(*p.UID) != now.uid || p.ResourceVersion != nil && *p.ResourceVersion != strconv.Itoa(now.version)) {
			fail(w, http.StatusConflict, metav1.StatusReasonConflict, "precondition failed")
			return
		}
		delete(f.objects, namespace+"/"+name)
		answer(w, http.StatusOK, metav1.Status{TypeMeta: statusType, Status: metav1.StatusSuccess})
	default:
		fail(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, r.Method)
	}
}

func (f *Fake) list(w http.ResponseWriter, namespace, labelSelector string) {
	selector, err := labels.Parse(labelSelector)
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	list := corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}}
	for _, key := range slices.Sorted(maps.Keys(f.objects)) {
		m := f.objects[key]
		if c := m.configMap(); m.namespace == namespace && selector.Matches(labels.Set(c.Labels)) {
			list.Items = append(list.Items, c)
		}
	}
	answer(w, http.StatusOK, list)
}

func (f *Fake) stale(now *model, uid types.UID, version string) bool {
	if f.unconditional && !strings.HasPrefix(now.name, "slipway-deploy-") {
		return false
	}
	return uid != "" && string(uid) != now.uid || version != "" && version != strconv.Itoa(now.version)
}

// apply is server-side apply: an object that is there must be of the version
// and uid that are given, if any; one that is not must be given no uid.
func (f *Fake) apply(w http.ResponseWriter, now *model, namespace, name string, sent *corev1.ConfigMap, manager string, force, dry bool) {
	manager += " Apply"
	wanted := fieldsOf(sent)
	next := &model{namespace: namespace, name: name, fields: map[string]string{}, owners: map[string]map[string]bool{}}
	if now == nil {
		if sent.UID != "" {
			fail(w, http.StatusConflict, metav1.StatusReasonConflict, "uid mismatch")
			return
		}
	} else {
		if sent.UID != "" && string(sent.UID) != now.uid {
			fail(w, http.StatusConflict, metav1.StatusReasonConflict, "uid mismatch")
			return
		}
		var causes []metav1.StatusCause
		for field, value := range wanted {
			for other, fields := range now.owners {
				if other != manager && fields[field] && now.fields[field] != value {
					causes = append(causes, metav1.StatusCause{
						Type: metav1.CauseTypeFieldManagerConflict, Field: "." + strings.ReplaceAll(field, "/", "."),
						Message: fmt.Sprintf("conflict with %q using v1", strings.Fields(other)[0]),
					})
				}
			}
		}
		if len(causes) > 0 && !force {
			answer(w, http.StatusConflict, metav1.Status{
				TypeMeta: statusType, Status: metav1.StatusFailure, Code: http.StatusConflict, Reason: metav1.StatusReasonConflict,
				Message: "Apply failed with conflicts", Details: &metav1.StatusDetails{Causes: causes},
			})
			return
		}
		if f.stale(now, "", sent.ResourceVersion) {
			fail(w, http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
			return
		}
		next = now.copy()
	}
	before := next.owners[manager]
	next.set(wanted, manager)
	for field := range before {
		if _, kept := wanted[field]; !kept {
			next.drop(field, manager)
		}
	}
	f.store(w, now, next, dry)
}

// written is an object as a create or an update leaves it.
func (f *Fake) written(now *model, namespace, name string, sent *corev1.ConfigMap, manager string) *model {
	manager += " Update"
	next := &model{namespace: namespace, name: name, fields: map[string]string{}, owners: map[string]map[string]bool{}}
	wanted := fieldsOf(sent)
	if now != nil {
		next = now.copy()
		for field := range now.fields {
			if _, kept := wanted[field]; !kept {
				delete(next.fields, field)
				for _, fields := range next.owners {
					delete(fields, field)
				}
			}
		}
	}
	changed := map[string]string{}
	for field, value := range wanted {
		if old, there := next.fields[field]; !there || old != value {
			changed[field] = value
		}
	}
	next.set(changed, manager)
	return next
}

// store answers with next, and keeps it unless this is a dry run. What changes
// nothing keeps its version.
func (f *Fake) store(w http.ResponseWriter, now, next *model, dry bool) {
	status := http.StatusOK
	if now == nil {
		status = http.StatusCreated
	}
	if now != nil && maps.Equal(now.fields, next.fields) && maps.EqualFunc(now.owners, next.owners, maps.Equal[map[string]bool]) {
		answer(w, status, now.configMap())
		return
	}
	if dry {
		if now == nil {
			next.uid = "dry"
		}
		answer(w, status, next.configMap())
		return
	}
	f.version++
	next.version = f.version
	if now == nil {
		next.uid = fmt.Sprintf("uid-%d", f.version)
	}
	f.objects[next.namespace+"/"+next.name] = next
	answer(w, status, next.configMap())
}

func (m *model) copy() *model {
	next := *m
	next.fields = maps.Clone(m.fields)
	next.owners = map[string]map[string]bool{}
	for manager, fields := range m.owners {
		next.owners[manager] = maps.Clone(fields)
	}
	return &next
}

// set gives fields values, and to manager. Who had another value there loses it.
func (m *model) set(fields map[string]string, manager string) {
	if len(fields) == 0 {
		return
	}
	own := maps.Clone(m.owners[manager])
	if own == nil {
		own = map[string]bool{}
	}
	for field, value := range fields {
		if m.fields[field] != value {
			for _, others := range m.owners {
				delete(others, field)
			}
		}
		m.fields[field], own[field] = value, true
	}
	m.owners[manager] = own
	maps.DeleteFunc(m.owners, func(_ string, fields map[string]bool) bool { return len(fields) == 0 })
}

// drop takes a field from manager, and away if nobody else owns it.
func (m *model) drop(field, manager string) {
	delete(m.owners[manager], field)
	for _, fields := range m.owners {
		if fields[field] {
			return
		}
	}
	delete(m.fields, field)
}

func fieldsOf(c *corev1.ConfigMap) map[string]string {
	fields := map[string]string{}
	for prefix, values := range map[string]map[string]string{"data/": c.Data, "labels/": c.Labels, "annotations/": c.Annotations} {
		for key, value := range values {
			fields[prefix+key] = value
		}
	}
	return fields
}

func (m *model) configMap() corev1.ConfigMap {
	c := corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: m.namespace, Name: m.name, UID: types.UID(m.uid), ResourceVersion: strconv.Itoa(m.version),
			Labels: map[string]string{}, Annotations: map[string]string{},
		},
		Data: map[string]string{},
	}
	for field, value := range m.fields {
		kind, key, _ := strings.Cut(field, "/")
		switch kind {
		case "data":
			c.Data[key] = value
		case "labels":
			c.Labels[key] = value
		case "annotations":
			c.Annotations[key] = value
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(m.owners)) {
		manager, operation, _ := strings.Cut(owner, " ")
		set := fieldpath.NewSet()
		for field := range m.owners[owner] {
			kind, key, _ := strings.Cut(field, "/")
			path := fieldpath.MakePathOrDie(kind, key)
			if kind != "data" {
				path = fieldpath.MakePathOrDie("metadata", kind, key)
			}
			set.Insert(path)
		}
		fields, err := set.ToJSON()
		if err != nil {
			panic(err) // names always marshal
		}
		c.ManagedFields = append(c.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: manager, Operation: metav1.ManagedFieldsOperationType(operation), APIVersion: "v1",
			FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(fields)),
		})
	}
	return c
}

var statusType = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}

func fail(w http.ResponseWriter, code int32, reason metav1.StatusReason, message string) {
	answer(w, int(code), metav1.Status{TypeMeta: statusType, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // whoever does not read any more was killed
}
