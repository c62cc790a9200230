package oracle

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// blobs is what the registry of the tests keeps: of the stand-ins, which are
// files already, nothing, and of the rest what was pushed, by repository.
type blobs struct {
	standIns string // the folder of a layout
	mu       sync.Mutex
	pushed   map[string]map[v1.Hash][]byte
}

func (b *blobs) file(h v1.Hash) string {
	return filepath.Join(b.standIns, "blobs", h.Algorithm, h.Hex)
}

func (b *blobs) find(repository string, h v1.Hash) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.pushed[repository][h]
	return content, ok
}

// Stat says how large a blob is.
func (b *blobs) Stat(_ context.Context, repository string, h v1.Hash) (int64, error) {
	if content, ok := b.find(repository, h); ok {
		return int64(len(content)), nil
	}
	info, err := os.Stat(b.file(h))
	if err != nil {
		return 0, registry.ErrNotFound
	}
	return info.Size(), nil
}

// Get opens a blob.
func (b *blobs) Get(_ context.Context, repository string, h v1.Hash) (io.ReadCloser, error) {
	if content, ok := b.find(repository, h); ok {
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	file, err := os.Open(b.file(h))
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return file, nil
}

// Put keeps a blob.
func (b *blobs) Put(_ context.Context, repository string, h v1.Hash, content io.ReadCloser) error {
	defer content.Close()
	all, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	repository = strings.TrimSuffix(repository, "/blobs") // so the registry names it at the end of an upload
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pushed[repository] == nil {
		b.pushed[repository] = map[v1.Hash][]byte{}
	}
	b.pushed[repository][h] = all
	return nil
}

// forget drops what was pushed to a repository.
func (b *blobs) forget(repository string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pushed, repository)
}
