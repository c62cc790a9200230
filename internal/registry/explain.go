package registry

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// explain says in one line which registry failed and what it answered. right
// is what was asked for: "pull" or "push".
func explain(ref name.Reference, right string, err error) error {
	host := ref.Context().RegistryStr()
	if errors.Is(err, http.ErrSchemeMismatch) {
		return rejection(fmt.Sprintf("registry %s speaks plain HTTP: if its network can be trusted, name it in the param insecure-registries", host))
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return rejection(fmt.Sprintf("registry %s has a certificate of an unknown signer: name the signer's in the param registry-certificates", host))
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return fmt.Errorf("registry %s: %w", host, err)
	}
	var said []string
	for _, d := range answer.Errors {
		said = append(said, strings.Join(strings.Fields(strings.TrimPrefix(string(d.Code)+": "+d.Message, ": ")), " "))
	}
	if len(said) == 0 {
		said = append(said, http.StatusText(answer.StatusCode))
	}
	text := fmt.Sprintf("%d, %s", answer.StatusCode, strings.Join(said, ", "))
	if refused(answer) {
		return rejection(fmt.Sprintf("registry %s refused to %s %s (%s): bind the workspace dockerconfig to a registry secret with the right to %s there",
			host, right, ref.Context().RepositoryStr(), text, right))
	}
	if answer.StatusCode == http.StatusNotFound {
		return rejection(fmt.Sprintf("registry %s has no %s (%s)", host, strings.TrimPrefix(ref.Name(), host+"/"), text))
	}
	return fmt.Errorf("registry %s: %s", host, text)
}

func refused(answer *transport.Error) bool {
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		return true
	}
	for _, d := range answer.Errors {
		if d.Code == transport.UnauthorizedErrorCode || d.Code == transport.DeniedErrorCode {
			return true
		}
	}
	return false
}

// ErrRejected is what an error is ([errors.Is]) when every registry that was
// asked has answered no: it refused the credentials, has no such image, or does
// not speak TLS. Asking again gets the same answer.
var ErrRejected = errors.New("rejected by the registry")

type rejection string

func (r rejection) Error() string        { return string(r) }
func (r rejection) Is(target error) bool { return target == ErrRejected }

// joined is one line of all errors, or the only one itself.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	texts := make([]string, len(errs))
	rejected := true
	for i, err := range errs {
		texts[i] = err.Error()
		rejected = rejected && errors.Is(err, ErrRejected)
	}
	text := strings.Join(texts, "; ")
	if rejected {
		return rejection(text)
	}
	return errors.New(text)
}
