// Package generate makes builds from seeds: a Dockerfile, a context, perhaps a
// .dockerignore, build args and a target. They are weighted as public Dockerfiles
// of Go projects are, and go on into the corners that those seldom touch. A model
// of each stage's files (tree.go, copying.go) keeps all but a few of them such that
// BuildKit builds them. Where two builders make two images of one, Shrink takes out
// of it all that the difference does not need.
//
// The bases they name are scratch, busybox, and tags of alpine that bases.go
// describes. No command needs a network, or gives another result the second time.
package generate
