package operation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	continuity "github.com/containerd/continuity/fs"
	fscopy "github.com/tonistiigi/fsutil/copy"

	"github.com/slipway-ci/slipway/internal/buildcontext"
)

// root is the file system of the stage that is being built.
const root = "/"

// Copy is a COPY or an ADD. The fields of its actions are those of BuildKit's
// FileActionCopy (solver/pb/ops.proto).
type Copy struct {
	Actions []CopyAction `json:"actions"`
	// Link says that the files are copied to an empty file system first, which
	// is then put over the stage's: COPY --link.
	Link bool `json:"link,omitempty"`
}

// CopyAction copies one source of a COPY or an ADD.
type CopyAction struct {
	From Source `json:"from"`
	Src  string `json:"src"`  // in From, absolute; a pattern if Wildcard is set
	Dest string `json:"dest"` // absolute; with a slash at its end for a folder

	Owner   *Owner  `json:"owner,omitempty"` // nil for the source's own
	Mode    *uint32 `json:"mode,omitempty"`  // nil for the source's own
	ModeStr string  `json:"modeStr,omitempty"`

	Include  []string `json:"include,omitempty"`
	Exclude  []string `json:"exclude,omitempty"`
	Required []string `json:"required,omitempty"` // paths in From that must be there

	Wildcard           bool `json:"wildcard,omitempty"`
	FollowSymlink      bool `json:"followSymlink,omitempty"`
	DirContents        bool `json:"dirContents,omitempty"`
	Unpack             bool `json:"unpack,omitempty"` // an archive that can be unpacked is
	AlwaysReplace      bool `json:"alwaysReplace,omitempty"`
	AllowEmptyWildcard bool `json:"allowEmptyWildcard,omitempty"`

	// missing are folders below Dest that are left over, by their paths in it, and
	// scratch is a folder to make them in, to see how the copy does that.
	missing []string
	scratch string
}

func (c *Copy) run(ctx context.Context, world World) error {
	stage, err := newKeeper(world)
	if err != nil {
		return err
	}
	if c.Link {
		return stage.over(world, "/", func(scratch string) error {
			for i := range c.Actions {
				if err := c.Actions[i].to(ctx, world, scratch, ""); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i := range c.Actions {
		if err := c.Actions[i].toStage(ctx, world, stage); err != nil {
			return err
		}
	}
	return nil
}

// over has files copied to a file system that is empty but for the folder above
// and those that it is in, and puts it over the stage's.
func (c *keeper) over(world World, above string, copies func(scratch string) error) error {
	scratch, err := os.MkdirTemp(world.Kept, "over-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if err := os.Chmod(scratch, 0o755); err != nil {
		return err
	}
	made := "/"
	for _, element := range strings.Split(relative(above), "/") {
		if made = path.Join(made, element); made == "/" {
			continue
		}
		if err := errors.Join(os.Mkdir(scratch+made, 0o755), sameMetadata(made, scratch+made)); err != nil {
			return err
		}
	}
	if err := copies(scratch); err != nil {
		return err
	}
	return overlay(scratch, root, c)
}

// toStage copies to the stage's file system. A folder that is left over is not
// there for the stage, so the copy makes it.
func (a *CopyAction) toStage(ctx context.Context, world World, stage *keeper) error {
	dest, err := continuity.RootPath(root, a.Dest)
	if err != nil {
		return err
	}
	way := ""
	for _, element := range strings.Split(relative(dest), "/") {
		if way = path.Join("/", way, element); !stage.isLeft(way) {
			continue
		}
		below := *a // all that is below this folder is new
		below.Dest = dest + strings.TrimPrefix(cleaned(a.Dest), path.Clean("/"+a.Dest))
		return stage.over(world, path.Dir(way), func(scratch string) error { return below.to(ctx, world, scratch, "/etc") })
	}
	if a.missing = stage.leftBelow(dest); len(a.missing) > 0 {
		if a.scratch, err = os.MkdirTemp(world.Kept, "made-"); err != nil {
			return err
		}
		defer os.RemoveAll(a.scratch)
	}
	return a.to(ctx, world, root, "/etc")
}

// to copies to the file system dest, whose users are in the folder etc.
func (a *CopyAction) to(ctx context.Context, world World, dest, etc string) error {
	owner, err := a.Owner.lookup(etc)
	if err != nil {
		return err
	}
	return withoutRoot(a.run(ctx, world, dest, owner), dest)
}

// withoutRoot makes a path of the file system dest one that the user knows.
func withoutRoot(err error, dest string) error {
	var at *fs.PathError
	if dest != root && errors.As(err, &at) {
		at.Path = strings.TrimPrefix(at.Path, dest)
	}
	return err
}

func (a *CopyAction) run(ctx context.Context, world World, dest string, owner *fscopy.User) error {
	switch {
	case a.From.Inline != nil:
		folder, err := a.From.Inline.write(world.Kept)
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		return a.copy(ctx, folder, dest, nil, owner, true)
	case a.From.URL != nil:
		folder, err := a.From.URL.download(ctx, world.Kept)
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		return a.copy(ctx, folder, dest, nil, owner, true)
	case a.From.Stage != "":
		return a.copy(ctx, filepath.Join(world.Kept, a.From.Stage), dest, nil, owner, false)
	}
	// Docker sends a build context as root's.
	return a.copy(ctx, world.Context, dest, world.files(), owner, true)
}

// copy copies from the folder from, which is what built has of it; all of it if
// built is nil. Files are given to an owner that is not nil; others are root's
// if roots is set, and keep theirs if not. What an archive has in it keeps its
// owners. It follows docopy of BuildKit's solver/llbsolver/file.
func (a *CopyAction) copy(ctx context.Context, from, dest string, built *buildcontext.Context, given *fscopy.User, roots bool) error {
	owner := given
	if owner == nil && roots {
		owner = &fscopy.User{}
	}
	for _, required := range a.Required {
		if err := a.requires(from, required, built); err != nil {
			return err
		}
	}
	sources := []string{cleaned(a.Src)}
	if a.Wildcard {
		matches, err := fscopy.ResolveWildcards(from, cleaned(a.Src), a.FollowSymlink)
		if err != nil {
			return err
		}
		sources = nil
		for _, match := range matches {
			if built == nil || match == cleaned(a.Src) || built.Has(relative(match)) {
				sources = append(sources, match)
			}
		}
		if len(sources) == 0 && !a.AllowEmptyWildcard {
			return fmt.Errorf("%s: no such file", a.Src)
		}
	}
	for _, source := range sources {
		if err := a.check(from, source, built); err != nil {
			return err
		}
		if len(a.Include) > 0 && a.Wildcard && !isFolder(from, source) {
			continue // BuildKit does not send the client's files that no pattern takes
		}
		if a.Unpack {
			done, err := unpack(from, source, dest, cleaned(a.Dest), given)
			if err != nil {
				return fmt.Errorf("unpack %s: %w", source, err)
			}
			if done {
				continue
			}
		}
		exclude := a.Exclude
		if built != nil {
			followed, err := continuity.RootPath(from, source)
			if err != nil {
				return err
			}
			leftOut, err := built.LeftOut(relative(strings.TrimPrefix(followed, from)))
			if err != nil {
				return err
			}
			exclude = append(append([]string(nil), exclude...), buildcontext.Patterns(leftOut)...)
		}
		if dest == root && a.From.Stage != "" && isFolder(from, source) {
			onto, err := continuity.RootPath(root, a.Dest)
			if err != nil {
				return err
			}
			if onto == "/" {
				for _, mounted := range mountPoints {
					exclude = append(slices.Clone(exclude), relative(mounted))
				}
			}
		}
		options := func(ci *fscopy.CopyInfo) {
			ci.IncludePatterns, ci.ExcludePatterns = a.Include, exclude
			ci.Chown = chowner(owner)
			if ci.ModeStr = a.ModeStr; a.Mode != nil && a.ModeStr == "" {
				mode := int(*a.Mode)
				ci.Mode = &mode
			}
			ci.CopyDirContents, ci.FollowLinks, ci.AlwaysReplaceExistingDestPaths = a.DirContents, a.FollowSymlink, a.AlwaysReplace
		}
		if err := fscopy.Copy(ctx, from, source, dest, cleaned(a.Dest), options, fscopy.AllowXAttrErrors); err != nil {
			return err
		}
		if len(a.missing) > 0 && isFolder(from, source) {
			if err := a.makeMissing(ctx, from, source, options); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeMissing gives folders that are left over the owner and the mode that a copy
// with the same options gives them where it makes them.
func (a *CopyAction) makeMissing(ctx context.Context, from, source string, options fscopy.Opt) error {
	dest, err := continuity.RootPath(root, a.Dest)
	if err != nil {
		return err
	}
	for n, folder := range a.missing {
		made := filepath.Join(a.scratch, strconv.Itoa(n))
		if err := os.RemoveAll(made); err != nil { // of another source
			return err
		}
		if err := os.Mkdir(made, 0o755); err != nil {
			return err
		}
		if err := fscopy.Copy(ctx, from, source, made, "/", options, fscopy.AllowXAttrErrors, func(ci *fscopy.CopyInfo) {
			if len(ci.IncludePatterns) == 0 { // else the patterns say what leads through it
				ci.IncludePatterns = []string{folder}
				ci.ExcludePatterns = append(slices.Clone(ci.ExcludePatterns), folder+"/*")
			}
		}); err != nil {
			return err
		}
		if isFolder(made, folder) {
			if err := sameMetadata(filepath.Join(made, folder), filepath.Join(dest, folder)); err != nil {
				return err
			}
		}
	}
	return nil
}

// requires finds out whether a path is there that a pattern has to take: one
// below the source, whose last element may be a link to nothing.
func (a *CopyAction) requires(from, required string, built *buildcontext.Context) error {
	required = path.Clean("/" + required)
	parent, err := continuity.RootPath(from, path.Dir(required))
	if err == nil {
		_, err = os.Lstat(filepath.Join(parent, path.Base(required)))
	}
	name := relative(strings.TrimPrefix(filepath.Join(parent, path.Base(required)), from))
	if err != nil || required == path.Clean("/"+a.Src) || built != nil && !built.Has(name) {
		return fmt.Errorf("%s: no such file or folder", required)
	}
	return nil
}

func isFolder(from, name string) bool {
	followed, err := continuity.RootPath(from, name)
	if err != nil {
		return false
	}
	info, err := os.Lstat(followed)
	return err == nil && info.IsDir()
}

// check finds out whether a source is there.
func (a *CopyAction) check(from, source string, built *buildcontext.Context) error {
	followed, err := continuity.RootPath(from, source)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(followed); err != nil {
		return fmt.Errorf("%s: no such file or folder", source)
	}
	if name := relative(strings.TrimPrefix(followed, from)); built != nil && name != "." && !built.Has(name) {
		return fmt.Errorf("%s: the ignore file leaves it out of the build context", source)
	}
	return nil
}

// cleaned is a path as BuildKit's file operations have them: absolute, with a
// slash or a dot at its end if it had one.
func cleaned(p string) string {
	end := ""
	switch {
	case strings.HasSuffix(p, "/."):
		end = "/."
	case strings.HasSuffix(p, "/"):
		end = "/"
	}
	p = path.Join("/", p)
	if p == "/" {
		return p
	}
	return p + end
}

// relative is an absolute path without its root; "." for the root itself.
func relative(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}

// write puts the file into a new folder in dir.
func (i *Inline) write(dir string) (folder string, err error) {
	if folder, err = os.MkdirTemp(dir, "inline-"); err != nil {
		return "", err
	}
	made := folder
	defer func() {
		if err != nil {
			os.RemoveAll(made)
		}
	}()
	file, err := continuity.RootPath(folder, i.Name)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file, i.Data, 0o600); err != nil {
		return "", err
	}
	return folder, os.Chmod(file, os.FileMode(i.Mode&0o777))
}

func (m *Mkdir) run(world World) error {
	owner, err := m.Owner.lookup("/etc")
	if err != nil {
		return err
	}
	return makeFolders(world, m.Path, os.FileMode(m.Mode)&0o777, owner)
}

// makeFolders makes a folder of the stage and those above it that are missing.
// One that is left over is missing too.
func makeFolders(world World, name string, mode os.FileMode, owner *fscopy.User) error {
	stage, err := newKeeper(world)
	if err != nil {
		return err
	}
	p, err := continuity.RootPath(root, name)
	if err != nil {
		return err
	}
	var left []string
	for at := p; at != "/"; at = path.Dir(at) {
		if stage.isLeft(at) {
			left = append(left, at)
		}
	}
	if _, err := fscopy.MkdirAll(p, mode, chowner(owner), nil); err != nil {
		return err
	}
	for _, folder := range left {
		uid, gid := 0, 0
		if owner != nil {
			uid, gid = owner.UID, owner.GID
		}
		now := time.Now() // kaniko looks at the time of a folder's content
		if err := errors.Join(os.Lchown(folder, uid, gid), os.Chmod(folder, mode), os.Chtimes(folder, now, now)); err != nil {
			return err
		}
	}
	return nil
}
