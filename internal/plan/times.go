package plan

import "time"

// Times is what the build step's time went to, for a person. It goes by kaniko's
// log, in which RUN instructions write as well.
type Times struct {
	Began time.Time `json:"began"` // the step
	Ended time.Time `json:"ended"`

	Base     time.Duration `json:"base,omitempty"`     // unpacking base images and cached layers, and removing them between stages
	Copy     time.Duration `json:"copy,omitempty"`     // COPY and ADD, and keeping what a later stage copies
	Snapshot time.Duration `json:"snapshot,omitempty"` // looking for what has changed, packing it, and writing the image
	Image    time.Duration `json:"image,omitempty"`    // taking the times out of the image, and handing it over
	Runs     []RunTime     `json:"runs,omitempty"`     // in the order in which they ran
}

// RunTime is how long a RUN instruction took.
type RunTime struct {
	Line int           `json:"line,omitempty"` // in the user's Dockerfile; 0 where that is not known
	Took time.Duration `json:"took"`
}
