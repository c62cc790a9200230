package main

import (
	"fmt"
	"slices"
	"strconv"
)

func publish(file, dir string) error { _, _ = file, dir; return nil }
func tables(r *results) string { return fmt.Sprint(len(r.Records)) }
func figure(v *float64) string {
	if v == nil {
		return "?"
	}
	return strconv.FormatFloat(*v, 'f', 1, 64)
}

// median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
