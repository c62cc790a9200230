// Package words is what all other packages import.
package words

// Motto is in every answer.
const Motto = "one board, all pods"

// Count says how many there are of something.
func Count(n int) string {
	switch n {
	case 0:
		return "none"
	case 1:
		return "one"
	}
	return "several"
}
