package deploy

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func secretOf(t *testing.T, data string) *unstructured.Unstructured {
	t.Helper()
	return parse(t, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: token\n  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{old1}'}\n"+data)
}

// TestDiffOfSecrets: a diff shows neither the values that are nor those that
// would be, without help of what masks the log.
func TestDiffOfSecrets(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ before, object, want string }{
		"another value": {"data: {pin: old1, same: old1}", "data: {pin: new1, same: old1}", "-  pin: (masked)\n+  pin: (masked) another value\n   same: (masked)"},
		"removed":       {"data: {pin: old1, same: old1}", "data: {same: old1}", "-  pin: (masked)\n   same: (masked)"},
		"added":         {"data: {same: old1}", "data: {pin: new1, same: old1}", "+  pin: (masked)\n   same: (masked)"},
		"created":       {"", "stringData: {pin: new1}", "+  pin: (masked)"},
		"no text":       {"", "stringData: {pin: {deep: new1}}", "+  pin: (masked)"},
		"no map":        {"", "stringData: [new1]", "+stringData: (masked)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := &target{object: secretOf(t, tc.object)}
			if tc.before != "" {
				target.before, target.trial = secretOf(t, tc.before), target.object
			}
			var log bytes.Buffer
			if err := printDiff(&log, target); err != nil {
				t.Fatal(err)
			}
			if text := log.String(); strings.Contains(text, "old1") || strings.Contains(text, "new1") || !strings.Contains(text, tc.want) {
				t.Errorf("%s\nwant no value, and\n%s", text, tc.want)
			}
		})
	}
}

// TestVeil: a value that a Secret has in the cluster is masked in what is said of
// it, wherever it is there, but not where the overlay says it: whoever wrote that
// would learn that it is one.
func TestVeil(t *testing.T) {
	t.Parallel()
	before := secretOf(t, "data: {token: cmlnaHQtMQ==, other: cmlnaHQtMg==}") // right-1, right-2
	object := secretOf(t, "data: {token: eA==}")
	object.SetAnnotations(map[string]string{"right-1": "cmlnaHQtMQ==", "wrong": "wrong-1"})
	const said = "right-1 cmlnaHQtMQ== wrong-1 right-2 cmlnaHQtMg=="
	for name, tc := range map[string]struct {
		target *target
		want   string
	}{
		"the deploy's": {&target{object: object, before: before}, "right-1 cmlnaHQtMQ== wrong-1 (masked) (masked)"},
		"withheld":     {&target{object: object, before: before, withheld: true}, said},
		"created":      {&target{object: object}, said},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tc.target.veil().text(said); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestMask: what a Secret has is found in any text and in errors: as it is, line
// by line and as base64. Other kinds have nothing to hide.
func TestMask(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	m := &mask{log: &log}
	m.hide(nil)
	m.hide(parse(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: feeds}\ndata: {feeds: cGxhaW4=}\n"))
	m.hide(secretOf(t, "data: {token: aHVudGVyMg==}\nstringData: {key: \"first line\\nsecond line\\n\", pin: \"17\"}"))
	logf(m, "hunter2 aHVudGVyMg== cGxhaW4= 17 | second line | c2Vjb25kIGxpbmU= | hunter2hunter2")
	if want := "(masked) (masked) cGxhaW4= 17 | (masked) | (masked) | (masked)(masked)\n"; log.String() != want {
		t.Errorf("%q, want %q", log.String(), want)
	}
	m.hide(secretOf(t, "data: [12345.5]\nstringData: {pin: 123456, deep: {in: [nested]}, none: null}"))
	if got, want := m.text("pin 123456 nested 12345.5 nil"), "pin (masked) (masked) (masked) nil"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	cause := errors.New("token hunter2 is invalid")
	if err := m.error(cause); err.Error() != "token (masked) is invalid" || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}
