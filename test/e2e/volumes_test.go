package e2e

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-ci/slipway/test/flow"
)

// Each kind of volume that the claim can be: the image is the same, and where
// the volume outlives the run the second run compiles nothing.
func TestKindsOfVolumes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hello := s.newApp(t, "hello")
	host, shared := s.hostFolder("host"), s.hostFolder("shared")
	for name, tc := range map[string]struct {
		first, second v1.WorkspaceBinding
		cold          bool // the second run finds nothing of the first
	}{
		"a claim for one node": {first: claimed("slipway"), second: claimed("slipway")},
		"a folder of the node": {
			first:  claimed(s.hostClaim(t, "host", host, corev1.ReadWriteOnce)),
			second: claimed("host"),
		},
		"two claims for many nodes, of one folder": {
			first:  claimed(s.hostClaim(t, "shared-one", shared, corev1.ReadWriteMany)),
			second: claimed(s.hostClaim(t, "shared-other", shared, corev1.ReadWriteMany)),
		},
		"a claim of the run": {first: ephemeral(), second: ephemeral(), cold: true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			on := func(binding v1.WorkspaceBinding) func(*v1.PipelineRun) {
				return func(run *v1.PipelineRun) {
					binding.Name = "shared"
					for i, workspace := range run.Spec.Workspaces {
						if workspace.Name == binding.Name {
							run.Spec.Workspaces[i] = binding
						}
					}
				}
			}
			first := hello.succeeds(t, on(tc.first))
			second := hello.succeeds(t, on(tc.second))
			if a, b := first.Result("build", "IMAGE_DIGEST"), second.Result("build", "IMAGE_DIGEST"); a != b {
				t.Errorf("the first run gives %s, the second %s", a, b)
			}
			again := report(t, second)
			if compiled := *again.Compiled; compiled == 0 == tc.cold {
				t.Errorf("the second run compiled %d packages", compiled)
			}
			if again.NoToolchain != "" {
				t.Errorf("Go is not from the volume: %s", again.NoToolchain)
			}
			for _, line := range second.Log {
				if strings.Contains(line, "is not used by this build") {
					t.Error(line)
				}
			}
		})
	}
}

func claimed(name string) v1.WorkspaceBinding {
	return v1.WorkspaceBinding{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

func ephemeral() v1.WorkspaceBinding {
	return v1.WorkspaceBinding{VolumeClaimTemplate: &corev1.PersistentVolumeClaim{Spec: claimSpec(corev1.ReadWriteOnce)}}
}

func claimSpec(mode corev1.PersistentVolumeAccessMode) corev1.PersistentVolumeClaimSpec {
	return corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{mode},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}
}

func (s *site) hostFolder(name string) string { return path.Join("/var/tmp", s.namespace, name) }

// hostClaim makes a claim of a folder of the node, which every user can write
// to: kubelet gives none of these to a pod's group.
func (s *site) hostClaim(t *testing.T, name, folder string, mode corev1.PersistentVolumeAccessMode) string {
	t.Helper()
	spec := claimSpec(mode)
	spec.StorageClassName, spec.VolumeName = new(string), s.namespace+"-"+name
	kind := corev1.HostPathDirectoryOrCreate
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: spec.VolumeName},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: spec.Resources.Requests, AccessModes: spec.AccessModes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: folder, Type: &kind}},
			ClaimRef:               &corev1.ObjectReference{Namespace: s.namespace, Name: name},
		},
	}
	if _, err := s.Kube.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.onFolder(t, folder, "find", "/folder", "-mindepth", "1", "-maxdepth", "1", "-exec", "rm", "-rf", "{}", "+")
		if err := s.Kube.CoreV1().PersistentVolumes().Delete(context.Background(), volume.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.Kube.CoreV1().PersistentVolumeClaims(s.namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec,
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.onFolder(t, folder, "chmod", "777", "/folder")
	return name
}

// onFolder runs a command with a folder of the node at /folder.
func (s *site) onFolder(t *testing.T, folder string, command ...string) {
	t.Helper()
	kind := corev1.HostPathDirectoryOrCreate
	s.onVolume(t, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: folder, Type: &kind}}, command...)
}

// onVolume runs a command with a volume at /folder.
func (s *site) onVolume(t *testing.T, volume corev1.VolumeSource, command ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // it cleans up, too
	pod, err := s.Kube.CoreV1().Pods(s.namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "folder-"},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "command", Image: "busybox", ImagePullPolicy: corev1.PullIfNotPresent, Command: command,
				VolumeMounts: []corev1.VolumeMount{{Name: "folder", MountPath: "/folder"}},
			}},
			Volumes: []corev1.Volume{{Name: "folder", VolumeSource: volume}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = flow.Eventually(ctx, 2*time.Minute, "pod "+pod.Name, func(ctx context.Context) error {
		pod, err := s.Kube.CoreV1().Pods(s.namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A cache in an emptyDir is one for the length of the run: what Go commands of
// one build have in common. Its toolchains cannot be mounted a second time.
func TestACacheOfTheRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hello := s.newApp(t, "hello")
	source, output := s.claim("source", "sources"), s.claim("output", "sources")
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", hello.URL()), stringParam("revision", hello.push(t))},
		Workspaces: []v1.WorkspaceBinding{output},
	})
	build := func(workspaces ...v1.WorkspaceBinding) string {
		return s.task(t, "slipway-build", v1.TaskRunSpec{
			Params: v1.Params{
				stringParam("image", s.Registry+"/hello:emptydir"),
				stringParam("go-proxy", s.GoProxy),
				{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)},
				{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)},
			},
			Workspaces: append(workspaces, source),
		})["IMAGE_DIGEST"]
	}
	empty := func(name string) v1.WorkspaceBinding {
		return v1.WorkspaceBinding{Name: name, EmptyDir: &corev1.EmptyDirVolumeSource{}}
	}
	want := build()
	if got := build(empty("cache")); got != want {
		t.Errorf("with a cache in an emptyDir it is %s, without one %s", got, want)
	}
	if got := build(empty("cache"), empty("toolchains")); got != want {
		t.Errorf("with another for toolchains it is %s, without one %s", got, want)
	}
}
