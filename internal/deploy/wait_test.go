package deploy

import (
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestJudgeJob: where kstatus is content with a Job that has started, a deploy
// waits until its work is done.
func TestJudgeJob(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		job  string
		want status.Status
	}{
		"not started": {"status: {}", status.InProgressStatus},
		"running":     {"status: {startTime: 2026-01-02T03:04:05Z, active: 1}", status.InProgressStatus},
		"complete":    {"status: {startTime: 2026-01-02T03:04:05Z, conditions: [{type: Complete, status: 'True'}]}", status.CurrentStatus},
		"failed":      {"status: {startTime: 2026-01-02T03:04:05Z, conditions: [{type: Failed, status: 'True'}]}", status.FailedStatus},
		"suspended":   {"spec: {suspend: true}\nstatus: {}", status.CurrentStatus},
	} {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte("apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate}\n"+tc.job), &object.Object); err != nil {
			t.Fatal(err)
		}
		result, err := judge(object)
		if err != nil || result.Status != tc.want {
			t.Errorf("%s: %v, %v; want %s", name, result, err, tc.want)
		}
	}
}
