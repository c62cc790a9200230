// Command floor does the least that a build of a Go image can do: go build, and
// one layer with the program and its files pushed upon a base.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("floor", flag.ContinueOnError)
	base := flags.String("base", "", "`image` to put the layer upon")
	image := flags.String("image", "", "`repository` to push to")
	program := flags.String("program", "", "where the program is in the image")
	result := flags.String("result", "", "`file` that gets the reference of the image")
	if err := flags.Parse(args); err != nil {
		return err
	}
	fmt.Fprintln(stderr, "go build")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", "/tmp/program", ".")
	build.Stdout, build.Stderr = stderr, stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	fmt.Fprintln(stderr, "push")
	content, err := layer(append([]string{*program + "=/tmp/program"}, flags.Args()...))
	if err != nil {
		return err
	}
	baseRef, err := name.ParseReference(*base)
	if err != nil {
		return err
	}
	to, err := name.ParseReference(*image)
	if err != nil {
		return err
	}
	img, err := remote.Image(baseRef, remote.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("pull %s: %w", baseRef, err)
	}
	built, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, built); err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.Config.Entrypoint = []string{*program}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	if err := remote.Write(to, img, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("push %s: %w", to, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintln(stderr, digest)
	return os.WriteFile(*result, []byte(to.Context().String()+"@"+digest.String()), 0o644)
}

// layer is a compressed archive of files, each PATH=FILE.
func layer(files []string) ([]byte, error) {
	var buffer bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(zip)
	for _, file := range files {
		path, from, _ := strings.Cut(file, "=")
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := archive.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
