package deploy

import (
	"encoding/base64"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// masked stands for the value of a secret.
const masked = "(masked)"

// shortestSecret is the length from which on a secret's value is masked
// wherever it is found in a text. Shorter ones would mask half of every log;
// they are masked where they are known to be values.
const shortestSecret = 4

// mask is a log that shows no value of a Secret it was told of, neither as it
// is nor as base64.
type mask struct {
	log io.Writer

	mu     sync.Mutex
	values []string // the longest first
}

// hide masks the values of object, if it is a Secret, from now on.
func (m *mask) hide(object *unstructured.Unstructured) {
	if object == nil || !isSecret(object) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	add := func(value string) {
		for _, text := range append(strings.Split(value, "\n"), value) { // a container's log comes line by line
			if text = strings.TrimSpace(text); len(text) >= shortestSecret {
				m.values = append(m.values, text, base64.StdEncoding.EncodeToString([]byte(text)))
			}
		}
	}
	for _, text := range scalars(object.Object["data"], nil) {
		if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
			add(string(decoded))
		}
		if len(text) >= shortestSecret {
			m.values = append(m.values, text)
		}
	}
	for _, text := range scalars(object.Object["stringData"], nil) {
		add(text)
	}
	slices.SortFunc(m.values, func(a, b string) int { return len(b) - len(a) })
	m.values = slices.Compact(m.values)
}

// scalars appends the values in node, at any depth, as texts: where a Secret may
// have texts alone, the API server's answer shows what else is there.
func scalars(node any, texts []string) []string {
	switch node := node.(type) {
	case nil:
	case map[string]any:
		for _, child := range node {
			texts = scalars(child, texts)
		}
	case []any:
		for _, child := range node {
			texts = scalars(child, texts)
		}
	case float64:
		texts = append(texts, fmt.Sprint(node), strconv.FormatFloat(node, 'f', -1, 64))
	default:
		texts = append(texts, fmt.Sprint(node))
	}
	return texts
}

func (m *mask) text(text string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.textLocked(text)
}

func (m *mask) textLocked(text string) string {
	for _, value := range m.values {
		text = strings.ReplaceAll(text, value, masked)
	}
	return text
}

// Write takes whole lines, from several goroutines.
func (m *mask) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := io.WriteString(m.log, m.textLocked(string(p)))
	return len(p), err
}

// error is err with a text that shows no secret.
func (m *mask) error(err error) error {
	if err == nil {
		return nil
	}
	if text := m.text(err.Error()); text != err.Error() {
		return &maskedError{text, err}
	}
	return err
}

type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.err }

func isSecret(object *unstructured.Unstructured) bool {
	return object.GetKind() == "Secret" && object.GetAPIVersion() == "v1"
}

// withoutValues is object with its values masked if it is a Secret. other is
// what it is compared with: a value that differs from that one's says so.
func withoutValues(object, other *unstructured.Unstructured) *unstructured.Unstructured {
	if object == nil || !isSecret(object) {
		return object
	}
	object = object.DeepCopy()
	for _, field := range []string{"data", "stringData"} {
		values, ok := object.Object[field].(map[string]any)
		if !ok {
			if object.Object[field] != nil {
				object.Object[field] = masked
			}
			continue
		}
		for key, value := range values {
			values[key] = masked
			if other != nil {
				if old, found, _ := unstructured.NestedFieldNoCopy(other.Object, field, key); found && !reflect.DeepEqual(old, value) {
					values[key] = masked + " another value"
				}
			}
		}
	}
	if annotations := object.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		annotations[corev1.LastAppliedConfigAnnotation] = masked // a copy of what kubectl applied
		object.SetAnnotations(annotations)
	}
	return object
}
