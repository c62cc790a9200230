// Package version is set by the linker.
package version

// Version and Date are those of the build.
var Version, Date = "unknown", ""
