// Package cluster brings up and removes a real single-node Kubernetes cluster
// on a Debian machine, in a network namespace of its own without a route out:
// etcd, the control plane, kubelet, containerd, CNI, DNS, Tekton Pipelines and
// Triggers, a registry, a Go module proxy and a git server.
//
// Nothing but Go modules and Debian packages is taken from outside. What
// cannot be had that way is a stand-in, named as such in images.go.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Where things are. All of it belongs to this cluster alone, and there is one
// cluster on a machine, whichever clone of the repository started it.
const (
	// Netns is the name of the node's network namespace, as ip-netns(8) has it.
	Netns = "slipway"
	// StateDir holds what the cluster's programs keep while it is up.
	StateDir = "/var/lib/slipway-cluster"
	// RunDir holds sockets and mounts.
	RunDir = "/run/slipway-cluster"
	// LogDir holds one log file for each program and each build.
	LogDir = "/var/log/slipway-cluster"

	// Kubeconfig is the cluster administrator's. It works inside Netns only.
	Kubeconfig = StateDir + "/admin.kubeconfig"

	netnsPath = "/run/netns/" + Netns
	readyFile = StateDir + "/ready"
)

// The cluster's addresses. They exist inside Netns only.
const (
	NodeIP      = "10.88.0.1"
	podCIDR     = "10.89.0.0/16"
	serviceCIDR = "10.90.0.0/16"
	apiserverIP = "10.90.0.1" // the first of serviceCIDR is the kubernetes service's
	apiserver   = "https://" + NodeIP + ":6443"

	// Registry is the plain-HTTP registry under the name that pods use.
	Registry = "registry.registry.svc.cluster.local:5000"
	// PrivateRegistry is a registry that wants PrivateUser and PrivatePassword.
	PrivateRegistry = "private.registry.svc.cluster.local:5001"
	PrivateUser     = "slipway"
	PrivatePassword = "launch-2b1f7c" // of a test registry that no other machine can reach

	// GoProxy is Athens under the name that pods use.
	GoProxy = "http://athens.athens.svc.cluster.local"
	// Git is the git server under the name that pods use.
	Git = "http://git.git.svc.cluster.local"

	registryAddress        = NodeIP + ":5000"
	privateRegistryAddress = NodeIP + ":5001"
)

// Enter moves the whole process to the cluster that tests and demos use. With
// KUBECONFIG set that is the caller's cluster, and nothing changes. Otherwise
// it is the local one: the process starts anew inside its network namespace,
// with KUBECONFIG set. Call it first in main or TestMain.
func Enter() error {
	if os.Getenv("KUBECONFIG") != "" {
		return nil
	}
	if _, err := os.Stat(readyFile); err != nil {
		return errors.New("no cluster: KUBECONFIG is not set and no local cluster is up; run 'make cluster'")
	}
	// Namespaces belong to threads: only a program that starts on a thread
	// inside the namespace is in it with all of its threads.
	runtime.LockOSThread()
	if err := joinNetns(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	err = unix.Exec(self, os.Args, append(os.Environ(), "KUBECONFIG="+Kubeconfig, localEnv+"=1"))
	return fmt.Errorf("start %s inside network namespace %s: %w", self, Netns, err)
}

// Local says whether the process is inside the local cluster ([Enter]), with
// its registry, module proxy, git server and stand-in images.
func Local() bool { return os.Getenv(localEnv) != "" }

// Mirrors is where the images of other registries are found in the local
// cluster, in the form of kaniko's --registry-map.
func Mirrors() []string {
	return []string{"index.docker.io=" + Registry, "gcr.io=" + Registry}
}

const localEnv = "SLIPWAY_LOCAL_CLUSTER"

// joinNetns puts the calling thread into the node's network namespace.
func joinNetns() error {
	f, err := os.Open(netnsPath)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w; run 'make cluster'", Netns, err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("join network namespace %s: %w; this needs root", Netns, err)
	}
	return nil
}

// lock makes sure that one of up and down runs at a time on this machine.
func lock(ctx context.Context) (unlock func(), err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a local cluster needs root; run as root, or set KUBECONFIG to use a cluster of your own")
	}
	if err := os.MkdirAll(RunDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(RunDir), "slipway-cluster.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-done:
		return func() { f.Close() }, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
