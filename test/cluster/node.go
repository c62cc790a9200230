package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cgroupRoot is the parent of all pods' cgroups, so that what belongs to this
// cluster can be told from anything else's.
const cgroupRoot = "/slipway-cluster"

// makeNetwork makes the node's network namespace. It has an address for the
// node and no route that leaves the machine.
func makeNetwork(ctx context.Context) error {
	if err := run(ctx, "ip", "netns", "add", Netns); err != nil {
		return err
	}
	ip := func(args string) error {
		return run(ctx, "ip", append([]string{"-n", Netns}, strings.Fields(args)...)...)
	}
	for _, args := range []string{
		"link set lo up",
		// A bridge without ports: the kernel may lack dummy interfaces.
		"link add node0 type bridge",
		"addr add " + NodeIP + "/24 dev node0",
		"link set node0 up",
	} {
		if err := ip(args); err != nil {
			return err
		}
	}
	return inNetns(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	})
}

// cgroups lists this cluster's root in every mounted cgroup hierarchy.
func cgroups() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(string(mounts)) {
		// The type follows the " - "; see proc_pid_mountinfo(5).
		before, after, ok := strings.Cut(line, " - ")
		if ok && strings.HasPrefix(after, "cgroup") {
			dirs = append(dirs, filepath.Join(strings.Fields(before)[4], cgroupRoot))
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("find cgroups: none is mounted under /sys/fs/cgroup")
	}
	return dirs, nil
}

func makeCgroups() error {
	dirs, err := cgroups()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// A new cpuset is empty, and no process can join an empty one.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
			if err != nil || strings.TrimSpace(string(parent)) == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), parent, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// nodeFiles are the configuration files of the node's programs.
var nodeFiles = map[string]string{
	"containerd.toml": `version = 2
root = "` + StateDir + `/containerd"
state = "` + RunDir + `/containerd"
[grpc]
  address = "` + RunDir + `/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  # Without CAP_SYS_RESOURCE a sandbox must not lower its OOM score.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "` + StateDir + `/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "` + StateDir + `/certs.d"
`,
	// Every registry of the world is the one that runs here, so that images
	// keep the names they have outside.
	"certs.d/_default/hosts.toml": `[host."http://` + registryAddress + `"]
  capabilities = ["pull", "resolve"]
`,
	"certs.d/" + PrivateRegistry + "/hosts.toml": `server = "http://` + privateRegistryAddress + `"
[host."http://` + privateRegistryAddress + `"]
  capabilities = ["pull", "resolve"]
`,
	// ptp, not bridge: every packet is routed, so that services work without
	// the kernel's br_netfilter.
	"cni/10-slipway.conflist": `{
  "cniVersion": "0.4.0",
  "name": "slipway",
  "plugins": [
    {"type": "ptp", "ipam": {"type": "host-local", "dataDir": "` + RunDir + `/cni", "subnet": "` + podCIDR + `", "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`,
	"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: ` + caFile + `}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: ` + cgroupRoot + `
failCgroupV1: false
enforceNodeAllocatable: []
failSwapOn: false
clusterDNS: [` + NodeIP + `]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://` + RunDir + `/containerd.sock
podLogsDir: ` + LogDir + `/pods
resolvConf: ` + StateDir + `/resolv.conf
serializeImagePulls: false
# A test machine's disk is often nearly full, and eviction would look like a
# failure of what is tested.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
# Events tell tests and people why a pod does not start: none may be dropped.
eventRecordQPS: 0
`,
	"resolv.conf": "",
	"kube-proxy.yaml": `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: ` + Kubeconfig + `}
clusterCIDR: ` + podCIDR + `
hostnameOverride: slipway
# These settings belong to the machine, not to this namespace.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 100ms}
`,
	"Corefile": `cluster.local in-addr.arpa {
  bind ` + NodeIP + `
  errors
  kubernetes {
    kubeconfig ` + Kubeconfig + `
    ttl 1
  }
}
# There is nothing else to be found from here: say so at once.
. {
  bind ` + NodeIP + `
  template ANY ANY {
    rcode NXDOMAIN
  }
}
`,
	"registry.yaml": `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ` + StateDir + `/registry}, delete: {enabled: true}}
http: {addr: "` + registryAddress + `"}
`,
	"private-registry.yaml": `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ` + StateDir + `/private-registry}}
http: {addr: "` + privateRegistryAddress + `"}
auth: {htpasswd: {realm: slipway, path: ` + StateDir + `/htpasswd}}
`,
}

func writeNodeFiles() error {
	for name, content := range nodeFiles {
		file := filepath.Join(StateDir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// run runs a short command; its output is in the error.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
