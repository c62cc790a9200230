// Command worker is the app's other program.
package main

import "example.com/wild/internal/version"

func main() { println(version.Version) }
