package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/slipway-ci/slipway/test/cluster/parts"
)

// readyWithin is how long any one of the cluster's parts may take to come up.
const readyWithin = 3 * time.Minute

// Up brings the cluster up and returns when Tekton Pipelines and Triggers
// serve. It starts from whatever an earlier run left behind. Where the same
// cluster is up already it changes nothing.
func Up(ctx context.Context, out io.Writer) error {
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(LogDir, 0o755); err != nil {
		return err
	}
	if isUp(ctx) {
		fmt.Fprintf(out, "the cluster is up already; logs are in %s\n", LogDir)
		return nil
	}

	p := &progress{out: out, start: time.Now(), total: 10}
	p.say("logs are in %s", LogDir)
	for _, name := range parts.Names {
		if !parts.Built(name) {
			p.total++
		}
	}
	if err := p.step(ctx, "Debian packages", installPackages); err != nil {
		return err
	}
	for _, name := range parts.Names {
		if parts.Built(name) {
			continue
		}
		if err := p.step(ctx, "build "+name, func(ctx context.Context) error {
			_, err := parts.Ensure(ctx, name, filepath.Join(LogDir, "build-"+name+".log"))
			return err
		}); err != nil {
			return err
		}
	}
	if err := p.step(ctx, "Go modules of Slipway and the example app", downloadModules); err != nil {
		return err
	}
	var initial layout.Path
	if err := p.step(ctx, "images of Tekton and kaniko, stand-ins for base images", func(ctx context.Context) (err error) {
		initial, err = images(ctx, LogDir)
		return err
	}); err != nil {
		return err
	}
	if err := p.step(ctx, "clear what an earlier run left", removeAll); err != nil {
		return err
	}
	b := &boot{images: initial}
	for _, s := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"network namespace, cgroups, keys", b.ground},
		{"etcd, containerd, registry, module proxy", b.stores},
		{"API server, and images into the registry", b.apiserver},
		{"controllers, scheduler, node, DNS", b.node},
		{"Tekton Pipelines and Triggers", b.tekton},
		{"git server and git-clone task", b.git},
	} {
		if err := p.step(ctx, s.what, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	// Asked for only now: it covers packages that were just installed.
	key, err := clusterKey(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(readyFile, []byte(key), 0o644); err != nil {
		return err
	}
	p.say("the cluster is up: %s/kubectl get pods -A", StateDir)
	return nil
}

// downloadModules gets, while there is still a way out, what is built inside the
// network namespace: by ko, and by builds that ask Athens.
func downloadModules(ctx context.Context) error {
	for dir, args := range map[string][]string{
		".":                 {"list", "-deps", "./cmd/...", "./test/cluster/..."},
		"examples/feed-agg": {"mod", "download"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = filepath.Join(Root(), dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s in %s: %w: %s", strings.Join(args, " "), dir, err, lastLines(string(out), 5))
		}
	}
	return nil
}

// clusterKey tells this version of the cluster from any other: what its images
// are made of, its parts, and everything else in this folder.
func clusterKey(ctx context.Context) (string, error) {
	images, err := imagesKey(ctx)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, images)
	for _, name := range parts.Names {
		part, err := parts.Key(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, name, part)
	}
	err = filepath.WalkDir(ownDir(), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "parts" || d.Name() == "lifecycle"):
			return fs.SkipDir
		case d.IsDir() || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, d.Name(), len(content))
		h.Write(content)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// isUp says whether the cluster that Up would bring up runs already.
func isUp(ctx context.Context) bool {
	found, err := os.ReadFile(readyFile)
	if err != nil {
		return false
	}
	key, err := clusterKey(ctx)
	return err == nil && string(found) == key && get(ctx, apiserver+"/readyz") == nil
}

// boot is one start of the cluster.
type boot struct {
	images layout.Path
	refs   map[string]string // what the images are called inside the cluster
}

func (b *boot) ground(ctx context.Context) error {
	if err := os.MkdirAll(StateDir, 0o755); err != nil {
		return err
	}
	if err := makeNetwork(ctx); err != nil {
		return err
	}
	if err := makeCgroups(); err != nil {
		return err
	}
	if err := makePKI(); err != nil {
		return err
	}
	if err := writeNodeFiles(); err != nil {
		return err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(PrivatePassword), bcrypt.MinCost)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(StateDir, "htpasswd"), []byte(PrivateUser+":"+string(hash)+"\n"), 0o600); err != nil {
		return err
	}
	if err := writeKubeconfig(); err != nil {
		return err
	}
	return b.writeKubectl()
}

// writeKubectl makes a kubectl that works from anywhere on this machine.
func (b *boot) writeKubectl() error {
	dir, err := parts.Dir("kubernetes")
	if err != nil {
		return err
	}
	link := filepath.Join(StateDir, "bin", "kubectl")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(dir, "kubernetes"), link); err != nil {
		return err
	}
	script := "#!/bin/sh\nexec nsenter --net=" + netnsPath + " env KUBECONFIG=" + Kubeconfig + " " + link + " \"$@\"\n"
	return os.WriteFile(filepath.Join(StateDir, "kubectl"), []byte(script), 0o755)
}

func (b *boot) stores(ctx context.Context) error {
	modules, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if err != nil {
		return fmt.Errorf("find the module cache: %w", err)
	}
	registry, athens := "registry", "athens"
	for _, s := range []struct {
		as, part, program string
		args, env         []string
	}{
		{"etcd", "kubernetes", "kubernetes", []string{"--data-dir=" + StateDir + "/etcd", "--unsafe-no-fsync", "--log-level=warn"}, nil},
		{"containerd", "", "/usr/bin/containerd", []string{"--config=" + StateDir + "/containerd.toml"}, nil},
		{registry, registry, registry, []string{"serve", StateDir + "/registry.yaml"}, []string{"OTEL_TRACES_EXPORTER=none"}},
		{"private-registry", registry, registry, []string{"serve", StateDir + "/private-registry.yaml"}, []string{"OTEL_TRACES_EXPORTER=none"}},
		{athens, athens, "proxy", nil, []string{
			// The machine's own module cache is what Athens serves from: the
			// namespace has no route to any other source.
			"ATHENS_GO_BINARY_ENV_VARS=GOPROXY=file://" + strings.TrimSpace(string(modules)) + "/cache/download;GONOSUMDB=*;GOFLAGS=-modcacherw",
			"ATHENS_STORAGE_TYPE=disk", "ATHENS_DISK_STORAGE_ROOT=" + StateDir + "/athens",
			"ATHENS_SUM_DBS=", "ATHENS_PORT=" + athensAddress, "ATHENS_LOG_LEVEL=info", "GOTOOLCHAIN=local",
		}},
	} {
		program := s.program
		if s.part != "" {
			dir, err := parts.Dir(s.part)
			if err != nil {
				return err
			}
			program = filepath.Join(dir, s.program)
		}
		if err := os.MkdirAll(filepath.Join(StateDir, s.as), 0o755); err != nil {
			return err
		}
		if err := start(s.as, program, s.args, s.env); err != nil {
			return err
		}
	}
	return waitFor(ctx, "etcd", func(ctx context.Context) error { return get(ctx, "http://127.0.0.1:2379/health") })
}

// athensAddress is where Athens listens; its Service has port 80.
const athensAddress = NodeIP + ":3000"

func (b *boot) apiserver(ctx context.Context) error {
	if err := startKubernetes("kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+NodeIP, "--bind-address=0.0.0.0", "--secure-port=6443",
		"--service-cluster-ip-range="+serviceCIDR,
		"--tls-cert-file="+apiserverCert, "--tls-private-key-file="+apiserverKey, "--client-ca-file="+caFile,
		"--kubelet-preferred-address-types=InternalIP", // the node's name is not in any DNS
		"--kubelet-client-certificate="+adminCert, "--kubelet-client-key="+adminKey,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file="+serviceAccountKey, "--service-account-key-file="+serviceAccountKey,
		"--authorization-mode=Node,RBAC", "--allow-privileged=true",
		// Webhooks are called at their pods' addresses: kube-proxy may not
		// have caught up yet.
		"--enable-aggregator-routing=true",
	); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return waitFor(ctx, "kube-apiserver", func(ctx context.Context) error { return get(ctx, apiserver+"/readyz") })
	})
	group.Go(func() error {
		if err := waitFor(ctx, "registry", func(ctx context.Context) error { return get(ctx, "http://"+registryAddress+"/v2/") }); err != nil {
			return err
		}
		refs, err := pushImages(ctx, b.images)
		b.refs = refs
		return err
	})
	return group.Wait()
}

func (b *boot) node(ctx context.Context) error {
	coredns, err := parts.Dir("coredns")
	if err != nil {
		return err
	}
	kubeconfig := "--kubeconfig=" + Kubeconfig
	for name, args := range map[string][]string{
		"kube-controller-manager": {
			kubeconfig, "--leader-elect=false", "--use-service-account-credentials", "--root-ca-file=" + caFile,
			"--service-account-private-key-file=" + serviceAccountKey,
		},
		"kube-scheduler": {kubeconfig, "--leader-elect=false"},
		"kube-proxy":     {"--config=" + StateDir + "/kube-proxy.yaml"},
		"kubelet": {
			"--config=" + StateDir + "/kubelet.yaml", kubeconfig, "--root-dir=" + StateDir + "/kubelet",
			"--cert-dir=" + StateDir + "/kubelet-pki", "--hostname-override=slipway", "--node-ip=" + NodeIP,
		},
	} {
		if err := startKubernetes(name, args...); err != nil {
			return err
		}
	}
	if err := start("coredns", filepath.Join(coredns, "coredns"), []string{"-conf=" + StateDir + "/Corefile"}, nil); err != nil {
		return err
	}
	if err := kubectl(ctx, services+volumes, "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	provisioner, err := parts.Dir("provisioner")
	if err != nil {
		return err
	}
	if err := start("provisioner", filepath.Join(provisioner, "local-path-provisioner"), []string{
		"start", kubeconfig, "--namespace=" + volumesNamespace, "--configmap-name=local-path-config",
		"--service-account-name=default", "--helper-image=busybox",
	}, nil); err != nil {
		return err
	}
	return waitFor(ctx, "the node", func(ctx context.Context) error {
		return kubectl(ctx, "", "wait", "--for=condition=Ready", "node/slipway", "--timeout=1s")
	})
}

// services gives the programs that run beside the cluster the names that pods
// call them by.
var services = service("registry", "registry", 5000, 5000) + service("registry", "private", 5001, 5001) + service("athens", "athens", 80, 3000)

func service(namespace, name string, port, nodePort int) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  ports: [{name: http, port: %[3]d, targetPort: %[4]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %[2]s
  namespace: %[1]s
  labels: {kubernetes.io/service-name: %[2]s}
addressType: IPv4
endpoints: [{addresses: [%[5]s], conditions: {ready: true}}]
ports: [{name: http, port: %[4]d}]
`, namespace, name, port, nodePort, NodeIP)
}

func startKubernetes(name string, args ...string) error {
	dir, err := parts.Dir("kubernetes")
	if err != nil {
		return err
	}
	return start(name, filepath.Join(dir, "kubernetes"), args, nil)
}

// kubectl runs the cluster's own kubectl with input as its standard input.
func kubectl(ctx context.Context, input string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(StateDir, "kubectl"), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// waitFor waits until ok returns nil. Its error says what was still wrong.
func waitFor(ctx context.Context, what string, ok func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, readyWithin, true, func(ctx context.Context) (bool, error) {
		last = ok(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w; see %s", what, errors.Join(err, last), LogDir)
	}
	return nil
}

// get asks a server inside the node's network namespace whether it is well.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := netnsTransport()
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// netnsTransport connects from inside the node's network namespace.
func netnsTransport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = clusterTLS()
	transport.DialContext = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = inNetns(func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	return transport
}
