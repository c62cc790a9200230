package deploy

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// place is where a run stands among the runs of its deploy: by the time of the
// event that caused it, on the clock of whoever sends events, and by the
// event's name where two have the same time. It is given by params, so that a
// run that is repeated keeps it.
type place struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
}

// newPlace reads the param event-time: RFC 3339, or Unix seconds as GitHub's
// repository.pushed_at has them.
func newPlace(eventTime, event string) (place, error) {
	if seconds, err := strconv.ParseInt(eventTime, 10, 64); err == nil {
		return place{Time: time.Unix(seconds, 0).UTC(), Event: event}, nil
	}
	at, err := time.Parse(time.RFC3339, eventTime)
	if err != nil {
		return place{}, fmt.Errorf("event-time %q: give the event's time as 2006-01-02T15:04:05Z or as Unix seconds", eventTime)
	}
	return place{Time: at.UTC(), Event: event}, nil
}

func (p place) compare(other place) int {
	return cmp.Or(p.Time.Compare(other.Time), strings.Compare(p.Event, other.Event))
}

// after is p if it comes after other, or else the first place after other that
// still names p's event: what overrides other must come after it, whatever the
// clocks say.
func (p place) after(other place) place {
	if p.compare(other) > 0 {
		return p
	}
	return place{Time: other.Time, Event: other.Event + "+" + p.Event}
}

func (p place) String() string {
	return fmt.Sprintf("event %s of %s", p.Event, p.Time.Format(time.RFC3339))
}
