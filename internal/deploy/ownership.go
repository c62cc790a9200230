package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// everyone is the name for all managers in the param take-ownership-from.
const everyone = "*"

// fieldConflicts are the fields that err says another manager owns.
func fieldConflicts(err error) []metav1.StatusCause {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(status.Status().Details.Causes), func(cause metav1.StatusCause) bool {
		return cause.Type != metav1.CauseTypeFieldManagerConflict
	})
}

func isOwnershipConflict(err error) bool { return len(fieldConflicts(err)) > 0 }

// conflictManager finds the manager in a cause's message:
// `conflict with "kubectl-edit" using v1`, also with a subresource or a time.
var conflictManager = regexp.MustCompile(`^conflict with ("(?:[^"\\]|\\.)*")`)

func managerOf(cause metav1.StatusCause) string {
	match := conflictManager.FindStringSubmatch(cause.Message)
	if match == nil {
		return ""
	}
	name, err := strconv.Unquote(match[1])
	if err != nil {
		return ""
	}
	return name
}

// managers are the names of who owns fields of an object, each once.
func managers(object *unstructured.Unstructured) []string {
	var names []string
	for _, entry := range object.GetManagedFields() {
		names = append(names, entry.Manager)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// conflicts says of each field in err who owns it and what it has.
func (t *target) conflicts(err error) []string {
	var lines []string
	for _, cause := range fieldConflicts(err) {
		line := fmt.Sprintf("field %s has a %s", cause.Field, cause.Message)
		if value, ok := at(t.before, cause.Field); ok {
			line += ", which has set it to " + value
		}
		lines = append(lines, line)
	}
	return lines
}

// at is the value of a field as the API server's messages name it:
// .spec.containers[name="app"].image.
func at(object *unstructured.Unstructured, path string) (string, bool) {
	if object == nil {
		return "", false
	}
	if isSecret(object) && (strings.HasPrefix(path, ".data") || strings.HasPrefix(path, ".stringData")) {
		return masked, true
	}
	var node any = object.Object
	for path != "" {
		var key string
		if path[0] == '[' {
			end := closing(path)
			if end < 0 {
				return "", false
			}
			key, path = path[1:end], path[end+1:]
			list, ok := node.([]any)
			if !ok {
				return "", false
			}
			if node, ok = pick(list, key); !ok {
				return "", false
			}
			continue
		}
		fields, ok := node.(map[string]any)
		if !ok {
			return "", false
		}
		// A key may itself have dots: the longest that is there is meant.
		rest := strings.TrimPrefix(path, ".")
		for _, candidate := range slices.SortedFunc(keysOf(fields), func(a, b string) int { return len(b) - len(a) }) {
			if after, found := strings.CutPrefix(rest, candidate); found && (after == "" || after[0] == '.' || after[0] == '[') {
				key, path, node = candidate, after, fields[candidate]
				break
			}
		}
		if key == "" {
			return "", false
		}
	}
	text, err := json.Marshal(node)
	if err != nil || len(text) > 200 {
		return "", false
	}
	return string(text), true
}

func keysOf(fields map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range fields {
			if !yield(key) {
				return
			}
		}
	}
}

// closing is where the bracket that path starts with is closed.
func closing(path string) int {
	quoted := false
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && quoted:
			i++
		case path[i] == '"':
			quoted = !quoted
		case path[i] == ']' && !quoted:
			return i
		}
	}
	return -1
}

// pick is the item of a list that key names: an index, `="value"` or
// `name="app",port=80`.
func pick(list []any, key string) (any, bool) {
	if index, err := strconv.Atoi(key); err == nil {
		if index < 0 || index >= len(list) {
			return nil, false
		}
		return list[index], true
	}
	for _, item := range list {
		if want, ok := strings.CutPrefix(key, "="); ok {
			if text, err := json.Marshal(item); err == nil && string(text) == want {
				return item, true
			}
			continue
		}
		fields, ok := item.(map[string]any)
		if !ok {
			continue
		}
		all := true
		for pair := range strings.SplitSeq(key, ",") {
			name, want, _ := strings.Cut(pair, "=")
			text, err := json.Marshal(fields[name])
			all = all && err == nil && string(text) == want
		}
		if all {
			return item, true
		}
	}
	return nil, false
}

// mayTake reports whether all conflicts in err are with managers that the
// deploy is to take over from.
func mayTake(err error, from []string) bool {
	conflicts := fieldConflicts(err)
	return len(conflicts) > 0 && !slices.ContainsFunc(conflicts, func(cause metav1.StatusCause) bool {
		return !slices.Contains(from, everyone) && !slices.Contains(from, managerOf(cause))
	})
}

// adopt makes the deploy the owner of all fields that managers in from own of
// the object as it was read. It is what turns an object that kubectl or
// skaffold applied into one of the deploy's: fields that left the manifests
// since are removed by the apply that follows.
func (t *target) adopt(ctx context.Context, from []string) error {
	owners, changed, err := takeOver(t.before.GetManagedFields(), from, t.object.GetAPIVersion())
	if err != nil || !changed {
		return err
	}
	body, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": t.before.GetUID()},
		{"op": "replace", "path": "/metadata/managedFields", "value": owners},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": t.before.GetResourceVersion()},
	})
	if err != nil {
		return err
	}
	now, err := t.resource.Patch(ctx, t.object.GetName(), types.JSONPatchType, body, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return err
	}
	t.before = now
	return nil
}

// takeOver gives what managers in from own to the deploy's own entry.
func takeOver(entries []metav1.ManagedFieldsEntry, from []string, apiVersion string) (_ []metav1.ManagedFieldsEntry, changed bool, err error) {
	all := fieldpath.NewSet()
	var kept []metav1.ManagedFieldsEntry
	for _, entry := range entries {
		own := entry.Manager == fieldManager && entry.Operation == metav1.ManagedFieldsOperationApply
		named := slices.Contains(from, entry.Manager)
		if entry.Subresource != "" || entry.FieldsV1 == nil || !own && !named {
			kept = append(kept, entry)
			continue
		}
		changed = changed || !own
		set := fieldpath.NewSet()
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			return nil, false, fmt.Errorf("read the fields that %s owns: %w", entry.Manager, err)
		}
		all = all.Union(set)
	}
	if !changed {
		return entries, false, nil
	}
	fields, err := all.ToJSON()
	if err != nil {
		return nil, false, err
	}
	now := metav1.Now()
	return append(kept, metav1.ManagedFieldsEntry{
		Manager: fieldManager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: apiVersion,
		Time: &now, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(fields)),
	}), true, nil
}
