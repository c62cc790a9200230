package generate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Archive is a tar, or one file, compressed or not.
type Archive struct {
	Compression string  `json:",omitempty"` // gzip, xz, zstd, or none
	Plain       string  `json:",omitempty"` // the content of what is no tar
	Entries     []Entry `json:",omitempty"`
}

// Entry is a file in an archive.
type Entry struct {
	Name    string
	Kind    Kind
	Mode    uint32
	UID     int    `json:",omitempty"`
	GID     int    `json:",omitempty"`
	Content string `json:",omitempty"`
	Link    string `json:",omitempty"`
}

func (a *Archive) bytes() ([]byte, error) {
	content := []byte(a.Plain)
	if a.Plain == "" {
		var err error
		if content, err = a.tar(); err != nil {
			return nil, err
		}
	}
	switch a.Compression {
	case "":
		return content, nil
	case "gzip":
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(content); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		return b.Bytes(), nil
	case "xz":
		return xz(content), nil
	case "zstd":
		return zstd(content), nil
	}
	return nil, fmt.Errorf("no compression %q", a.Compression)
}

func (a *Archive) tar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range a.Entries {
		h := &tar.Header{Name: e.Name, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, Format: tar.FormatPAX}
		switch e.Kind {
		case Folder:
			h.Typeflag = tar.TypeDir
		case Symlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		case Hardlink:
			h.Typeflag, h.Linkname = tar.TypeLink, e.Link
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.Content))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(e.Content)); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// xz is a stream of one block whose chunks are stored as they are: a few bytes
// need no compression, only its format.
func xz(content []byte) []byte {
	le := binary.LittleEndian
	flags := []byte{0, 1} // each block ends with a CRC32
	out := append([]byte{0xfd, '7', 'z', 'X', 'Z', 0}, flags...)
	out = le.AppendUint32(out, crc32.ChecksumIEEE(flags))

	// A block header of twelve bytes: one filter, LZMA2 (0x21), with a dictionary
	// of 64 KiB (8).
	block := []byte{2, 0, 0x21, 1, 8, 0, 0, 0}
	block = le.AppendUint32(block, crc32.ChecksumIEEE(block))
	control := byte(1) // resets the dictionary
	for rest := content; len(rest) > 0; control = 2 {
		chunk := rest[:min(1<<16, len(rest))]
		rest = rest[len(chunk):]
		block = append(block, control)
		block = binary.BigEndian.AppendUint16(block, uint16(len(chunk)-1))
		block = append(block, chunk...)
	}
	block = append(block, 0)
	size := len(block) + crc32.Size
	block = le.AppendUint32(padded(block), crc32.ChecksumIEEE(content))

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(size))
	index = padded(binary.AppendUvarint(index, uint64(len(content))))
	index = le.AppendUint32(index, crc32.ChecksumIEEE(index))

	footer := append(le.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	out = append(append(out, block...), index...)
	out = le.AppendUint32(out, crc32.ChecksumIEEE(footer))
	return append(append(out, footer...), 'Y', 'Z')
}

// padded fills up to a multiple of four bytes.
func padded(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// zstd is a frame of blocks that are stored as they are.
func zstd(content []byte) []byte {
	le := binary.LittleEndian
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0} // its length follows, in four bytes
	out = le.AppendUint32(out, uint32(len(content)))
	for rest, last := content, false; !last; {
		block := rest[:min(1<<16, len(rest))]
		rest = rest[len(block):]
		last = len(rest) == 0
		header := uint32(len(block)) << 3
		if last {
			header |= 1
		}
		out = append(out, byte(header), byte(header>>8), byte(header>>16))
		out = append(out, block...)
	}
	return out
}
