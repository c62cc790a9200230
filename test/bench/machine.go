package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what figures are comparable within.
type machine struct {
	ID     string `json:"id"` // a hash of /etc/machine-id and the host's name
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory"` // bytes
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

func thisMachine() (machine, error) {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil && !os.IsNotExist(err) {
		return machine{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return machine{}, err
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return machine{}, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return machine{}, fmt.Errorf("ask for the memory: %w", err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return machine{}, fmt.Errorf("ask for the kernel: %w", err)
	}
	sum := sha256.Sum256([]byte(string(id) + host))
	return machine{
		ID:     hex.EncodeToString(sum[:6]),
		CPU:    cpuModel(string(cpus)),
		Cores:  runtime.NumCPU(),
		Memory: int64(info.Totalram) * int64(info.Unit),
		Kernel: unix.ByteSliceToString(name.Release[:]),
		Go:     runtime.Version(),
	}, nil
}

// cpuModel is the first "model name" of /proc/cpuinfo.
func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// loadAverage is the machine's over the last minute; 0 is not known.
func loadAverage() float64 {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	if _, err := fmt.Sscan(string(content), &load); err != nil {
		return 0
	}
	return load
}
