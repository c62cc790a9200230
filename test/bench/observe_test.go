package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestCountersOfThePodsLinks(t *testing.T) {
	t.Parallel()
	links := linksByAddress([]byte("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"node0\t0000580A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"vethb6e1\t1F00590A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"))
	if len(links) != 1 || links["10.89.0.31"] != "vethb6e1" {
		t.Errorf("links %v", links)
	}
	counts := traffic([]byte("Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"vethb6e1: 1200      10    0    0    0     0          0         0  3400000     20    0    0    0     0       0          0\n"))
	if got := counts["vethb6e1"]; got != (bytesOf{received: 1200, sent: 3400000}) {
		t.Errorf("counts %+v", counts)
	}
}

func TestCPUTimeOfEitherVersionOfCgroups(t *testing.T) {
	t.Parallel()
	old, unified := t.TempDir(), t.TempDir()
	for file, content := range map[string]string{
		old + "/burstable/podb/cpuacct.usage":   "1500000000\n",
		old + "/podg/cpuacct.usage":             "2000000000\n",
		unified + "/besteffort/podu/cpu.stat":   "usage_usec 250000\nuser_usec 1\n",
		unified + "/besteffort/podbad/cpu.stat": "nothing\n",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		uid  string
		qos  corev1.PodQOSClass
		want time.Duration
		ok   bool
	}{
		{"b", corev1.PodQOSBurstable, 1500 * time.Millisecond, true},
		{"g", corev1.PodQOSGuaranteed, 2 * time.Second, true},
		{"u", corev1.PodQOSBestEffort, 250 * time.Millisecond, true},
		{"bad", corev1.PodQOSBestEffort, 0, false},
		{"gone", corev1.PodQOSBestEffort, 0, false},
	} {
		got, ok := cpuTime([]string{old, unified}, types.UID(test.uid), test.qos)
		if got != test.want || ok != test.ok {
			t.Errorf("pod %s: %v, %v, not %v, %v", test.uid, got, ok, test.want, test.ok)
		}
	}
}

func TestStartOfAStep(t *testing.T) {
	t.Parallel()
	at, err := parseStartedAt(`[{"key":"IMAGE_DIGEST","value":"sha256:1","type":1},{"key":"StartedAt","value":"2026-11-23T23:00:00.123Z","type":3}]`)
	if err != nil || at.UnixMilli() != time.Date(2026, 11, 23, 23, 0, 0, 123e6, time.UTC).UnixMilli() {
		t.Errorf("%v, %v", at, err)
	}
	for _, message := range []string{"", "[]", "no JSON"} {
		if _, err := parseStartedAt(message); err == nil {
			t.Errorf("%q has a start", message)
		}
	}
}
