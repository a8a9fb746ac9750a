package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"depesche/newsletter/render"
	"depesche/subscribers"
)

// What people would have to remember, these tests remember.

// source is one Go file of the project.
type source struct {
	path, folder string // from the project's root
	file         *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	const root = "../.."
	var list []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." && entry.Name() != root {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		list = append(list, source{filepath.ToSlash(relative), filepath.ToSlash(filepath.Dir(relative)), file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 50 {
		t.Fatalf("only %d files found: the test looks in the wrong place", len(list))
	}
	return list
}

// allowed says who may import whom (ARCHITECTURE.md has the table): cmd → newsletter → its rooms, newsletter → subscribers;
// templates and migrations are leaves. Tests may use dbtest and the templates.
var allowed = map[string][]string{
	"cmd/depesche":      {"cmd/depesche/demo", "newsletter", "newsletter/", "subscribers", "templates", "migrations"},
	"cmd/depesche/demo": {},
	"newsletter":        {"newsletter/", "subscribers", "migrations"},
	"newsletter/ingest": {},
	"newsletter/render": {},
	"newsletter/smtp":   {},
	"newsletter/bounce": {},
	"subscribers":       {"migrations"},
	"templates":         {},
	"migrations":        {},
	"migrations/dbtest": {"migrations"},
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			target, ours := strings.CutPrefix(path, "depesche/")
			test := strings.HasSuffix(s.path, "_test.go")
			if !ours || test && (mayImport("cmd/depesche", target) || target == s.folder || target == "migrations/dbtest") {
				continue // a test may use every room to set up its own
			}
			if !mayImport(s.folder, target) {
				t.Errorf("%s imports %s: the corridor runs the other way", s.path, target)
			}
		}
	}
}

func mayImport(folder, target string) bool {
	for _, room := range allowed[folder] {
		if target == room || strings.HasSuffix(room, "/") && strings.HasPrefix(target, room) {
			return true
		}
	}
	return false
}

// To SQLite `$2` is a name, bound by first appearance; so numbers must first appear in ascending order (mattn #472, #1169).
func TestPlaceholdersAppearInOrder(t *testing.T) {
	number := regexp.MustCompile(`\$(\d+)`)
	statements := 0
	for _, s := range sources(t) {
		if s.path == "cmd/depesche/rules_test.go" {
			continue
		}
		for _, text := range texts(s.file) {
			next := 1
			for _, match := range number.FindAllStringSubmatch(text, -1) {
				n, _ := strconv.Atoi(match[1])
				if n > next {
					t.Errorf("%s: $%d appears before $%d in %q", s.path, n, next, text)
					break
				}
				if n == next {
					next++
				}
			}
			if next > 1 {
				statements++
			}
		}
	}
	if statements < 50 {
		t.Errorf("only %d statements found: the test is blind", statements)
	}
}

// texts are the string expressions of a file, with what is concatenated joined. Named constants count where they are put
// into an expression, and not by themselves.
func texts(file *ast.File) []string {
	var list []string
	named := constants(file)
	used := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if text, ok := concatenated(n, named, used); ok {
				list = append(list, text)
				return false
			}
		case *ast.ValueSpec:
			return len(n.Names) != 1 || named[n.Names[0].Name] == ""
		case *ast.BasicLit:
			if text, ok := concatenated(n, named, used); ok {
				list = append(list, text)
			}
		}
		return true
	})
	for name, text := range named {
		if !used[name] {
			list = append(list, text)
		}
	}
	return list
}

// constants are the file's named texts.
func constants(file *ast.File) map[string]string {
	named := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == 1 && len(spec.Values) == 1 {
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				named[spec.Names[0].Name], _ = strconv.Unquote(literal.Value)
			}
		}
		return true
	})
	return named
}

func concatenated(e ast.Expr, named map[string]string, used map[string]bool) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		text, known := named[e.Name]
		used[e.Name] = used[e.Name] || known
		return text, known
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, leftOK := concatenated(e.X, named, used)
		right, rightOK := concatenated(e.Y, named, used)
		return left + " " + right, leftOK || rightOK
	}
	return "", false
}

func TestPlaceholderTestSeesDisorder(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nvar q = `SELECT $2` + y + `, $1`", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := texts(file); len(got) != 1 || !strings.HasPrefix(got[0], "SELECT $2") {
		t.Errorf("texts = %q, want the statement in one piece", got)
	}
}

// Two rooms that may not know each other agree on how long a token is.
func TestTokensFitTheirPlace(t *testing.T) {
	if render.TokenLength != subscribers.TokenLength {
		t.Errorf("a mail has room for %d octets of a token, tokens have %d", render.TokenLength, subscribers.TokenLength)
	}
}

// Only cmd owns a clock; tests of rooms may look at the wall's.
func TestTimeIsAParameter(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasPrefix(s.folder, "cmd/") || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == "time" && (selector.Sel.Name == "Now" || selector.Sel.Name == "Since") {
				t.Errorf("%s calls time.%s", s.path, selector.Sel.Name)
			}
			return true
		})
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" || c.Example == "" && c.HasParent() {
			t.Errorf("%s has no short description or no example", c.CommandPath())
		}
		if !strings.Contains(string(readme), c.CommandPath()) {
			t.Errorf("README.md does not name %q", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(a.command())
}
