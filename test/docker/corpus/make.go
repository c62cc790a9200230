package corpus

import "context"

// NotMade is why there is no case for a Dockerfile.
type NotMade struct{ Why string }

func (n *NotMade) Error() string { return n.Why }

// Make makes a case of a Dockerfile.
func Make(ctx context.Context, content []byte, args map[string]string, dir string) error {
	return &NotMade{"not yet"}
}
