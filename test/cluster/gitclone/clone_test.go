package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/step"
)

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"HOME="+dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// origin is a repository of two commits, the first on branch "old".
func origin(t *testing.T) (url, first, second string) {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "config", "uploadpack.allowAnySHA1InWant", "true")
	for _, content := range []string{"1", "2"} {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		git(t, dir, "add", "file")
		git(t, dir, "commit", "-q", "-m", content)
	}
	git(t, dir, "branch", "old", "HEAD~1")
	return "file://" + dir, git(t, dir, "rev-parse", "old"), git(t, dir, "rev-parse", "main")
}

func TestClone(t *testing.T) {
	t.Parallel()
	url, first, second := origin(t)
	base := map[string]string{
		"PARAM_URL": url, "PARAM_DEPTH": "1", "PARAM_SUBMODULES": "true", "PARAM_SSL_VERIFY": "true",
		"PARAM_DELETE_EXISTING": "true", "PARAM_VERBOSE": "true", "PARAM_CRT_FILE_NAME": defaultCrtFileName,
		"WORKSPACE_SSH_DIRECTORY_BOUND": "false", "WORKSPACE_BASIC_AUTH_BOUND": "false", "WORKSPACE_SSL_CA_DIRECTORY_BOUND": "false",
	}
	for name, tc := range map[string]struct {
		env    map[string]string
		commit string // "" where it fails
		code   int
		says   string
	}{
		"default branch":    {map[string]string{}, second, 0, "is at " + second},
		"branch":            {map[string]string{"PARAM_REVISION": "old"}, first, 0, ""},
		"commit":            {map[string]string{"PARAM_REVISION": first}, first, 0, ""},
		"full reference":    {map[string]string{"PARAM_REVISION": "refs/heads/old"}, first, 0, ""},
		"refspec":           {map[string]string{"PARAM_REFSPEC": "refs/heads/old:refs/x", "PARAM_REVISION": "refs/x"}, first, 0, ""},
		"subdirectory":      {map[string]string{"PARAM_SUBDIRECTORY": "sub/dir"}, second, 0, ""},
		"all of it":         {map[string]string{"PARAM_DEPTH": "0"}, second, 0, ""},
		"no such revision":  {map[string]string{"PARAM_REVISION": "gone"}, "", step.ExitFailed, "couldn't find remote ref gone"},
		"no such origin":    {map[string]string{"PARAM_URL": "file:///nowhere"}, "", step.ExitFailed, "fetch HEAD of file:///nowhere"},
		"no url":            {map[string]string{"PARAM_URL": ""}, "", step.ExitBadInput, "PARAM_URL"},
		"option":            {map[string]string{"PARAM_REVISION": "--upload-pack=touch"}, "", step.ExitBadInput, "param revision"},
		"outside":           {map[string]string{"PARAM_SUBDIRECTORY": "../x"}, "", step.ExitBadInput, "param subdirectory"},
		"sparse":            {map[string]string{"PARAM_SPARSE_CHECKOUT_DIRECTORIES": "a"}, "", step.ExitBadInput, "param sparseCheckoutDirectories is not supported"},
		"certificate":       {map[string]string{"PARAM_CRT_FILE_NAME": "x.crt"}, "", step.ExitBadInput, "param crtFileName is not supported"},
		"ssh":               {map[string]string{"WORKSPACE_SSH_DIRECTORY_BOUND": "true"}, "", step.ExitBadInput, "workspace ssh-directory is not supported"},
		"basic auth":        {map[string]string{"WORKSPACE_BASIC_AUTH_BOUND": "true", "WORKSPACE_BASIC_AUTH_PATH": "/nowhere"}, "", step.ExitBadInput, "workspace basic-auth: open /nowhere/.git-credentials"},
		"ssl-ca-directory":  {map[string]string{"WORKSPACE_SSL_CA_DIRECTORY_BOUND": "true"}, "", step.ExitBadInput, "workspace ssl-ca-directory is not supported"},
		"password in a URL": {map[string]string{"PARAM_URL": "http://ada:hush@127.0.0.1:1/x"}, "", step.ExitFailed, "http://ada:xxxxx@127.0.0.1:1/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, results := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(output, "left-over"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			env := maps.Clone(base)
			env["WORKSPACE_OUTPUT_PATH"] = output
			env["PARAM_USER_HOME"] = results
			for result, file := range map[string]string{"COMMIT": "commit", "URL": "url", "COMMITTER_DATE": "committer-date"} {
				env["RESULT_"+result+"_PATH"] = filepath.Join(results, file)
			}
			maps.Copy(env, tc.env)
			var log bytes.Buffer
			err := run(t.Context(), envconfig.MapLookuper(env), &log)
			if err != nil {
				log.WriteString(err.Error())
			}
			if step.ExitCode(err) != tc.code || !strings.Contains(log.String(), tc.says) || strings.Contains(log.String(), "hush") {
				t.Fatalf("exit code %d, want %d with %q:\n%s", step.ExitCode(err), tc.code, tc.says, &log)
			}
			commit, err := os.ReadFile(filepath.Join(results, "commit"))
			if string(commit) != tc.commit || (err != nil) != (tc.commit == "") {
				t.Errorf("result commit %q, %v, want %q", commit, err, tc.commit)
			}
			if tc.commit == "" {
				return
			}
			date, err := os.ReadFile(filepath.Join(results, "committer-date"))
			if _, notNumber := strconv.Atoi(string(date)); err != nil || notNumber != nil {
				t.Errorf("result committer-date %q, %v", date, err)
			}
			content, err := os.ReadFile(filepath.Join(output, tc.env["PARAM_SUBDIRECTORY"], "file"))
			want := map[string]string{first: "1", second: "2"}[tc.commit]
			if err != nil || string(content) != want {
				t.Errorf("file has %q, %v, want %q", content, err, want)
			}
			if _, err := os.Stat(filepath.Join(output, "left-over")); tc.env["PARAM_SUBDIRECTORY"] == "" && err == nil {
				t.Error("what was there before was kept")
			}
		})
	}
}
