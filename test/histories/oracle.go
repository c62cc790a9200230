package histories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func (h *history) wrong(format string, args ...any) {
	h.failures = append(h.failures, fmt.Sprintf("after step %d: ", len(h.trace))+fmt.Sprintf(format, args...))
}

func (h *history) find(name string) *run {
	for _, r := range h.runs {
		if r.name == name {
			return r
		}
	}
	return nil
}

// check holds the cluster against the promises.
func (h *history) check() {
	objects, err := h.backend.ConfigMaps(h.namespace)
	if err != nil {
		h.t.Fatal(err)
	}
	config, ok := objects["slipway-deploy-"+deployName]
	if !ok {
		if len(ours(objects)) > 0 {
			h.wrong("something was written before the inventory was")
		}
		return
	}
	var inv inventory
	if err := json.Unmarshal([]byte(config.Data["inventory"]), &inv); err != nil {
		h.t.Fatal(err)
	}
	holder := h.find(inv.Run)
	if inv.Holder != h.holder.Holder {
		// The inventory changed hands.
		back := inv.Place.Time.Before(h.holder.Place.Time) || inv.Place.Time.Equal(h.holder.Place.Time) && inv.Place.Event < h.holder.Place.Event
		if back {
			h.wrong("%s took over from the newer %s", inv.Run, h.holder.Run)
		}
		if h.holder.Writing {
			h.stats.Takeovers++
		}
		h.holder = inv
	}
	h.holder.Writing = inv.Writing
	if inv.Writing {
		return
	}
	// Nobody is to write: what the holder wants is there, to the letter.
	live := ours(objects)
	for name, want := range holder.wants {
		if got, ok := live[name]; !ok || got != want {
			h.wrong("%s deployed %s=%s, but the cluster has %q", holder.name, name, want, got)
		}
	}
	excused := slices.Clone(inv.Leftovers)
	for _, l := range inv.Lingering {
		excused = append(excused, l.Object)
	}
	for name := range live {
		if _, wanted := holder.wants[name]; !wanted && !slices.Contains(excused, "v1 ConfigMap "+h.namespace+"/"+name) {
			h.wrong("%s does not have %s, and the inventory does not know that the cluster does", holder.name, name)
		}
	}
}

// deployedMeanwhile is how a run is refused that overrides another than the one
// that it finds, with the event of that.
var deployedMeanwhile = regexp.MustCompile(`this overrides \S+, but event (\S+) of `)

// checkExactly checks, when all is over, that the cluster has what is wanted
// and nothing else of the deploy's, and how each run ended.
func (h *history) checkExactly(wants map[string]string) {
	objects, err := h.backend.ConfigMaps(h.namespace)
	if err != nil {
		h.t.Fatal(err)
	}
	if live := ours(objects); !maps.Equal(live, wants) {
		h.wrong("in the end the cluster has %v, wanted is %v", live, wants)
	}
	for _, r := range h.runs {
		switch {
		case r.killed:
		case r.err == nil:
			h.stats.Deployed++
		case errors.Is(r.err, context.Canceled) || !strings.Contains(r.err.Error(), "overtaken"):
			h.wrong("%s fails: %v", r.name, r.err)
		default:
			h.stats.Overtaken++
			// What a run that overrides finds of its own event is its own work.
			if found := deployedMeanwhile.FindStringSubmatch(r.err.Error()); found != nil && (found[1] == r.event || strings.HasSuffix(found[1], "+"+r.event)) {
				h.wrong("%s repeats a run that overrides %s and was begun, and is refused: %v", r.name, r.overrides, r.err)
			}
		}
	}
}

// ours are the deploy's ConfigMaps, and what they have.
func ours(objects map[string]corev1.ConfigMap) map[string]string {
	found := map[string]string{}
	for name, config := range objects {
		if config.Labels["slipway-ci.github.io/deploy"] == deployName && name != "slipway-deploy-"+deployName {
			found[name] = config.Data["is"]
		}
	}
	return found
}
