// Package volume tests what the cache volume has to bear: hundreds of commits
// on a small one, and builds that are killed. It needs no cluster.
package volume
