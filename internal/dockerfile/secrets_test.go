package dockerfile

import "testing"

func TestSecretGiven(t *testing.T) {
	t.Parallel()
	for arg, want := range map[[2]string]bool{
		{"TOKEN", "abc"}:                           true,
		{"github-token", "abc"}:                    true,
		{"DB_PASSWORD", "hunter2"}:                 true,
		{"AWS_SECRET_ACCESS_KEY", "wJalrX"}:        true,
		{"API_KEY", "abc"}:                         true,
		{"NETRC", "machine x"}:                     true,
		{"X", "ghp_0123456789abcdefghijklmnop"}:    true,
		{"X", "https://me:secret@git.example/x"}:   true,
		{"X", "https://git.example/x"}:             false,
		{"X", "https://user@git.example/x"}:        false,
		{"X", "https://$USER:$PASSWORD@git/x"}:     false,
		{"TOKEN", ""}:                              false,
		{"TOKEN", "false"}:                         false,
		{"PASSWORD_FILE", "abc"}:                   false,
		{"PUBLIC_KEY", "abc"}:                      false,
		{"SSH_PUBLIC_API_KEY", "abc"}:              false,
		{"SECRET", "/run/secrets/x"}:               false,
		{"TOKENIZER", "bpe"}:                       false,
		{"SHARE_KEY", "abc"}:                       false,
		{"VERSION", "v1.2.3-glpat-not-long"}:       false,
		{"CERT", "-----BEGIN CERTIFICATE-----"}:    false,
		{"KEY", "-----BEGIN RSA PRIVATE KEY-----"}: true,
	} {
		if got := secretGiven(arg[0], arg[1]); (got != "") != want {
			t.Errorf("%s=%s: %q, want a secret: %t", arg[0], arg[1], got, want)
		}
	}
}
