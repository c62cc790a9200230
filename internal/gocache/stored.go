package gocache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Config is the configuration of the entry digest, checked against it. The
// error is [fs.ErrNotExist] where there is no entry.
func (b BaseImages) Config(digest v1.Hash) (*v1.ConfigFile, error) {
	root, err := os.OpenRoot(b.Path(digest))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	raw, err := readBlob(root, digest)
	if err != nil {
		return nil, damaged(err)
	}
	manifest, err := v1.ParseManifest(strings.NewReader(raw))
	if err != nil {
		return nil, damaged(err)
	}
	if raw, err = readBlob(root, manifest.Config.Digest); err != nil {
		return nil, damaged(err)
	}
	return v1.ParseConfigFile(strings.NewReader(raw))
}

func readBlob(root *os.Root, digest v1.Hash) (string, error) {
	content, err := root.ReadFile(blobPath(digest))
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest.Hex {
		return "", errors.New("blob " + digest.String() + " was changed")
	}
	return string(content), nil
}
