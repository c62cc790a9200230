// Command api is one of the services.
package main

import "example.com/libs/log"

func main() { log.Print("api") }
