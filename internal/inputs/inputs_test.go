package inputs_test

import (
	"slices"
	"testing"

	"github.com/slipway-ci/slipway/internal/inputs"
)

func TestDigestKnowsListsApart(t *testing.T) {
	t.Parallel()
	lists := map[string]inputs.List{
		"none":                        {},
		"one":                         {{Kind: inputs.BuildArg, Name: "A", Value: "1"}},
		"another kind":                {{Kind: inputs.Secret, Name: "A", Value: "1"}},
		"another name":                {{Kind: inputs.BuildArg, Name: "B", Value: "1"}},
		"another value":               {{Kind: inputs.BuildArg, Name: "A", Value: "2"}},
		"a value that is a name":      {{Kind: inputs.BuildArg, Name: "A1"}},
		"a name that is a value":      {{Kind: inputs.BuildArg, Value: "A1"}},
		"two":                         {{Kind: inputs.BuildArg, Name: "A", Value: "1"}, {Kind: inputs.File, Name: "a", Value: "1"}},
		"values exchanged":            {{Kind: inputs.BuildArg, Name: "A", Value: "2"}, {Kind: inputs.BuildArg, Name: "B", Value: "1"}},
		"values as they were":         {{Kind: inputs.BuildArg, Name: "A", Value: "1"}, {Kind: inputs.BuildArg, Name: "B", Value: "2"}},
		"a name of bytes":             {{Kind: inputs.File, Name: "\xff"}},
		"a name of other bytes":       {{Kind: inputs.File, Name: "\xfe"}},
		"a name that looks like that": {{Kind: inputs.File, Name: "\ufffd"}},
	}
	seen := map[string]string{}
	for name, list := range lists {
		digest := list.Digest()
		if other, ok := seen[digest]; ok {
			t.Errorf("%s and %s have the digest %s", name, other, digest)
		}
		seen[digest] = name
		turned := slices.Clone(list)
		slices.Reverse(turned)
		if turned.Digest() != digest {
			t.Errorf("%s: the order matters", name)
		}
	}
}

// Whoever reads a record must not be able to try out secrets, least of all for
// several repositories at once.
func TestOfSecret(t *testing.T) {
	t.Parallel()
	value := func(repository, id, content string) string {
		t.Helper()
		secret, err := inputs.OfSecret(repository, id, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		return secret.Value
	}
	first := value("registry.example/a", "token", "1234")
	if again := value("registry.example/a", "token", "1234"); again != first {
		t.Errorf("the same secret gives %s, then %s", first, again)
	}
	for name, other := range map[string]string{
		"content":    value("registry.example/a", "token", "1235"),
		"id":         value("registry.example/a", "key", "1234"),
		"repository": value("registry.example/b", "token", "1234"),
	} {
		if other == first {
			t.Errorf("another %s gives the same value", name)
		}
	}
}
