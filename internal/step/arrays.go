package step

import "fmt"

// Arrays takes array params from a step's args. Each is announced by a name of
// its own, and reaches to the next name:
//
//	args: [--build-args, "$(params.build-args[*])", --registry-mirrors, "$(params.registry-mirrors[*])"]
//
// which leaves values free to start with dashes. A Task names each array once,
// so a name that comes again is a value that looks like one, and is refused.
// Empty values are left out. The error is a [BadInput].
func Arrays(args []string, arrays map[string]*[]string) error {
	var current *[]string
	seen := map[string]bool{}
	for _, arg := range args {
		if array, ok := arrays[arg]; ok {
			if seen[arg] {
				return BadInput(fmt.Errorf("%q cannot be a value of an array param: it announces one", arg))
			}
			seen[arg] = true
			current = array
			continue
		}
		if current == nil {
			return BadInput(fmt.Errorf("argument %q belongs to no array param", arg))
		}
		if arg != "" {
			*current = append(*current, arg)
		}
	}
	return nil
}
