package volume

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", rand.Uint64(), "what the kills are drawn from")

// kills is how many steps are killed before their end.
const kills = 100

// Whenever a step is killed, the next one upon what it left on the volume gets
// further, and the image in the end is the one that is built without any cache.
func TestABuildAfterAKilledOne(t *testing.T) {
	t.Logf("-seed=%d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	s := newSite(t)
	sources := make([]string, 2)
	want := make([]string, len(sources))
	for i := range sources {
		sources[i] = s.newSource(t, fmt.Sprintf("source-%d", i), i)
		want[i], _ = s.newPod(t, sources[i], "").run(t)
		t.Logf("without a cache, source %d is %s", i, want[i])
	}

	volume := s.mkdir(t, "volume")
	s.newPod(t, sources[0], volume).run(t)
	_, usual := s.newPod(t, sources[0], volume).run(t) // how long steps take where nothing is lost
	killed := map[string]int{}
	for round := 0; killed["prepare"]+killed["build"]+killed["push"] < kills; round++ {
		lost := lose(t, volume, random)
		i := random.IntN(len(sources))
		said := fmt.Sprintf("round %d: lost %s", round, lost)
		for _, at := range steps {
			victim := s.newPod(t, sources[i], volume)
			victim.size = []string{"10Gi", "256Mi"}[random.IntN(2)] // with the other there is something to trim
			after := time.Duration(random.Int64N(int64(usual[at])))
			if lost != "nothing" {
				after *= longer[at]
			}
			died, took := victim.kill(t, at, after)
			if lost == "nothing" {
				maps.Copy(usual, took)
			}
			said += fmt.Sprintf("; %s after %s", at, after.Round(time.Millisecond))
			if died {
				killed[at]++
			} else {
				said += " had ended"
			}
			if at == "push" {
				if got := victim.push(t); got != want[i] {
					t.Fatalf("%s: source %d is %s then, want %s\n%s", said, i, got, want[i], &victim.log)
				}
			}
			if err := os.RemoveAll(victim.dir); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s; killed so far %v", said, killed)
	}
}

// longer is how many times as long steps may take that make anew what is lost.
var longer = map[string]time.Duration{"prepare": 10, "build": 5, "push": 1}

// lose takes a part of a volume away, so that the next build has to make it.
func lose(t *testing.T, volume string, random *rand.Rand) string {
	t.Helper()
	what := "nothing"
	if random.IntN(3) == 0 {
		what = []string{"toolchains", "bases", "go-build*", "all"}[random.IntN(4)]
	}
	pattern := what
	switch what {
	case "nothing":
		return what
	case "all":
		pattern = "*"
	}
	paths, err := filepath.Glob(filepath.Join(volume, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	return what
}

// kill runs a build up to a step, and kills all of that after a time. It
// reports whether the step had not ended by then, and how long those took that
// came to their end.
func (p *pod) kill(t *testing.T, at string, after time.Duration) (died bool, took map[string]time.Duration) {
	t.Helper()
	took = map[string]time.Duration{}
	for _, name := range steps {
		cmd := p.step(t, name)
		started := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if name == at {
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
		err := cmd.Wait()
		if name == at && err != nil && !cmd.ProcessState.Exited() {
			return true, took
		}
		if err != nil {
			t.Fatalf("step %s: %v\n%s", name, err, &p.log)
		}
		took[name] = time.Since(started)
		if name == at {
			break
		}
	}
	return false, took
}
