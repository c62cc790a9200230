package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-ci/slipway/test/flow"
)

// sampleEvery is how often counters are read. What a pod does after the last
// sample is lost: its cgroup and its network go with it.
const sampleEvery = 100 * time.Millisecond

// observer sees what the pods of a namespace use and say, from outside of them:
// all but those of ReplicaSets, which are the app's.
type observer struct {
	cluster   *flow.Cluster
	namespace string
	logs      string // folder for a file per container

	stop func()
	done sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*observed
}

// observed is one pod.
type observed struct {
	name, ip   string
	qos        corev1.PodQOSClass
	cpu        time.Duration
	in, out    int64 // bytes, as the pod sees them
	containers map[string]*spoken
}

// spoken is when a container said its first and its last line.
type spoken struct{ first, last time.Time }

// observe starts to.
func observe(ctx context.Context, c *flow.Cluster, namespace, logs string) (*observer, error) {
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, err
	}
	// Pods of earlier runs are seen as they are now, and then never again.
	earlier, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	watch, err := c.Kube.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: earlier.ResourceVersion})
	if err != nil {
		return nil, err
	}
	old := map[types.UID]bool{}
	for _, pod := range earlier.Items {
		old[pod.UID] = true
	}
	ctx, cancel := context.WithCancel(ctx)
	o := &observer{cluster: c, namespace: namespace, logs: logs, stop: cancel, pods: map[types.UID]*observed{}}
	o.done.Go(func() {
		defer watch.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event, open := <-watch.ResultChan():
				if !open {
					return
				}
				if pod, ok := event.Object.(*corev1.Pod); ok && !old[pod.UID] && !ofApp(pod) {
					o.see(ctx, pod)
				}
			}
		}
	})
	o.done.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				o.sample()
			}
		}
	})
	return o, nil
}

// ofApp says whether the pod is of a Deployment.
func ofApp(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "ReplicaSet"
}

// see takes note of a pod, and follows the log of each container that started.
func (o *observer) see(ctx context.Context, pod *corev1.Pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen, ok := o.pods[pod.UID]
	if !ok {
		seen = &observed{name: pod.Name, containers: map[string]*spoken{}}
		o.pods[pod.UID] = seen
	}
	seen.qos = pod.Status.QOSClass
	if pod.Status.PodIP != "" {
		seen.ip = pod.Status.PodIP
	}
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Waiting != nil || seen.containers[status.Name] != nil {
			continue
		}
		words := &spoken{}
		seen.containers[status.Name] = words
		o.done.Go(func() {
			// A log that breaks off is one that was not read to its end: the
			// times would be wrong, so there are none.
			if err := o.follow(ctx, pod.Name, status.Name, words); err != nil {
				o.mu.Lock()
				*words = spoken{}
				o.mu.Unlock()
			}
		})
	}
}

// follow reads a container's log to its end, which is the container's, and keeps
// it with its times.
func (o *observer) follow(ctx context.Context, pod, container string, words *spoken) error {
	log, err := o.cluster.Kube.CoreV1().Pods(o.namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, Follow: true, Timestamps: true}).Stream(ctx)
	if err != nil {
		return err
	}
	defer log.Close()
	file, err := os.Create(filepath.Join(o.logs, pod+"."+container+".log"))
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(file, lines.Text())
		stamp, _, _ := strings.Cut(lines.Text(), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			return err
		}
		o.mu.Lock()
		if words.first.IsZero() {
			words.first = at
		}
		words.last = at
		o.mu.Unlock()
	}
	return lines.Err()
}

// sample reads the counters of every pod that still has them.
func (o *observer) sample() {
	o.mu.Lock()
	defer o.mu.Unlock()
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return
	}
	devices, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return
	}
	links, counts := linksByAddress(routes), traffic(devices)
	for uid, pod := range o.pods {
		if used, ok := cpuTime(cgroups, uid, pod.qos); ok {
			pod.cpu = max(pod.cpu, used)
		}
		if link, ok := links[pod.ip]; ok {
			if n, ok := counts[link]; ok {
				// What the node's end sends is what the pod receives.
				pod.in, pod.out = max(pod.in, n.sent), max(pod.out, n.received)
			}
		}
	}
}

// usage is what all pods of a run used; zero is not known.
type usage struct {
	cpu     time.Duration
	in, out int64
}

// end ends the observing.
func (o *observer) end() usage {
	o.stop()
	o.done.Wait()
	var u usage
	for _, pod := range o.pods {
		u.cpu += pod.cpu
		u.in += pod.in
		u.out += pod.out
	}
	return u
}

// spoke is when a container of that name, of which there must be one, said its
// first and its last line.
func (o *observer) spoke(container string) (first, last time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := 0
	for _, pod := range o.pods {
		if words, ok := pod.containers[container]; ok {
			found++
			first, last = words.first, words.last
		}
	}
	if found != 1 || first.IsZero() {
		return first, last, fmt.Errorf("%d containers %s have a log that was read to its end, not one", found, container)
	}
	return first, last, nil
}

// cgroups is the parent of all pods' cgroups in the local cluster, for each
// version of cgroups.
var cgroups = []string{"/sys/fs/cgroup/cpuacct/slipway-cluster/kubepods", "/sys/fs/cgroup/slipway-cluster/kubepods"}

// cpuTime is what a pod has used so far, its ended containers included.
func cpuTime(cgroups []string, uid types.UID, qos corev1.PodQOSClass) (time.Duration, bool) {
	class := ""
	if qos != corev1.PodQOSGuaranteed {
		class = strings.ToLower(string(qos))
	}
	for _, parent := range cgroups {
		dir := filepath.Join(parent, class, "pod"+string(uid))
		if content, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage")); err == nil {
			return parseCPU(content, time.Nanosecond)
		}
		if content, err := os.ReadFile(filepath.Join(dir, "cpu.stat")); err == nil {
			// The first line is "usage_usec N".
			line, _, _ := bytes.Cut(content, []byte("\n"))
			return parseCPU(bytes.TrimPrefix(line, []byte("usage_usec ")), time.Microsecond)
		}
	}
	return 0, false
}

func parseCPU(content []byte, unit time.Duration) (time.Duration, bool) {
	var n int64
	if _, err := fmt.Sscan(string(content), &n); err != nil {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// linksByAddress reads /proc/net/route: which link each single address is
// reached over.
func linksByAddress(routes []byte) map[string]string {
	links := map[string]string{}
	for line := range strings.Lines(string(routes)) {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask …
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[7] != "FFFFFFFF" {
			continue
		}
		var a [4]byte // the address in memory, read as a little-endian number
		if _, err := fmt.Sscanf(fields[1], "%02X%02X%02X%02X", &a[3], &a[2], &a[1], &a[0]); err != nil {
			continue
		}
		links[fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3])] = fields[0]
	}
	return links
}

// bytesOf is what a link has received and sent.
type bytesOf struct{ received, sent int64 }

// traffic reads /proc/net/dev.
func traffic(devices []byte) map[string]bytesOf {
	counts := map[string]bytesOf{}
	for line := range strings.Lines(string(devices)) {
		link, numbers, ok := strings.Cut(line, ":")
		fields := strings.Fields(numbers)
		if !ok || len(fields) < 9 {
			continue
		}
		var n bytesOf
		_, err := fmt.Sscan(fields[0], &n.received)
		_, err2 := fmt.Sscan(fields[8], &n.sent)
		if errors.Join(err, err2) == nil {
			counts[strings.TrimSpace(link)] = n
		}
	}
	return counts
}
