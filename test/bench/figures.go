package main

import (
	"fmt"
	"slices"
	"strconv"
)

// figures are the values of like runs.
type figures []float64

// of collects a value of every run that went well and knows it.
func (r *results) of(contender, app, kind string, value func(record) *float64) figures {
	var all figures
	for _, rec := range r.Records {
		if rec.OK && rec.Contender == contender && rec.App == app && rec.Case == kind {
			if v := value(rec); v != nil {
				all = append(all, *v)
			}
		}
	}
	return all
}

func total(r record) *float64 { return r.SecondsTotal }
func build(r record) *float64 { return r.SecondsBuild }
func cpu(r record) *float64   { return r.CPUSeconds }
func load(r record) *float64  { return &r.Load }
func pulled(r record) *float64 {
	return megabytes(r.BytesPulled)
}
func pushed(r record) *float64 {
	return megabytes(r.BytesPushed)
}

func megabytes(n *int64) *float64 {
	if n == nil {
		return nil
	}
	m := float64(*n) / 1e6
	return &m
}

// median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// String is the median, and the spread where there is more than one run.
func (f figures) String() string {
	switch len(f) {
	case 0:
		return "–"
	case 1:
		return number(f[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(f)), number(slices.Min(f)), number(slices.Max(f)))
}

// number has as many digits as it is worth.
func number(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// figure is one value, if it is known.
func figure(v *float64) string {
	if v == nil {
		return "?"
	}
	return number(*v)
}
