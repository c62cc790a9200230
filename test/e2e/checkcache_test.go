package e2e

import (
	"regexp"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
)

// damage changes a byte of a compiled package, of a module and of Go itself, so
// that neither a size nor a time tells.
const damage = `set -e
cd /folder/cache
object=$(find go-build/?? -name '*-d' -size +200k | sort | head -n 1)
for file in "$object" go-mod/golang.org/x/sync@*/errgroup/errgroup.go toolchains/*/go/src/fmt/print.go; do
	test -s "$file"
	cp -p "$file" /folder/before
	printf '\001' | dd of="$file" bs=1 seek=1000 conv=notrunc
	touch -r /folder/before "$file"
done
touch -d "@$(($(date +%s) - 3600))" "$object" # the task leaves alone what may be half-written
`

// The Task slipway-check-cache takes away what is damaged on a claim, and the
// next build makes it anew: its image is the same.
func TestCheckCache(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fetchSamples(t)
	const sample = "two-stages"
	want, _ := s.buildSample(t, sample, "true", s.caches()...)
	claim := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "slipway"}}
	s.onVolume(t, claim, "sh", "-c", damage)

	check := func() (log string) {
		run := s.tryTask(t, "slipway-check-cache", v1.TaskRunSpec{Workspaces: []v1.WorkspaceBinding{s.claim("cache", "cache")}})
		log = s.taskLog(t, run)
		t.Log(log)
		if !run.IsSuccessful() {
			t.Fatal("it failed")
		}
		return log
	}
	log := check()
	for _, says := range []string{
		`(?m)^go-build/[0-9a-f]{2}/[0-9a-f]{64}-d is damaged and was removed: its content has another hash than its name$`,
		`(?m)^go-mod/golang\.org/x/sync@v[0-9.]+ is damaged and was removed: its files have another hash than it was downloaded with$`,
		`(?m)^toolchains/sha256:[0-9a-f]{64} is damaged and was removed: .*/go/src/fmt/print\.go was changed$`,
		`(?m)^cache: [0-9]{3,} entries read, 3 damaged, [0-9.]+ s$`,
	} {
		if !regexp.MustCompile(says).MatchString(log) {
			t.Errorf("the log does not say %s", says)
		}
	}

	got, report := s.buildSample(t, sample, "true", s.caches()...)
	if got != want {
		t.Errorf("the image is %s, before the damage %s", got, want)
	}
	if report.NoToolchain != "" || report.Compiled == nil || *report.Compiled != 1 {
		t.Errorf("one package was taken away, and the build reports %+v", report)
	}
	if says := `(?m)^cache: [0-9]{3,} entries read, 0 damaged, `; !regexp.MustCompile(says).MatchString(check()) {
		t.Errorf("after that build the log does not say %s", says)
	}
}
