// Package templates holds the words and looks of everything a reader sees: mails as Markdown, pages as HTML. No logic.
//
// A paper overrides single files by a folder of its own; whatever that folder lacks comes from the embedded set.
package templates

import (
	"embed"
	"errors"
	"io/fs"
	"os"
)

//go:embed mail web
var embedded embed.FS

// FS returns the templates: the embedded ones, and over them, file by file, those found in folder.
// An empty folder means the embedded ones alone.
func FS(folder string) fs.FS {
	if folder == "" {
		return embedded
	}
	return overlay{above: os.DirFS(folder), below: embedded}
}

type overlay struct{ above, below fs.FS }

// Open prefers the paper's own file. Only its absence leads on to the embedded one: an unreadable file is an error, or
// readers would get words the paper had replaced.
func (o overlay) Open(name string) (fs.File, error) {
	file, err := o.above.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return o.below.Open(name)
	}
	return file, err
}
