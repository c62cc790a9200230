// Package greet is what both services say first.
package greet

import "os"

// Line is the shop's name, from the file that the base image brings, and the
// service's.
func Line(service string) string {
	name, err := os.ReadFile("/etc/shop/name")
	if err != nil {
		return err.Error()
	}
	return string(name) + service
}
