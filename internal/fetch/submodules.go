package fetch

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-git/go-git/v5"

	"github.com/slipway-ci/slipway/internal/step"
)

// maxDepth bounds how deep submodules may lie in each other, as go-git's own
// recursion does.
const maxDepth = 10

// updateSubmodules fetches the submodules of a clone and theirs, each with the
// login of its own host.
func (f *fetch) updateSubmodules(ctx context.Context, tree *git.Worktree) error {
	return f.update(ctx, tree, f.config.URL, maxDepth)
}

func (f *fetch) update(ctx context.Context, tree *git.Worktree, parent string, left int) error {
	submodules, err := tree.Submodules()
	if err != nil {
		return fmt.Errorf("read .gitmodules: %w", err)
	}
	for _, submodule := range submodules {
		about := submodule.Config()
		address, err := resolve(parent, about.URL)
		if err == nil {
			err = checkURL(address)
		}
		if err != nil {
			return step.BadInput(fmt.Errorf("submodule %s: %w", about.Path, err))
		}
		if left == 0 {
			return step.BadInput(fmt.Errorf("submodule %s is the tenth inside another: fetch without submodules", about.Path))
		}
		about.URL = address
		fmt.Fprintf(f.log, "submodule %s: %s\n", about.Path, address)
		if err := f.try(ctx, func() error {
			return submodule.UpdateContext(ctx, &git.SubmoduleUpdateOptions{
				Init:  true,
				Auth:  f.login(address),
				Depth: f.config.Depth,
			})
		}); err != nil {
			return fmt.Errorf("submodule %s: %w", about.Path, err)
		}
		repository, err := submodule.Repository()
		if err != nil {
			return fmt.Errorf("submodule %s: %w", about.Path, err)
		}
		inner, err := repository.Worktree()
		if err != nil {
			return fmt.Errorf("submodule %s: %w", about.Path, err)
		}
		if err := f.update(ctx, inner, address, left-1); err != nil {
			return err
		}
	}
	return nil
}

// resolve is the URL of a submodule, which may be relative to its parent's:
// https://git-scm.com/docs/gitmodules.
func resolve(parent, address string) (string, error) {
	if !strings.HasPrefix(address, "./") && !strings.HasPrefix(address, "../") {
		return address, nil
	}
	return url.JoinPath(parent, address)
}
