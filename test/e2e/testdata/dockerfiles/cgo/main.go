// Command cgo has a function in C.
package main

/*
#include <stdio.h>

static void greet(const char *from) { printf("%s of %s\n", from, __VERSION__); fflush(stdout); }
*/
import "C"

import "runtime"

func main() {
	_, file, _, _ := runtime.Caller(0)
	C.greet(C.CString(file))
}
