package e2e

import (
	"archive/tar"
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	registrytypes "github.com/google/go-containerregistry/pkg/v1/types"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-ci/slipway/test/flow"
)

// needs has for each capability of the build step something that Dockerfiles do
// and that takes it, and what is said where it is missing.
var needs = map[corev1.Capability]struct{ dockerfile, without string }{
	"CHOWN":        {"FROM busybox\nCOPY --chown=1000:1000 main.go /src/\n", "operation not permitted"},
	"DAC_OVERRIDE": {"FROM busybox\nRUN mkdir /d && chown 1000 /d && chmod 700 /d\nRUN touch /d/x\n", "Permission denied"},
	"FOWNER":       {"FROM busybox\nRUN touch /x && chown 1000 /x && chmod 600 /x\n", "Operation not permitted"},
	"FSETID":       {"FROM busybox\nRUN touch /x && chown 0:1000 /x && chmod 2755 /x && stat -c 'mode %a' /x && test -g /x\n", "mode 755"},
	"KILL":         {"FROM busybox\nUSER 1000\nRUN sleep 600 & true\n", "operation not permitted"},
	"SETFCAP":      {"FROM busybox:with-capability\nRUN true\n", "operation not permitted"},
	"SETGID":       {"FROM busybox\nUSER 0:1000\nRUN true\n", "operation not permitted"},
	"SETUID":       {"FROM busybox\nUSER 1000:0\nRUN true\n", "operation not permitted"},
	"SYS_CHROOT":   {"FROM busybox\nRUN chroot / true\n", "Operation not permitted"},
}

// The build step has the capabilities that Dockerfiles need, and none that they
// can do without.
func TestCapabilitiesAreAMinimum(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.enforce(t, "baseline")
	s.pushFileCapability(t)
	app := s.appFrom(t, flow.App{Name: "needs"}, filepath.Join("testdata", "hello"))
	for capability, need := range needs {
		app.write(t, string(capability)+".Dockerfile", need.dockerfile)
	}
	source, output := s.claim("source", "needs"), s.claim("output", "needs")
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", app.URL()), stringParam("revision", app.push(t))},
		Workspaces: []v1.WorkspaceBinding{output},
	})
	tasks := s.Tekton.TektonV1().Tasks(s.namespace)
	task, err := tasks.Get(t.Context(), "slipway-build", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	step := slices.IndexFunc(task.Spec.Steps, func(step v1.Step) bool { return step.Name == "build" })
	has := task.Spec.Steps[step].SecurityContext.Capabilities
	if len(has.Add) != len(needs) || len(has.Drop) != 1 || has.Drop[0] != "ALL" {
		t.Errorf("the build step has %v, needed are %d", has, len(needs))
	}
	for _, capability := range has.Add {
		t.Run(string(capability), func(t *testing.T) {
			t.Parallel()
			spec := v1.TaskRunSpec{
				Params: v1.Params{
					stringParam("image", s.Images+"needs:"+strings.ToLower(string(capability))),
					stringParam("dockerfile", string(capability)+".Dockerfile"),
					stringParam("skip-unchanged", "false"),
					{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)},
					{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)},
				},
				Workspaces: []v1.WorkspaceBinding{source, s.claim("cache", "cache")},
			}
			s.task(t, "slipway-build", spec)

			less := &v1.Task{ObjectMeta: metav1.ObjectMeta{Name: "without-" + strings.ToLower(strings.ReplaceAll(string(capability), "_", "-"))}, Spec: *task.Spec.DeepCopy()}
			capabilities := less.Spec.Steps[step].SecurityContext.Capabilities
			capabilities.Add = slices.DeleteFunc(capabilities.Add, func(c corev1.Capability) bool { return c == capability })
			if _, err := tasks.Create(t.Context(), less, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			run := s.tryTask(t, less.Name, spec)
			log := s.taskLog(t, run)
			if need := needs[capability]; run.IsSuccessful() || !strings.Contains(log, need.without) {
				t.Errorf("without it, this succeeds (%t) or does not say %q:\n%s\n%s", run.IsSuccessful(), need.without, need.dockerfile, log)
			}
		})
	}
}

// pushFileCapability gives the registry busybox:with-capability, which has a
// file with a capability, as images of Debian have ping.
func (s *site) pushFileCapability(t *testing.T) {
	t.Helper()
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	if err := archive.WriteHeader(&tar.Header{
		Name: "usr/bin/ping", Typeflag: tar.TypeReg, Mode: 0o755, Format: tar.FormatPAX,
		// CAP_NET_RAW, permitted and effective (struct vfs_cap_data, linux/capability.h).
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(s.pullTag(t, "library/busybox", "latest"), static.NewLayer(layer.Bytes(), registrytypes.DockerUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	s.push(t, "library/busybox", "with-capability", img)
}
