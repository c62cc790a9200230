// Package log is shared by the services.
package log

// Print prints.
func Print(text string) { println(text) }
