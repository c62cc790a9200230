package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	containers "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-ci/slipway/test/cluster"
)

// registryOptions reach the registry from this process, for which the names of
// services mean nothing.
func registryOptions(ctx context.Context) []remote.Option {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(cluster.NodeIP, port))
	}
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(transport)}
}

// inRegistry is an image of the cluster's registry.
func (s *site) inRegistry(repository string) (name.Reference, error) {
	return name.ParseReference(s.Registry+"/"+repository, name.Insecure)
}

// copyImage gives an image of the registry another name.
func (s *site) copyImage(ctx context.Context, from, to string) error {
	img, err := s.pull(ctx, from)
	if err != nil {
		return err
	}
	return s.push(ctx, to, img)
}

func (s *site) pull(ctx context.Context, repository string) (containers.Image, error) {
	ref, err := s.inRegistry(repository)
	if err != nil {
		return nil, err
	}
	img, err := remote.Image(ref, registryOptions(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	return img, nil
}

func (s *site) push(ctx context.Context, repository string, img containers.Image) error {
	ref, err := s.inRegistry(repository)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, img, registryOptions(ctx)...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}

// exists says whether the registry has an image.
func exists(ctx context.Context, ref name.Reference) bool {
	_, err := remote.Head(ref, registryOptions(ctx)...)
	return err == nil
}

// addFiles pushes the image from with more files, by their path inside.
func (s *site) addFiles(ctx context.Context, from, to string, files map[string]string) error {
	img, err := s.pull(ctx, from)
	if err != nil {
		return err
	}
	layer, err := layerOf(files)
	if err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return err
	}
	return s.push(ctx, to, img)
}

func layerOf(files map[string]string) (containers.Layer, error) {
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		read, write := io.Pipe()
		go func() {
			archive := tar.NewWriter(write)
			err := error(nil)
			for _, inside := range slices.Sorted(maps.Keys(files)) {
				if err = addFile(archive, inside, files[inside]); err != nil {
					break
				}
			}
			write.CloseWithError(errors.Join(err, archive.Close()))
		}()
		return read, nil
	})
}

func addFile(archive *tar.Writer, inside, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(inside, "/"), Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}

// rolledOut is the image that the site's Deployment has: its digest, and the
// SHA-256 of the program that it starts.
func (s *site) rolledOut(ctx context.Context) (digest, binary string, err error) {
	deployment, err := s.Kube.AppsV1().Deployments(s.namespace).Get(ctx, s.deployment(), metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	image := deployment.Spec.Template.Spec.Containers[0].Image
	ref, err := name.NewDigest(image, name.Insecure)
	if err != nil {
		return "", "", fmt.Errorf("deployment %s has no image by digest: %w", s.deployment(), err)
	}
	img, err := remote.Image(ref, registryOptions(ctx)...)
	if err != nil {
		return "", "", fmt.Errorf("pull %s: %w", ref, err)
	}
	if binary, err = entrypointSum(img); err != nil {
		return "", "", fmt.Errorf("read %s: %w", ref, err)
	}
	return ref.DigestStr(), binary, nil
}

// entrypointSum is the SHA-256 of the file that an image starts.
func entrypointSum(img containers.Image) (string, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	if len(config.Config.Entrypoint) == 0 {
		return "", errors.New("it has no entrypoint")
	}
	program := config.Config.Entrypoint[0]
	files := mutate.Extract(img)
	defer files.Close()
	archive := tar.NewReader(files)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("its entrypoint %s is no file of it", program)
		} else if err != nil {
			return "", err
		}
		if path.Clean("/"+header.Name) != program || header.Typeflag != tar.TypeReg {
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, archive); err != nil {
			return "", err
		}
		return hex.EncodeToString(sum.Sum(nil)), nil
	}
}
