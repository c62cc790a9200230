package e2e

import (
	"archive/tar"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	containers "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// onNode starts a server where pods reach it, with TLS if there is a
// certificate.
func onNode(t *testing.T, handler http.Handler, certificates ...tls.Certificate) (host string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", cluster.NodeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}}
	if len(certificates) == 0 {
		server.Start()
	} else {
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: certificates}
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	return listener.Addr().String()
}

// ownCertificate is one for the node that signs itself, and in PEM.
func ownCertificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(cluster.NodeIP)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// The example run has everything that skaffold.yaml says about a build in a
// cluster, and a registry with a certificate of its own behind no proxy; the
// cluster's is behind one.
func TestExampleBuild(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	certificate, ca := ownCertificate(t)
	own := onNode(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))), certificate)
	var proxied atomic.Int32
	proxy := onNode(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Add(1)
		if r.URL.Host != s.Registry {
			t.Errorf("the proxy was asked for %s", r.URL)
		}
		out := r.Clone(r.Context())
		out.RequestURI = ""
		_, port, _ := net.SplitHostPort(r.URL.Host)
		out.URL.Host = net.JoinHostPort(cluster.NodeIP, port)
		answer, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		for key, values := range answer.Header {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))

	page := s.newApp(t, "page")
	page.write(t, "Dockerfile", `FROM busybox
ARG VERSION
COPY index.html /www/
RUN echo "$VERSION" >/www/version && cat /settings/greeting >/www/greeting && mkdir /scratch && echo x >/scratch/left-out
`)
	commit := page.push(t)
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", page.URL()), stringParam("revision", commit)},
		Workspaces: []v1.WorkspaceBinding{s.claim("output", "source")},
	})
	for configMap, data := range map[string]map[string]string{"registry-certificates": {"ca.crt": ca}, "settings": {"greeting": "ahoy"}} {
		if _, err := s.Kube.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: configMap}, Data: data}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Kube.CoreV1().ServiceAccounts(s.namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	example := exampleBuild(t)
	set := func(param v1.Param) {
		i := slices.IndexFunc(example.Spec.Params, func(p v1.Param) bool { return p.Name == param.Name })
		if i < 0 {
			i = len(example.Spec.Params)
			example.Spec.Params = append(example.Spec.Params, param)
		}
		example.Spec.Params[i] = param
	}
	set(stringParam("image", own+"/team/page"))
	set(v1.Param{Name: "registry-certificates", Value: flow.Array(own + "=ca.crt")})
	set(v1.Param{Name: "destinations", Value: flow.Array(s.Images + "page:latest")})
	set(v1.Param{Name: "immutable-tags", Value: flow.Array("edge")})
	set(v1.Param{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)})
	set(v1.Param{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)})
	set(stringParam("http-proxy", "http://"+proxy))

	run := s.tryTask(t, "slipway-build", example.Spec, func(run *v1.TaskRun) { run.Labels, run.Annotations = example.Labels, example.Annotations })
	text := s.taskLog(t, run)
	if !run.IsSuccessful() {
		t.Fatal(text)
	}
	urls := []string{own + "/team/page:" + commit, own + "/team/page:edge", s.Images + "page:latest"}
	var digest string
	for _, result := range run.Status.Results {
		switch result.Name {
		case "IMAGE_URL":
			if result.Value.StringVal != urls[0] {
				t.Errorf("IMAGE_URL is %s, want %s", result.Value.StringVal, urls[0])
			}
		case "image-urls":
			if !slices.Equal(result.Value.ArrayVal, urls) {
				t.Errorf("image-urls are %s, want %s", result.Value.ArrayVal, urls)
			}
		case "IMAGE_DIGEST":
			digest = result.Value.StringVal
		}
	}
	if proxied.Load() == 0 {
		t.Error("nobody asked the proxy")
	}
	s.checkOwn(t, urls, digest, ca)
	img := s.pull(t, "page", digest)
	holdsFiles(t, img, map[string]string{"www/version": commit + "\n", "www/greeting": "ahoy"})
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config.Labels["org.opencontainers.image.version"]; got != commit {
		t.Errorf("the label is %q, want %s", got, commit)
	}
	if files := s.onClaim(t, "output"); files != "feed-agg.tar" {
		t.Errorf("the workspace output has %s", files)
	}
	s.checkPod(t, run)

	// The tag edge must not move: nothing is built a second time.
	again := s.tryTask(t, "slipway-build", example.Spec)
	want := "prepare: param immutable-tags: " + urls[1] + " is " + digest + " already, and must not move; give the image another tag\n"
	if text := s.taskLog(t, again); again.IsSuccessful() || !strings.Contains(text, want) {
		t.Errorf("want %s\n%s", want, text)
	}
}

func exampleBuild(t *testing.T) *v1.TaskRun {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(cluster.Root(), "examples", "app", "build.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var run v1.TaskRun
	if err := yaml.UnmarshalStrict(content, &run); err != nil {
		t.Fatal(err)
	}
	return &run
}

// checkOwn wants the registry of the test's own to have the image by each name.
func (s *site) checkOwn(t *testing.T, urls []string, digest, ca string) {
	t.Helper()
	known := x509.NewCertPool()
	known.AppendCertsFromPEM([]byte(ca))
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: known}
	for _, url := range urls[:2] {
		tag, err := name.NewTag(url)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remote.Head(tag, remote.WithTransport(transport)); err != nil || got.Digest.String() != digest {
			t.Errorf("%s: %v, %v, want %s", url, got, err, digest)
		}
	}
}

// checkPod wants the example's settings in the pod of its run.
func (s *site) checkPod(t *testing.T, run *v1.TaskRun) {
	t.Helper()
	pod, err := s.Kube.CoreV1().Pods(s.namespace).Get(t.Context(), run.Status.PodName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Labels["team"] != "harbour" || pod.Annotations["example.com/cost-center"] != "17" {
		t.Errorf("labels %v, annotations %v", pod.Labels, pod.Annotations)
	}
	spec := pod.Spec
	tolerated := slices.ContainsFunc(spec.Tolerations, func(toleration corev1.Toleration) bool { return toleration.Key == "builds" })
	pulled := slices.ContainsFunc(spec.ImagePullSecrets, func(secret corev1.LocalObjectReference) bool { return secret.Name == "kaniko-image" })
	if spec.ServiceAccountName != "builder" || spec.NodeSelector["kubernetes.io/os"] != "linux" || !tolerated || !pulled || *spec.SecurityContext.RunAsUser != 0 {
		t.Errorf("the pod is %+v", spec)
	}
	if run.Spec.Timeout.Duration != 20*time.Minute {
		t.Errorf("the timeout is %s", run.Spec.Timeout.Duration)
	}
	for _, container := range spec.Containers {
		if container.Name == "step-build" && container.Resources.Limits.Memory().String() != "4Gi" {
			t.Errorf("the build step has %v", container.Resources)
		}
	}
}

// holdsFiles wants files with these contents in an image, and nothing that was
// left out of it.
func holdsFiles(t *testing.T, img containers.Image, want map[string]string) {
	t.Helper()
	content := mutate.Extract(img)
	defer content.Close()
	got := map[string]string{}
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		file := strings.TrimPrefix(header.Name, "/")
		if strings.HasPrefix(file, "scratch/") || strings.HasPrefix(file, "settings/") {
			t.Errorf("the image has %s", file)
		}
		if _, ok := want[file]; ok {
			text, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			got[file] = string(text)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the image has %q, want %q", got, want)
	}
}
