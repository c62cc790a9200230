// Command api is one of the shop's services.
package main

import (
	"fmt"
	"log"
	"net/http"

	"shop/greet"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, greet.Line("api"), "{\"items\": 3}")
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
