package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// debianPackages is everything the cluster takes from Debian.
var debianPackages = []string{
	"busybox-static", "ca-certificates", "conntrack", "containerd", "containernetworking-plugins",
	"gcc", "git", "iproute2", "iptables", "libc6-dev", "procps", "runc", "tini", "util-linux",
}

// installPackages installs those of the cluster that are missing.
func installPackages(ctx context.Context) error { return Install(ctx, debianPackages...) }

// StandInPackages is what [StandIns] takes from Debian.
var StandInPackages = []string{"busybox-static", "ca-certificates", "gcc", "git", "libc6-dev", "tini"}

// Install installs those of the packages that are missing.
func Install(ctx context.Context, packages ...string) error {
	var missing []string
	for _, name := range packages {
		status, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f=${Status}", name).Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return fmt.Errorf("ask for package %s: %w; the local cluster needs Debian, or set KUBECONFIG to use a cluster of your own", name, err)
		}
		if !strings.HasSuffix(string(status), " installed") {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, args := range [][]string{{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
