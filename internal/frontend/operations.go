package frontend

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/slipway-ci/slipway/internal/operation"
)

// Place is where an instruction stands: the instruction of its kind with that
// index, of those at a line. Only a FROM has several, for the ONBUILD
// instructions of the stage that it names.
type Place struct{ Line, Index int }

// Copy returns the operation of a COPY or an ADD. stage is the name, as in
// [operation.Keep], of the stage that it copies from; "" for another source.
func (d *Definition) Copy(at Place, stage string) (*operation.Copy, error) {
	copies, link := d.fileOp(at, func(a *pb.FileAction) bool { return a.GetCopy() != nil })
	if copies == nil {
		return nil, fmt.Errorf("BuildKit copies nothing for line %d", at.Line)
	}
	result := &operation.Copy{Link: link}
	for _, action := range copies.GetFile().Actions {
		c := action.GetCopy()
		if c == nil {
			return nil, fmt.Errorf("BuildKit has an action that is no copy: %v", action)
		}
		from, err := copies.source(action.SecondaryInput, stage)
		if err != nil {
			return nil, err
		}
		one := operation.CopyAction{
			From: *from, Src: c.Src, Dest: c.Dest,
			Owner:   owner(c.Owner),
			ModeStr: c.ModeStr,
			Include: c.IncludePatterns, Exclude: c.ExcludePatterns, Required: c.RequiredPaths,
			Wildcard: c.AllowWildcard, AllowEmptyWildcard: c.AllowEmptyWildcard,
			FollowSymlink: c.FollowSymlink, DirContents: c.DirCopyContents,
			Unpack: c.AttemptUnpackDockerCompatibility, AlwaysReplace: c.AlwaysReplaceExistingDestPaths,
		}
		if c.Mode >= 0 {
			mode := uint32(c.Mode)
			one.Mode = &mode
		}
		result.Actions = append(result.Actions, one)
	}
	return result, nil
}

// fileOp returns the file operation at a place, of those whose first action
// matches, and whether its files are put over the stage's as a layer.
func (d *Definition) fileOp(at Place, matches func(*pb.FileAction) bool) (found *op, link bool) {
	index := 0
	for i, one := range d.ops[at.Line] {
		file := one.GetFile()
		if file == nil || len(file.Actions) == 0 || !matches(file.Actions[0]) {
			continue
		}
		if index == at.Index {
			found = &d.ops[at.Line][i]
		}
		index++
	}
	if found == nil {
		return nil, false
	}
	for _, one := range d.ops[at.Line] {
		if one.GetMerge() != nil && slices.ContainsFunc(one.inputs, func(input *op) bool { return input != nil && input.digest == found.digest }) {
			return found, true
		}
	}
	return found, false
}

// source is what an action copies from: the input of that index.
func (o *op) source(index int64, stage string) (*operation.Source, error) {
	if index == int64(pb.Empty) && stage != "" {
		return &operation.Source{Stage: stage}, nil // a stage FROM scratch in which nothing was done
	}
	if index < 0 || int(index) >= len(o.inputs) || o.inputs[index] == nil {
		return nil, fmt.Errorf("BuildKit names an input %d that is not there", index)
	}
	input := o.inputs[index]
	if source := input.GetSource(); source != nil && stage == "" {
		switch scheme, rest, _ := strings.Cut(source.Identifier, "://"); scheme {
		case "local":
			return &operation.Source{}, nil
		case "http", "https":
			return &operation.Source{URL: &operation.URL{
				URL: scheme + "://" + rest, Name: source.Attrs[pb.AttrHTTPFilename], Checksum: source.Attrs[pb.AttrHTTPChecksum],
			}}, nil
		case "git":
			return nil, ErrGit
		default:
			return nil, fmt.Errorf("a source of the kind %s", scheme)
		}
	}
	if stage != "" {
		return &operation.Source{Stage: stage}, nil
	}
	if file := input.GetFile(); file != nil && len(file.Actions) == 1 {
		if mkfile := file.Actions[0].GetMkfile(); mkfile != nil {
			return &operation.Source{Inline: &operation.Inline{Name: mkfile.Path, Mode: uint32(mkfile.Mode), Data: mkfile.Data}}, nil
		}
	}
	return nil, errors.New("a source that is neither the build context nor a stage")
}

// ErrGit is returned for an ADD of a git repository.
var ErrGit = errors.New("ADD of a git repository")

// Mkdir returns what a WORKDIR makes; nil for nothing.
func (d *Definition) Mkdir(at Place) *operation.Mkdir {
	file, _ := d.fileOp(at, func(a *pb.FileAction) bool { return a.GetMkdir() != nil })
	if file == nil {
		return nil
	}
	m := file.GetFile().Actions[0].GetMkdir()
	return &operation.Mkdir{Path: m.Path, Mode: uint32(m.Mode), Owner: owner(m.Owner)}
}

// Exec returns the command of a RUN. stage returns the name, as in
// [operation.Keep], of the stage that the bind mount at an absolute path shows,
// by that path and the working directory; "" for the build context. Mounts of secrets and caches are kaniko's, and not
// in it.
func (d *Definition) Exec(at Place, stage func(target, dir string) string) (*operation.Exec, error) {
	var found *op
	index := 0
	for i, one := range d.ops[at.Line] {
		if one.GetExec() == nil {
			continue
		}
		if index == at.Index {
			found = &d.ops[at.Line][i]
		}
		index++
	}
	if found == nil {
		return nil, fmt.Errorf("BuildKit has no command for line %d", at.Line)
	}
	command := found.GetExec()
	result := &operation.Exec{Args: command.Meta.Args, Env: command.Meta.Env, Dir: command.Meta.Cwd, User: command.Meta.User}
	result.Env = append(result.Env, proxies(command.Meta.ProxyEnv)...)
	for _, secret := range command.Secretenv {
		result.Pass = append(result.Pass, secret.Name)
	}
	for _, m := range command.Mounts {
		if m.Dest == pb.RootMount {
			continue
		}
		one := operation.Mount{Target: m.Dest, Path: path.Join("/", m.Selector)}
		switch {
		case m.MountType == pb.MountType_TMPFS:
		case m.MountType != pb.MountType_BIND:
			continue
		case m.Dest == "/dev/pipes/" || m.Dest == "/dev/pipes":
			source, err := found.source(m.Input, "")
			if err != nil {
				return nil, err
			}
			result.Script = source.Inline.Data
			one.Script, one.Path = true, path.Join("/", source.Inline.Name)
		default:
			source, err := found.source(m.Input, stage(m.Dest, command.Meta.Cwd))
			if err != nil {
				return nil, err
			}
			one.From = source
		}
		result.Mounts = append(result.Mounts, one)
	}
	return result, nil
}

// proxies are the variables that a build arg of the same name sets for each
// command (BuildKit's executor, executor/oci).
func proxies(p *pb.ProxyEnv) []string {
	var env []string
	if p == nil {
		return nil
	}
	for _, one := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HttpProxy}, {"HTTPS_PROXY", p.HttpsProxy}, {"FTP_PROXY", p.FtpProxy}, {"NO_PROXY", p.NoProxy}, {"ALL_PROXY", p.AllProxy},
	} {
		if one.value != "" {
			env = append(env, one.name+"="+one.value, strings.ToLower(one.name)+"="+one.value)
		}
	}
	return env
}

// owner is who files are given to.
func owner(o *pb.ChownOpt) *operation.Owner {
	if o == nil {
		return nil
	}
	return &operation.Owner{User: identity(o.User), Group: identity(o.Group)}
}

func identity(u *pb.UserOpt) *operation.Identity {
	switch u := u.GetUser().(type) {
	case *pb.UserOpt_ByName:
		return &operation.Identity{Name: u.ByName.Name}
	case *pb.UserOpt_ByID:
		return &operation.Identity{ID: u.ByID}
	}
	return nil
}
