// Command server has its modules beside it.
package main

func main() { println("vendored") }
