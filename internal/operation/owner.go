package operation

import (
	"errors"
	"os"
	"syscall"

	"github.com/moby/sys/user"
	fscopy "github.com/tonistiigi/fsutil/copy"
)

// lookup returns the ids of an owner by the rules of BuildKit's file operations
// (solver/llbsolver/ops/user_linux.go): a user's number is its group's too, and
// a name that /etc/passwd lacks is root. nil is for an owner that is nil. etc is
// the folder with passwd and group, "" where the file system is empty.
func (o *Owner) lookup(etc string) (*fscopy.User, error) {
	if o == nil {
		return nil, nil
	}
	var found fscopy.User
	if o.User != nil {
		switch {
		case o.User.Name == "":
			found.UID, found.GID = int(o.User.ID), int(o.User.ID)
		case etc != "":
			users, err := user.ParsePasswdFileFilter(etc+"/passwd", func(u user.User) bool { return u.Name == o.User.Name })
			if err != nil && !missing(err) {
				return nil, err
			}
			if len(users) > 0 {
				found.UID, found.GID = users[0].Uid, users[0].Gid
			}
		}
	}
	if o.Group != nil {
		switch {
		case o.Group.Name == "":
			found.GID = int(o.Group.ID)
		case etc != "":
			groups, err := user.ParseGroupFileFilter(etc+"/group", func(g user.Group) bool { return g.Name == o.Group.Name })
			if err != nil && !missing(err) {
				return nil, err
			}
			if len(groups) > 0 {
				found.GID = groups[0].Gid
			}
		}
	}
	return &found, nil
}

// Named reports whether an owner has to be looked up.
func (o *Owner) Named() bool {
	return o != nil && (o.User != nil && o.User.Name != "" || o.Group != nil && o.Group.Name != "")
}

func missing(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// chowner gives files to an owner; to the one that they have for nil.
func chowner(owner *fscopy.User) fscopy.Chowner {
	return func(old *fscopy.User) (*fscopy.User, error) {
		if owner == nil {
			return old, nil
		}
		u := *owner
		return &u, nil
	}
}
