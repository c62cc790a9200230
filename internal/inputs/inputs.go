// Package inputs is what decides an image: a list of everything declared, its
// digest, and the record that says which image a list has led to.
package inputs

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"

	"golang.org/x/crypto/scrypt"
)

// Input is one thing that decides an image.
type Input struct {
	Kind  Kind
	Name  string // which of its kind; "" where there is one only
	Value string // itself, or a hash of it
}

// Kind is what an input is, in words for a person.
type Kind string

// The kinds of inputs, in the order in which a person wants to hear of them.
const (
	File       Kind = "context"
	Dockerfile Kind = "Dockerfile"
	BuildArg   Kind = "build arg"
	Secret     Kind = "secret"
	Base       Kind = "base image"
	GoFlags    Kind = "GOFLAGS"
	Kaniko     Kind = "kaniko"
	Option     Kind = "option"
	Platform   Kind = "platform"
	Repository Kind = "repository"
	Program    Kind = "Slipway"
	Derived    Kind = "derived Dockerfile"  // follows from others
	Config     Kind = "image configuration" // follows from others
	Operations Kind = "operations"          // follow from others
)

var kinds = []Kind{File, Dockerfile, BuildArg, Secret, Base, GoFlags, Kaniko, Option, Platform, Repository, Program, Derived, Config, Operations}

// String is "build arg VERSION".
func (i Input) String() string {
	switch {
	case i.Name == "":
		return string(i.Kind)
	case i.Kind == File:
		return string(i.Kind) + ": " + i.Name
	}
	return string(i.Kind) + " " + i.Name
}

// List is everything that decides an image, in any order. No two have the same
// kind and name.
type List []Input

// format is the first thing that is hashed: another when the same list would
// have another digest.
const format = "slipway-inputs/1"

// Digest is a SHA-256 of the list, in hexadecimal.
func (l List) Digest() string {
	sum := sha256.New()
	field(sum, format)
	for _, input := range l.sorted() {
		field(sum, string(input.Kind))
		field(sum, input.Name)
		field(sum, input.Value)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// field writes a text so that no two lists of texts are written alike.
func field(to hash.Hash, text string) {
	to.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
	io.WriteString(to, text) //nolint:errcheck // a hash takes everything
}

func (l List) sorted() List {
	return slices.SortedFunc(slices.Values(l), func(a, b Input) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Name, b.Name))
	})
}

// OfSecret is the input that a secret is. Records are as public as the image,
// and a secret may be easy to guess, so its value is what takes a guesser as
// long as scrypt can make it take: 32 MiB and about 0.1 s for each guess, for
// each repository anew.
func OfSecret(repository, id string, content []byte) (Input, error) {
	salt := sha256.New()
	field(salt, format)
	field(salt, repository)
	field(salt, id)
	key, err := scrypt.Key(content, salt.Sum(nil), 1<<15, 8, 1, sha256.Size)
	if err != nil {
		return Input{}, fmt.Errorf("hash the secret %s: %w", id, err)
	}
	return Input{Kind: Secret, Name: id, Value: hex.EncodeToString(key)}, nil
}

// OfProgram is the input that a program with this content is. That says more
// than a version: there are builds without one.
func OfProgram(program io.Reader) (Input, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, program); err != nil {
		return Input{}, err
	}
	return Input{Kind: Program, Value: hex.EncodeToString(sum.Sum(nil))}, nil
}
