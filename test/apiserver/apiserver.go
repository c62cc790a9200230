// Package apiserver runs a real Kubernetes API server, with an etcd of its own,
// for tests: nothing else proves what an apply does. There are no controllers
// and no nodes behind it, so a test says itself how a rollout goes.
package apiserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// startTimeout is how long etcd and the API server together may take to be
// ready: 6 s on an idle machine, many times that on a busy one.
const startTimeout = 2 * time.Minute

// adminToken is in the group system:masters. The server listens on loopback
// only and lives as long as a test.
const adminToken = "admin"

// Server is a running API server.
type Server struct {
	URL string
	ca  []byte // the certificate that the server made for itself, PEM

	auditLog string // file
}

// Start runs an API server until the end of t. It is killed even when the test
// binary is.
func Start(t testing.TB) *Server {
	t.Helper()
	binary := binary(t)
	dir := t.TempDir()
	ports := freePorts(t, 3)
	secure, etcd, peer := ports[0], "http://127.0.0.1:"+ports[1], "http://127.0.0.1:"+ports[2]

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "sa.key"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	write(t, filepath.Join(dir, "tokens.csv"), []byte(adminToken+",admin,admin,system:masters\n"))
	write(t, filepath.Join(dir, "audit.yaml"), []byte(auditPolicy))

	database := run(t, binary, "etcd",
		"--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	server := run(t, binary, "kube-apiserver",
		"--etcd-servers="+etcd,
		"--bind-address=127.0.0.1", "--secure-port="+secure, "--cert-dir="+dir,
		"--token-auth-file="+filepath.Join(dir, "tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://127.0.0.1", "--service-account-key-file="+filepath.Join(dir, "sa.key"),
		"--service-account-signing-key-file="+filepath.Join(dir, "sa.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--audit-policy-file="+filepath.Join(dir, "audit.yaml"), "--audit-log-path="+filepath.Join(dir, "audit.log"),
		// There is no controller that would make a namespace's default account.
		"--disable-admission-plugins=ServiceAccount")

	s := &Server{URL: "https://127.0.0.1:" + secure, auditLog: filepath.Join(dir, "audit.log")}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	var last error
	err = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		for _, p := range []*process{database, server} {
			if err := p.ended(); err != nil {
				return false, err
			}
		}
		last = s.ready(ctx, filepath.Join(dir, "apiserver.crt"))
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("start the API server: %v", errors.Join(err, last))
	}
	return s
}

func (s *Server) ready(ctx context.Context, certificate string) error {
	ca, err := os.ReadFile(certificate)
	if err != nil {
		return err
	}
	s.ca = ca
	client, err := discovery.NewDiscoveryClientForConfig(s.Config())
	if err != nil {
		return err
	}
	return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// Config is how to reach the server as its administrator.
func (s *Server) Config() *rest.Config {
	return &rest.Config{Host: s.URL, BearerToken: adminToken, TLSClientConfig: rest.TLSClientConfig{CAData: s.ca}, QPS: -1}
}

// Kubeconfig writes the file "kubeconfig" to a new folder and returns the
// folder. Its context reaches the server as user in groups, or as its
// administrator where user is "".
func (s *Server) Kubeconfig(t testing.TB, user string, groups ...string) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: s.URL, CertificateAuthorityData: s.ca}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: adminToken, Impersonate: user, ImpersonateGroups: groups}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	dir := t.TempDir()
	if err := clientcmd.WriteToFile(*config, filepath.Join(dir, "kubeconfig")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// process is a program that the test started.
type process struct {
	name   string
	output *bytes.Buffer
	done   chan struct{} // closed once it has ended and output is complete
	err    error         // why it ended
}

// run starts binary under name and kills it at the end of t.
func run(t testing.TB, binary, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, output: &bytes.Buffer{}, done: make(chan struct{})}
	cmd := exec.Command(binary, args...)
	cmd.Args[0] = name // the binary becomes what it is called
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig is sent when the starting thread ends, not the process, so
		// that thread must live as long as the child does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		// On SIGTERM the API server drains for about a minute.
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("kill %s: %v", name, err)
		}
		<-p.done
	})
	return p
}

// ended is an error with the last output of a process that is not running any
// more.
func (p *process) ended() error {
	select {
	case <-p.done:
		output := p.output.Bytes()
		return fmt.Errorf("%s ended: %w\n%s", p.name, p.err, output[max(0, len(output)-4000):])
	default:
		return nil
	}
}

// freePorts are n different ports of the loopback that nobody listens on.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ports = append(ports, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
