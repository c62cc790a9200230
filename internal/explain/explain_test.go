package explain_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sethvargo/go-envconfig"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/internal/explain"
	"github.com/slipway-ci/slipway/internal/step"
)

const (
	waiting = `
apiVersion: tekton.dev/v1
kind: TaskRun
metadata:
  name: run-fetch
  namespace: apps
  creationTimestamp: "2026-03-02T09:00:00Z"
  labels: {tekton.dev/pipelineRun: run, tekton.dev/pipelineTask: fetch}
spec:
  workspaces:
    - name: output
      subPath: runs/1
      persistentVolumeClaim: {claimName: slipway}
status:
  podName: run-fetch-pod
`
	running = waiting + `
  steps:
    - name: clone
      terminated: {reason: TaskRunTimeout, startedAt: "2026-03-02T09:00:03Z"}
`
	neverRan = waiting + `
  steps:
    - name: clone
      terminated: {reason: TaskRunTimeout, startedAt: "2026-03-02T09:00:00Z"}
`
	bound = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: slipway, namespace: apps}
status: {phase: Bound}
`
	lost = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: slipway, namespace: apps}
status: {phase: Lost}
`
	later = `
apiVersion: v1
kind: Event
metadata: {name: b, namespace: apps}
type: Warning
reason: FailedScheduling
message: "0/1 nodes are available: 1 Insufficient memory."
lastTimestamp: "2026-03-02T09:02:00Z"
involvedObject: {kind: Pod, name: run-fetch-pod}
`
	earlier = `
apiVersion: v1
kind: Event
metadata: {name: a, namespace: apps}
type: Warning
reason: FailedScheduling
message: no nodes available
lastTimestamp: "2026-03-02T09:01:00Z"
involvedObject: {kind: Pod, name: run-fetch-pod}
`
)

func TestRun(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		objects []string
		code    int
		says    string
	}{
		"claim missing": {[]string{waiting}, step.ExitBadInput,
			"fetch never began: claim slipway does not exist in namespace apps: create that PersistentVolumeClaim, or name another in the PipelineRun's workspaces"},
		"claim missing, steps ended with the pod": {[]string{neverRan}, step.ExitBadInput, "fetch never began: claim slipway does not exist"},
		"claim without a volume":                  {[]string{waiting, lost}, step.ExitBadInput, "claim slipway has lost its volume"},
		"no node":                                 {[]string{waiting, bound, later, earlier}, step.ExitFailed, "fetch never began: pod run-fetch-pod: FailedScheduling: 0/1 nodes are available: 1 Insufficient memory."},
		"nothing known":                           {[]string{waiting, bound}, step.ExitFailed, "nothing is known of pod run-fetch-pod"},
		"slow":                                    {[]string{running}, step.ExitFailed, "fetch took longer than its timeout"},
		"no such task":                            {nil, step.ExitBadInput, "run run has no TaskRun of a task fetch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var objects []runtime.Object
			for _, content := range tc.objects {
				object := &unstructured.Unstructured{}
				if err := yaml.Unmarshal([]byte(content), &object.Object); err != nil {
					t.Fatal(err)
				}
				objects = append(objects, object)
			}
			client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
				{Group: "tekton.dev", Version: "v1", Resource: "taskruns"}: "TaskRunList",
				{Version: "v1", Resource: "events"}:                        "EventList",
				{Version: "v1", Resource: "persistentvolumeclaims"}:        "PersistentVolumeClaimList",
			}, objects...)
			err := explain.Run(t.Context(), envconfig.MapLookuper(map[string]string{
				"PARAM_NAMESPACE": "apps", "PARAM_PIPELINE_RUN": "run", "PARAM_TASK": "fetch",
			}), func() (dynamic.Interface, error) { return client, nil }, &bytes.Buffer{})
			if step.ExitCode(err) != tc.code || err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("exit code %d, %v; want %d, %q", step.ExitCode(err), err, tc.code, tc.says)
			}
		})
	}
}
