package main

import (
	"fmt"
	"html"
	"strings"
)

// bar is a row of a chart: a part of it is the build.
type bar struct {
	label        string
	build, total float64 // seconds
	least, most  float64 // of the total
}

// panel is a group of bars under a title, with a scale of its own.
type panel struct {
	title string
	bars  []bar
}

// Sizes of a chart, in pixels.
const (
	chartWidth = 760
	labelWidth = 180
	valueWidth = 150
	rowHeight  = 24
	titleRow   = 40
)

// style has colours that are told apart on white and on black, and by those who
// see no red or green: a dark and a light tone of one blue, the light one with
// an outline of the dark.
const style = `
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 }
  .build { fill: #0969da }
  .rest { fill: #9ecbff; stroke: #0969da }
  .spread { stroke: #24292f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .build { fill: #4493f8 }
    .rest { fill: #1f4a7d; stroke: #4493f8 }
    .spread { stroke: #e6edf3 }
  }
`

// svg draws panels one below another.
func svg(title string, panels []panel) string {
	height := 28
	for _, p := range panels {
		height += titleRow + rowHeight*len(p.bars)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">`+"\n", chartWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s</style>\n", html.EscapeString(title), style)
	y := 0
	for _, p := range panels {
		fmt.Fprintf(&b, `<text class="title" x="0" y="%d">%s</text>`+"\n", y+26, html.EscapeString(p.title))
		y += titleRow
		longest := 0.0
		for _, r := range p.bars {
			longest = max(longest, r.total, r.build, r.most)
		}
		for _, r := range p.bars {
			scale := func(v float64) float64 { return v / longest * (chartWidth - labelWidth - valueWidth) }
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-8, y+16, html.EscapeString(r.label))
			fmt.Fprintf(&b, `<rect class="rest" x="%d" y="%d" width="%.1f" height="16"/>`+"\n", labelWidth, y+3, scale(r.total))
			fmt.Fprintf(&b, `<rect class="build" x="%d" y="%d" width="%.1f" height="16"/>`+"\n", labelWidth, y+3, scale(r.build))
			if r.most > r.least {
				fmt.Fprintf(&b, `<path class="spread" d="M%.1f %dH%.1f"/>`+"\n", labelWidth+scale(r.least), y+11, labelWidth+scale(r.most))
			}
			value := number(r.total) + " s"
			if r.build > 0 {
				value += ", build " + number(r.build) + " s"
			}
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", labelWidth+6+scale(max(r.total, r.build, r.most)), y+16, value)
			y += rowHeight
		}
	}
	fmt.Fprintf(&b, `<rect class="build" x="%d" y="%d" width="12" height="12"/><text x="%d" y="%d">build</text>`+"\n", labelWidth, y+10, labelWidth+18, y+21)
	fmt.Fprintf(&b, `<rect class="rest" x="%d" y="%d" width="12" height="12"/><text x="%d" y="%d">all else until rolled out; a line from the quickest run to the slowest</text>`+"\n", labelWidth+70, y+10, labelWidth+88, y+21)
	b.WriteString("</svg>\n")
	return b.String()
}
