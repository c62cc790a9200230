package oracle

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-ci/slipway/test/cluster"
)

// pushBases fills the registry: with the cluster's stand-ins under their names,
// and with small images that have what Dockerfiles find in their bases.
func pushBases(ctx context.Context, registry string, standIns layout.Path, recorder string) error {
	images, err := cluster.Named(standIns)
	if err != nil {
		return err
	}
	alpine, ok := images[cluster.AlpineImage]
	if !ok {
		return fmt.Errorf("the stand-ins have no %s", cluster.AlpineImage)
	}
	made, err := bases(alpine, recorder)
	if err != nil {
		return fmt.Errorf("make the tests' own bases: %w", err)
	}
	for ref, image := range made {
		images[ref] = image
	}
	for ref, image := range images {
		if err := push(ctx, registry, ref, image); err != nil {
			return fmt.Errorf("push the base %s to the tests' registry: %w", ref, err)
		}
	}
	return nil
}

func push(ctx context.Context, registry, ref string, image v1.Image) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	to, err := name.NewTag(registry+"/"+tag.RepositoryStr()+":"+tag.TagStr(), name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(to, image, remote.WithContext(ctx))
}

// bases are the images that only these tests have:
//
//   - alpine:users has the user app (1000, groups app and docker 4242) and
//     /bin/record, with the folder /rec for what it says;
//   - alpine:onbuild has triggers, alpine:app is of the user app, alpine:env has
//     variables and a working directory, alpine:workdir has one that is not
//     there, alpine:volume has a volume, and alpine:configured has the rest that
//     a configuration can say;
//   - alpine:odd has folders of other owners and modes, links and a file with a
//     capability;
//   - tiny has one file and no shell;
//   - standin:KIND is for Dockerfiles of others, see [StandIn].
func bases(alpine v1.Image, recorder string) (map[string]v1.Image, error) {
	record, err := os.ReadFile(recorder)
	if err != nil {
		return nil, err
	}
	users, err := with(alpine,
		text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\napp:x:1000:1000:app:/home/app:/bin/sh\nops:x:1001:4242:ops:/home/ops:/bin/sh\n"),
		text("etc/group", "root:x:0:\ntty:x:5:\napp:x:1000:\ndocker:x:4242:app\nnobody:x:65534:\n"),
		owned(folder("home/app", 0o755), 1000, 1000),
		owned(folder("home/ops", 0o750), 1001, 4242),
		executable("bin/record", record),
		folder("rec", 0o1777),
		folder("srv/app", 0o755),
	)
	if err != nil {
		return nil, err
	}
	odd, err := with(users,
		owned(folder("secure", 0o700), 1000, 1000),
		owned(text("secure/key", "a key\n"), 1000, 1000),
		owned(folder("sticky", 0o1777), 0, 4242),
		owned(folder("setgid", 0o2775), 0, 4242),
		folder("target", 0o700),
		text("target/inside", "inside\n"),
		link("link", "/target"),
		folder("run", 0o755),
		folder("var", 0o755),
		link("var/run", "/run"),
		link("dangling", "/nowhere"),
		folder("hard", 0o755),
		text("hard/a", "of two names\n"),
		hardLink("hard/b", "hard/a"),
		executable("hard/setuid", []byte("#!/bin/sh\nid\n"), 0o4755),
		capable(executable("hard/capable", []byte("#!/bin/sh\nid\n"))),
	)
	if err != nil {
		return nil, err
	}
	tiny, err := with(emptyImage(), folder("etc", 0o755), text("etc/motd", "tiny\n"))
	if err != nil {
		return nil, err
	}
	made, err := standInImages(record)
	if err != nil {
		return nil, err
	}
	made["docker.io/library/alpine:users"], made["docker.io/library/alpine:odd"] = users, odd
	for _, variant := range []struct {
		ref    string
		base   v1.Image
		change func(*v1.Config)
	}{
		{"tiny:latest", tiny, func(*v1.Config) {}},
		{"alpine:onbuild", users, func(c *v1.Config) {
			c.OnBuild = []string{"ENV FROM_TRIGGER=yes", "RUN echo trigger > /triggered", "WORKDIR /srv"}
		}},
		{"alpine:app", users, func(c *v1.Config) { c.User = "app" }},
		{"alpine:env", users, func(c *v1.Config) {
			c.Env = append(c.Env, "MODE=base", "EMPTY=", "QUOTED=a \"b\" 'c' $d")
			c.WorkingDir = "/srv/app"
		}},
		{"alpine:workdir", users, func(c *v1.Config) { c.WorkingDir = "/not/there" }},
		{"alpine:volume", users, func(c *v1.Config) { c.Volumes = map[string]struct{}{"/data": {}} }},
		{"alpine:configured", users, func(c *v1.Config) {
			c.Entrypoint, c.Cmd = []string{"/bin/sh", "-c"}, []string{"echo base"}
			c.Labels = map[string]string{"base": "yes", "shared": "base"}
			c.ExposedPorts = map[string]struct{}{"80/tcp": {}}
			c.StopSignal = "SIGQUIT"
			c.Healthcheck = &v1.HealthConfig{Test: []string{"CMD", "true"}, Retries: 2}
			c.Shell = []string{"/bin/sh", "-ec"}
		}},
	} {
		file, err := variant.base.ConfigFile()
		if err != nil {
			return nil, err
		}
		file = file.DeepCopy()
		file.OS, file.Architecture = "linux", goarch
		variant.change(&file.Config)
		image, err := mutate.ConfigFile(variant.base, file)
		if err != nil {
			return nil, err
		}
		made["docker.io/library/"+variant.ref] = image
	}
	return made, nil
}

// emptyImage has no layers.
func emptyImage() v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// node is an entry of a layer.
type node struct {
	tar.Header
	content []byte
}

func folder(name string, mode int64) node {
	return node{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}}
}

func text(name, content string) node {
	return node{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, []byte(content)}
}

func executable(name string, content []byte, mode ...int64) node {
	return node{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: append(mode, 0o755)[0]}, content}
}

func link(name, target string) node {
	return node{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}}
}

func hardLink(name, target string) node {
	return node{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Mode: 0o644, Linkname: target}}
}

func owned(n node, uid, gid int) node {
	n.Uid, n.Gid = uid, gid
	return n
}

// capable gives a file CAP_NET_BIND_SERVICE, permitted and effective, in the
// form that the kernel keeps in security.capability.
func capable(n node) node {
	n.PAXRecords = map[string]string{xattrPrefix + "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	n.Format = tar.FormatPAX
	return n
}

// with is an image with a layer more.
func with(base v1.Image, nodes ...node) (v1.Image, error) {
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for _, n := range nodes {
		n.Size = int64(len(n.content))
		if err := archive.WriteHeader(&n.Header); err != nil {
			return nil, fmt.Errorf("add %s: %w", n.Name, err)
		}
		if _, err := archive.Write(n.content); err != nil {
			return nil, fmt.Errorf("add %s: %w", n.Name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, fmt.Errorf("add a layer of %s: %w", strings.TrimSuffix(nodes[0].Name, "/"), err)
	}
	return image, nil
}
