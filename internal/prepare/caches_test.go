package prepare

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// On a volume without access control lists, a user other than root has caches
// of this run.
func TestAnotherUserWithoutAccessControlLists(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	log := &log{out: &said}
	c := &Config{Cache: t.TempDir(), Prepared: t.TempDir(), Built: t.TempDir()}
	opened, err := openCaches(c, log)
	if err != nil {
		t.Fatal(err)
	}
	volumes := []string{opened.goBuild.dir, opened.goMod.dir}
	for _, dir := range volumes {
		if err := unix.Removexattr(dir, "system.posix_acl_default"); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			t.Fatal(err)
		}
	}
	said.Reset()
	if err := opened.share(c, "Dockerfile", 0, log); err != nil || said.Len() > 0 || opened.goMod.dir != volumes[1] {
		t.Errorf("for root: %v, %s\n%s", err, opened.goMod.dir, &said)
	}
	if err := opened.share(c, "Dockerfile", 3, log); err != nil {
		t.Fatal(err)
	}
	for _, cache := range []goCache{opened.goBuild, opened.goMod} {
		if want := filepath.Join(c.Built, "cache"); filepath.Dir(cache.dir) != want || cache.held != nil {
			t.Errorf("%s is %s, held %v, want it in %s", cache.name, cache.dir, cache.held, want)
		}
	}
	const why = " is not used by this build: Dockerfile:3: the volume has no access control lists, so this user could not add to what root made\n"
	if want := "cache go-build" + why + "cache go-mod" + why; said.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &said, want)
	}
	if handed := opened.handOver(c); handed.GoBuild != "" || handed.GoMod != "" || len(handed.Holds) > 0 {
		t.Errorf("the build step is given %+v", handed)
	}
	if err := opened.release(); err != nil {
		t.Error(err)
	}
}
