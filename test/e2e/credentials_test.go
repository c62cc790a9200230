package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// search is a RUN that looks for the pattern wherever it can: in the
// environment and the command line of every process, and in every file of every
// mount. It fails where it finds more than is allowed.
const search = `{ env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/mounts; } 2>/dev/null | tr '\0' '\n' | grep -E 'PATTERN' >/tmp/found
find / \( -path /proc -o -path /sys -o -path /tmp \) -prune -o -type f -exec grep -E -l -s 'PATTERN' {} + >>/tmp/found
echo "searched $(find / \( -path /proc -o -path /sys \) -prune -o -type f -print | wc -l) files"
grep -v '^/slipway-secrets/shown$\|^/kaniko/secrets/' /tmp/found && exit 1
grep -q shown /tmp/found || { echo "the search does not even find the secret that is there"; exit 1; }
rm /tmp/found
`

// tokenHeader is how the header of a service account's token reads. As all that
// is searched for, it does not match itself: the Dockerfile is among what is
// searched.
const tokenHeader = `eyJhbGciOiJSUzI1NiIsImtpZCI[6]`

// A Dockerfile that searches its whole world finds no credential, though its
// base image, a module and its push all need one. Its pod is admitted under the
// baseline Pod Security Standard.
func TestRunFindsNoCredential(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.enforce(t, "baseline")
	const (
		modulePassword = "anchor-93d1e0"
		gitPassword    = "bowsprit-e6d108"
		kept           = "ballast-5c77aa" // a secret that nothing mounts
		shown          = "pennant-0b2f4d" // one that a RUN mounts, so that all can read it
	)
	proxy, sum := modulesWithPassword(t, modulePassword)
	s.pushPrivate(t, "base/golang", "1")

	auth := base64.StdEncoding.EncodeToString([]byte(cluster.PrivateUser + ":" + cluster.PrivatePassword))
	login, err := json.Marshal(map[string]any{"auths": map[string]any{cluster.PrivateRegistry: map[string]string{"auth": auth}}})
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(strings.TrimPrefix(proxy, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	s.secret(t, "registry", corev1.SecretTypeDockerConfigJson, map[string]string{corev1.DockerConfigJsonKey: string(login)})
	s.secret(t, "netrc", "", map[string]string{".netrc": "machine " + host + " login robot password " + modulePassword + "\n"})
	s.secret(t, "git-credentials", "", map[string]string{".git-credentials": "https://robot:" + gitPassword + "@git.corp.example\n"})
	s.secret(t, "secrets", "", map[string]string{"kept": kept, "shown": shown})

	words := []string{cluster.PrivatePassword, auth, modulePassword, gitPassword, kept, shown}
	for i, word := range words {
		last := len(word) - 1
		words[i] = regexp.QuoteMeta(word[:last]) + "[" + word[last:] + "]"
	}
	words = append(words, tokenHeader)
	app := s.appFrom(t, flow.App{Name: "search"}, filepath.Join("testdata", "hello"))
	app.write(t, "go.mod", "module hello\n\ngo 1.26\n\nrequire corp.example/lib v1.0.0\n")
	app.write(t, "go.sum", sum)
	app.write(t, "main.go", "package main\n\nimport \"corp.example/lib\"\n\nfunc main() { println(lib.Word) }\n")
	app.write(t, "Dockerfile", "FROM "+cluster.PrivateRegistry+"/base/golang:1 AS build\nWORKDIR /src\nCOPY . .\n"+
		"RUN --mount=type=secret,id=shown go build -o /app .\n"+
		"RUN <<'EOF'\n"+strings.ReplaceAll(search, "PATTERN", strings.Join(words, "|"))+"EOF\n"+
		"FROM scratch\nCOPY --from=build /app /app\n")
	source, output := s.claim("source", "search"), s.claim("output", "search")
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", app.URL()), stringParam("revision", app.push(t))},
		Workspaces: []v1.WorkspaceBinding{output},
	})
	results := s.task(t, "slipway-build", v1.TaskRunSpec{
		Params: v1.Params{
			stringParam("image", cluster.PrivateRegistry+"/search"),
			stringParam("go-proxy", "off"),
			stringParam("go-private", "corp.example"),
			stringParam("go-private-proxy", proxy),
			{Name: "insecure-registries", Value: flow.Array(cluster.PrivateRegistry)},
		},
		Workspaces: []v1.WorkspaceBinding{
			source, s.claim("cache", "cache"), s.claim("toolchains", "cache/toolchains"),
			fromSecret("dockerconfig", "registry"), fromSecret("netrc", "netrc"),
			fromSecret("git-credentials", "git-credentials"), fromSecret("secrets", "secrets"),
		},
	})
	ref, options := s.private(t, "search", "latest")
	pushed, err := remote.Head(ref, options...)
	if err != nil {
		t.Fatal(err)
	}
	if got := pushed.Digest.String(); got != results["IMAGE_DIGEST"] {
		t.Errorf("the registry has %s, the result is %s", got, results["IMAGE_DIGEST"])
	}
}

// enforce has the namespace refuse pods that are not within a Pod Security
// Standard.
func (s *site) enforce(t *testing.T, standard string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":%q}}}`, standard)
	if _, err := s.Kube.CoreV1().Namespaces().Patch(t.Context(), s.namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	hostNetwork := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "refused"},
		Spec: corev1.PodSpec{
			HostNetwork: true,
			Containers:  []corev1.Container{{Name: "refused", Image: "refused"}},
		},
	}
	// Admission sees a namespace's label a moment after it is there.
	if err := flow.Eventually(t.Context(), time.Minute, "the cluster to enforce Pod Security Standards", func(ctx context.Context) error {
		_, err := s.Kube.CoreV1().Pods(s.namespace).Create(ctx, hostNetwork, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		switch {
		case err == nil:
			return errors.New("a pod on the host's network is let in")
		case !strings.Contains(err.Error(), "violates PodSecurity"):
			return err
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) secret(t *testing.T, name string, kind corev1.SecretType, data map[string]string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: kind, StringData: data}
	if _, err := s.Kube.CoreV1().Secrets(s.namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func fromSecret(workspace, name string) v1.WorkspaceBinding {
	return v1.WorkspaceBinding{Name: workspace, Secret: &corev1.SecretVolumeSource{SecretName: name}}
}

// private names a tag in the registry that wants a password.
func (s *site) private(t *testing.T, repository, tag string) (name.Tag, []remote.Option) {
	t.Helper()
	_, options := s.inRegistry(t, repository, tag)
	ref, err := name.NewTag(cluster.PrivateRegistry+"/"+repository+":"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref, append(options, remote.WithAuth(&authn.Basic{Username: cluster.PrivateUser, Password: cluster.PrivatePassword}))
}

// pushPrivate gives that registry golang:alpine under another name.
func (s *site) pushPrivate(t *testing.T, repository, tag string) {
	t.Helper()
	ref, options := s.private(t, repository, tag)
	if err := remote.Write(ref, s.pullTag(t, "library/golang", "alpine"), options...); err != nil {
		t.Fatal(err)
	}
}

// modulesWithPassword is a stand-in for a module proxy that wants a login: it
// serves corp.example/lib on the node, where pods reach it. sum is the go.sum
// of who uses that.
func modulesWithPassword(t *testing.T, password string) (url, sum string) {
	t.Helper()
	id := module.Version{Path: "corp.example/lib", Version: "v1.0.0"}
	const goMod = "module corp.example/lib\n\ngo 1.26\n"
	files := map[string]string{"go.mod": goMod, "lib.go": "package lib\n\nconst Word = \"aye\"\n"}
	var archive bytes.Buffer
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := zip.CreateFromDir(&archive, id, dir); err != nil {
		t.Fatal(err)
	}
	hash := func(prefix string, names ...string) string {
		sum, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(files[strings.TrimPrefix(name, prefix)])), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	prefix := id.String() + "/"
	sum = fmt.Sprintf("%[1]s %[2]s %[3]s\n%[1]s %[2]s/go.mod %[4]s\n", id.Path, id.Version, hash(prefix, prefix+"go.mod", prefix+"lib.go"), hash("", "go.mod"))

	served := map[string]string{".info": `{"Version":"v1.0.0"}`, ".mod": goMod, ".zip": archive.String()}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", cluster.NodeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := served[strings.TrimPrefix(r.URL.Path, "/corp.example/lib/@v/v1.0.0")]
		switch user, given, _ := r.BasicAuth(); {
		case user != "robot" || given != password:
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = io.WriteString(w, content)
		}
	})}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	return "http://" + listener.Addr().String(), sum
}

// A step's end is where Tekton reads the results and artifacts of the pod's
// steps, from folders that they share, and follows links there: a RUN that
// leaves links to what later steps mount has nothing of it published, and what
// it says itself is no result, with the Task's workspaces sealed or without
// them. A push that it starts early finds none either.
func TestRunPublishesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const forged = "registry.example.com/forged"
	auth := base64.StdEncoding.EncodeToString([]byte(cluster.PrivateUser + ":" + cluster.PrivatePassword))
	login, err := json.Marshal(map[string]any{"auths": map[string]any{cluster.PrivateRegistry: map[string]string{"auth": auth}}})
	if err != nil {
		t.Fatal(err)
	}
	s.secret(t, "registry", corev1.SecretTypeDockerConfigJson, map[string]string{corev1.DockerConfigJsonKey: string(login)})
	app := s.appFrom(t, flow.App{Name: "publish"}, filepath.Join("testdata", "hello"))
	links := "{ for to in /workspace/dockerconfig/.dockerconfigjson /slipway-logins/dockerconfig/.dockerconfigjson /var/run/secrets/kubernetes.io/serviceaccount/token; do " +
		"ln -sfn $to /tekton/artifacts/provenance.json; ln -sfn $to /tekton/results/build-report; ln -sfn $to /tekton/results/changes; done; } 2>/dev/null; true"
	for file, run := range map[string]string{
		"login.Dockerfile":  `ln -s /workspace/dockerconfig/.dockerconfigjson /tekton/artifacts/provenance.json; true`,
		"copy.Dockerfile":   `ln -s /slipway-logins/dockerconfig/.dockerconfigjson /tekton/artifacts/provenance.json; true`,
		"token.Dockerfile":  `ln -s /var/run/secrets/kubernetes.io/serviceaccount/token /tekton/artifacts/provenance.json; true`,
		"links.Dockerfile":  "touch /tekton/results/there /tekton/artifacts/there && exit 1; " + links,
		"forged.Dockerfile": `for result in IMAGE_URL IMAGE_DIGEST deploy-image build-report; do echo ` + forged + ` >/tekton/results/$result; done; echo '[{"key":"IMAGE_URL","value":"` + forged + `","type":1}]' >/tekton/termination; true`,
		"failed.Dockerfile": `echo '[{"key":"IMAGE_URL","value":"` + forged + `","type":1},{"key":"/tekton/artifacts/provenance.json","value":"{\"outputs\":[{\"name\":\"` + forged + `\"}]}","type":6}]' >/tekton/termination; exit 1`,
		"says.Dockerfile":   `echo '[{"key":"/tekton/artifacts/provenance.json","value":"{\"outputs\":[{\"name\":\"` + forged + `\"}]}","type":6}]' >/tekton/termination`,
	} {
		app.write(t, file, "FROM busybox AS run\nRUN "+run+"\nFROM busybox\nCOPY --from=run /bin/true /true\n")
	}
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", app.URL()), stringParam("revision", app.push(t))},
		Workspaces: []v1.WorkspaceBinding{s.claim("output", "publish")},
	})
	sealed := []v1.WorkspaceBinding{
		{Name: "sealed-results", EmptyDir: &corev1.EmptyDirVolumeSource{}},
		{Name: "sealed-artifacts", EmptyDir: &corev1.EmptyDirVolumeSource{}},
	}
	for name, tc := range map[string]struct {
		file, push string
		sealed     []v1.WorkspaceBinding
	}{
		"a link to the login":            {"login.Dockerfile", "true", nil},
		"a link to its copy":             {"copy.Dockerfile", "true", nil},
		"a link to the token":            {"token.Dockerfile", "true", nil},
		"links, sealed":                  {"links.Dockerfile", "true", sealed},
		"forged results":                 {"forged.Dockerfile", "true", nil},
		"forged results, nothing pushed": {"forged.Dockerfile", "false", nil},
		"forged results, sealed":         {"forged.Dockerfile", "false", sealed},
		"forged results of a failure":    {"failed.Dockerfile", "false", sealed},
		"forged artifacts, sealed":       {"says.Dockerfile", "true", sealed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := s.tryTask(t, "slipway-build", v1.TaskRunSpec{
				Params: v1.Params{
					stringParam("image", cluster.PrivateRegistry+"/publish:"+strings.TrimSuffix(tc.file, ".Dockerfile")),
					stringParam("dockerfile", tc.file), stringParam("push", tc.push), stringParam("tar-path", "image.tar"),
					{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)},
					{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry, cluster.PrivateRegistry)},
				},
				Workspaces: append([]v1.WorkspaceBinding{s.claim("source", "publish"), fromSecret("dockerconfig", "registry"), {Name: "output", EmptyDir: &corev1.EmptyDirVolumeSource{}}}, tc.sealed...),
			})
			if run.IsSuccessful() == (tc.file == "failed.Dockerfile") {
				t.Errorf("it has failed, or was to fail:\n%s", s.taskLog(t, run))
			}
			s.publishesNothing(t, run, cluster.PrivatePassword, auth)
			if artifacts := run.Status.Artifacts; artifacts != nil && len(artifacts.Inputs)+len(artifacts.Outputs) > 0 {
				t.Errorf("artifacts: %+v", artifacts)
			}
			for _, result := range run.Status.Results {
				if strings.Contains(result.Value.StringVal, forged) {
					t.Errorf("%s is %s", result.Name, result.Value.StringVal)
				}
				if set := result.Value.StringVal != ""; result.Name == "IMAGE_DIGEST" && set != (tc.push == "true") {
					t.Errorf("IMAGE_DIGEST is %q", result.Value.StringVal)
				}
			}
		})
	}
}

// publishesNothing looks for words, and for a service account's token, in what
// everybody may read of a TaskRun.
func (s *site) publishesNothing(t *testing.T, run *v1.TaskRun, words ...string) {
	t.Helper()
	pod, err := s.Kube.CoreV1().Pods(s.namespace).Get(t.Context(), run.Status.PodName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range []any{run.Status, pod.Status} {
		text, err := json.Marshal(status)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s is published: %s", word, text)
			}
		}
		if regexp.MustCompile(tokenHeader).Match(text) {
			t.Error("the token is published")
		}
	}
}
