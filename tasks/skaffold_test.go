package tasks_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// skaffoldFields are the names in skaffold v2.24.0's schema v4beta14
// (pkg/skaffold/schema/latest/config.go): what a build goes by of Artifact, and
// KanikoArtifact, KanikoCache, ClusterDetails and TagPolicy.
var skaffoldFields = strings.Fields(`
context image requires
buildArgs buildContextCompressionLevel cache cleanup contextSubPath copyMaxRetries copyTimeout destination digestFile
dockerfile env force ignorePaths image imageFSExtractRetry imageNameWithDigestFile imagePullSecret initImage insecure
insecurePull insecureRegistry label logFormat logTimestamp ociLayoutPath pushRetry registryCertificate registryMirror
reproducible singleSnapshot skipTLS skipTLSVerifyPull skipTLSVerifyRegistry skipUnusedStages snapshotMode tarPath target
useNewRun verbosity volumeMounts whitelistVarRun
cacheCopyLayers cacheRunLayers hostPath repo ttl
HTTP_PROXY HTTPS_PROXY annotations concurrency dockerConfig labels namespace nodeSelector pullSecretMountPath
pullSecretName pullSecretPath randomDockerConfigSecret randomPullSecret resources runAsUser serviceAccount timeout
tolerations volumes
customTemplate dateTime envTemplate gitCommit inputDigest sha256
`)

var (
	tableRow  = regexp.MustCompile("(?m)^\\| (`.*?) \\| (.*) \\| (.*) \\|$")
	codeWord  = regexp.MustCompile("`([^`]+)`")
	testFunc  = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	paramWord = regexp.MustCompile("(?:params?|workspaces?) ((?:`[a-z-]+`(?:, | and )?)+)")
)

// docs/skaffold.md has each field of each type once, with tests that exist and with params
// and workspaces that do.
func TestEveryFieldOfSkaffoldHasAPlace(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../docs/skaffold.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	build := load(t).tasks["slipway-build"]
	names := map[string]bool{}
	for _, param := range build.Spec.Params {
		names[param.Name] = true
	}
	for _, workspace := range build.Spec.Workspaces {
		names[workspace.Name] = true
	}
	var fields []string
	for _, row := range tableRow.FindAllStringSubmatch(string(content), -1) {
		for _, word := range codeWord.FindAllStringSubmatch(row[1], -1) {
			fields = append(fields, word[1])
		}
		for _, list := range paramWord.FindAllStringSubmatch(row[2], -1) {
			for _, word := range codeWord.FindAllStringSubmatch(list[1], -1) {
				if !names[word[1]] {
					t.Errorf("%s: Task slipway-build has no param or workspace %s", row[1], word[1])
				}
			}
		}
		covered := codeWord.FindAllStringSubmatch(row[3], -1)
		if len(covered) == 0 {
			t.Errorf("%s: no test is named", row[1])
		}
		for _, word := range covered {
			if !tests[word[1]] {
				t.Errorf("%s: there is no %s", row[1], word[1])
			}
		}
	}
	slices.Sort(fields)
	want := slices.Sorted(slices.Values(skaffoldFields))
	if !slices.Equal(fields, want) {
		t.Errorf("docs/skaffold.md has the fields\n%s\nwant\n%s", fields, want)
	}
}

// testNames are all tests of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		for _, match := range testFunc.FindAllStringSubmatch(string(content), -1) {
			names[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
