package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caarlos0/env/v11"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// document is a configuration while it is read: where each key stands, and what is wrong with it.
//
// go-yaml parses; the walk over its tree is ours, because its decoder stops at the first mistake and an editor wants to see
// them all, each with its line.
type document struct {
	file       string
	places     map[string]*token.Position // key path, such as sources[0].url → where its value begins
	variables  map[string]string          // the DEPESCHE_ variables that are keys, name → value
	mistakes   mistakes
	unreadable bool // no YAML at all: no use in looking further
}

// mistake is one line of the error a bad configuration ends with.
type mistake struct {
	key          string
	line, column int // 0: the file as a whole; environment variables come last
	text         string
}

type mistakes []mistake

func (p mistakes) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.text
	}
	return strings.Join(lines, "\n")
}

func (p mistakes) sorted() mistakes {
	slices.SortStableFunc(p, func(a, b mistake) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.column - b.column
	})
	return p
}

// newDocument sorts out the variables that are keys. Three begin like one and are none: where the file is, the clock's
// start, the tests' fixtures.
func newDocument(file string, environ []string) *document {
	notKeys := []string{"DEPESCHE_CONFIG", "DEPESCHE_NOW", "DEPESCHE_FIXTURES"}
	d := &document{file: file, places: map[string]*token.Position{}, variables: map[string]string{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "DEPESCHE_") && !slices.Contains(notKeys, name) && value != "" {
			d.variables[name] = value
		}
	}
	return d
}

// variable is the environment's name for a key: smtp.host → DEPESCHE_SMTP_HOST.
func variable(key string) string {
	return "DEPESCHE_" + strings.ToUpper(strings.NewReplacer(".", "_", "[", "_", "]", "").Replace(key))
}

// wholeList is the list an entry such as topics[2] stands in: the environment gives a plain list at once. Other keys stay.
func wholeList(key string) string {
	if strings.HasSuffix(key, "]") {
		return key[:strings.LastIndexByte(key, '[')]
	}
	return key
}

// holds tells whether the file itself, not the environment, gives the key a value.
func (d *document) holds(key string) bool { return d.places[key] != nil && !d.overruled(key) }

func (d *document) overruled(key string) bool { return d.variables[variable(key)] != "" }

// report notes what is wrong with the value of a key, once per key and not below a section that is wrong itself. It names
// the variable where the value came from one, otherwise the line of the key or, if the file lacks it, of its section.
func (d *document) report(key, text string) {
	name := variable(wholeList(key))
	known := func(p mistake) bool { return p.key == key || p.key == "$"+name || p.key != "" && isBelow(key, p.key) }
	if slices.ContainsFunc(d.mistakes, known) {
		return
	}
	if d.variables[name] != "" {
		d.mistakes = append(d.mistakes, mistake{key: key, line: math.MaxInt, text: name + ": " + text})
		return
	}
	place := d.places[key]
	for section := key; place == nil && section != ""; place = d.places[section] {
		section = section[:max(0, strings.LastIndexAny(section, ".["))]
	}
	d.reportAt(place, key, key+": "+text)
}

func (d *document) reportAt(place *token.Position, key, text string) {
	if place == nil {
		d.mistakes = append(d.mistakes, mistake{key: key, text: d.file + ": " + text})
		return
	}
	d.mistakes = append(d.mistakes, mistake{
		key: key, line: place.Line, column: place.Column,
		text: fmt.Sprintf("%s:%d:%d: %s", d.file, place.Line, place.Column, text),
	})
}

// secretFile is the file to read a secret from, "" for none. The environment overrules the file; both at one place are a
// mistake.
func (d *document) secretFile(key string, given bool, fileKey, file string) string {
	switch {
	case file == "" || given && d.overruled(key) && !d.overruled(fileKey):
		return ""
	case !given || d.overruled(fileKey) && !d.overruled(key):
		return file
	}
	d.report(fileKey, "expected either this or "+key+", not both")
	return ""
}

// read fills c from YAML. A second document, an anchor or a merge would hide where a value comes from and is refused.
func (d *document) read(text []byte, c *Config) {
	text = []byte(strings.TrimPrefix(string(text), "\ufeff"))
	if !utf8.Valid(text) {
		d.refuse(lineOfBadText(text), "expected UTF-8 text")
		return
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var syntax yaml.Error
	switch {
	case errors.As(err, &syntax) && syntax.GetToken() != nil:
		d.refuse(syntax.GetToken().Position, "expected YAML: "+syntax.GetMessage())
	case err != nil:
		d.refuse(nil, "expected YAML: it cannot be parsed")
	case len(file.Docs) > 1:
		d.refuse(beginning(file.Docs[1]), "expected one YAML document, here a second one begins")
	case len(file.Docs) == 1 && file.Docs[0].Body != nil:
		d.fill(reflect.ValueOf(c).Elem(), file.Docs[0].Body, "")
	}
}

// beginning is the line of dashes, or without one the first key.
func beginning(doc *ast.DocumentNode) *token.Position {
	switch {
	case doc.Start != nil:
		return doc.Start.Position
	case doc.Body != nil:
		return firstToken(doc.Body).Position
	}
	return nil
}

func (d *document) refuse(place *token.Position, text string) {
	d.reportAt(place, "", text)
	d.unreadable = true
}

func lineOfBadText(text []byte) *token.Position {
	line := 1
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		text = text[size:]
	}
	return &token.Position{Line: line, Column: 1}
}

// fill sets v, a section, a list or a single value, from its node.
func (d *document) fill(v reflect.Value, node ast.Node, key string) {
	switch kind := v.Kind(); {
	case node.Type() == ast.NullType || isComment(node): // nothing after the colon is as good as no key
	case kind == reflect.Struct:
		d.fillSection(v, node, key)
	case kind == reflect.Slice:
		d.fillList(v, node, key)
	default:
		d.fillValue(v, node, key)
	}
}

// isComment is true of a file in which every line is commented out.
func isComment(node ast.Node) bool {
	return node.Type() == ast.CommentType || node.Type() == ast.CommentGroupType
}

func (d *document) fillSection(v reflect.Value, node ast.Node, key string) {
	section, ok := node.(ast.MapNode)
	if !ok {
		known := keys(v.Type())
		d.reportKind(node, key, "keys such as "+strings.Join(known[:min(2, len(known))], " and "))
		return
	}
	seen := map[string]bool{}
	for entry := section.MapRange(); entry.Next(); {
		name, place := entry.Key().GetToken().Value, entry.Key().GetToken().Position
		full := strings.TrimPrefix(key+"."+name, ".")
		field := fieldByKey(v, name)
		switch {
		case seen[name]:
			d.reportAt(place, full, fmt.Sprintf("key %q is given twice", name))
		case !field.IsValid():
			d.reportAt(place, full, fmt.Sprintf("unknown key %q%s", name, didYouMean(name, keys(v.Type()))))
		default:
			d.places[full] = place
			d.fill(field, entry.Value(), full)
		}
		seen[name] = true
	}
}

func (d *document) fillList(v reflect.Value, node ast.Node, key string) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		d.reportKind(node, key, "a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
	for i, element := range list.Values {
		full := fmt.Sprintf("%s[%d]", key, i)
		d.places[full] = firstToken(element).Position
		if element.Type() == ast.NullType {
			d.report(full, "expected a value, it is empty")
			continue
		}
		d.fill(v.Index(i), element, full)
	}
}

func (d *document) fillValue(v reflect.Value, node ast.Node, key string) {
	d.places[key] = node.GetToken().Position
	text, ok := scalar(node)
	if !ok {
		d.reportKind(node, key, "a single value")
		return
	}
	value, err := parseValue(v.Type(), text)
	if err != nil {
		d.report(key, err.Error())
		return
	}
	v.Set(value)
}

// reportKind notes a list where a value belongs and the like.
func (d *document) reportKind(node ast.Node, key, expected string) {
	place := firstToken(node).Position
	if key == "" {
		d.refuse(place, "expected "+expected)
		return
	}
	got := map[ast.NodeType]string{
		ast.MappingType: "keys", ast.SequenceType: "a list",
		ast.AnchorType: "an anchor", ast.AliasType: "an alias", ast.TagType: "a tag",
	}[node.Type()]
	if got == "" {
		got = "a single value"
	}
	d.places[key] = place
	d.report(key, fmt.Sprintf("expected %s, got %s", expected, got))
}

// firstToken of a list's entry is its first key, where it has any: there an editor looks for what is missing.
func firstToken(node ast.Node) *token.Token {
	if section, ok := node.(ast.MapNode); ok {
		if entry := section.MapRange(); entry.Next() {
			return entry.Key().GetToken()
		}
	}
	return node.GetToken()
}

// scalar is the text of a single value as it was written; what YAML would make of it (a number, a date) does not matter.
func scalar(node ast.Node) (text string, ok bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(node.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, true
	}
	return "", false
}

// keys are the names a section knows, in the order of the manual.
func keys(section reflect.Type) []string {
	var names []string
	for i := range section.NumField() {
		if name := keyOf(section.Field(i)); name != "-" {
			names = append(names, name)
		}
	}
	return names
}

func keyOf(field reflect.StructField) string {
	if section, ok := field.Tag.Lookup("section"); ok {
		return strings.TrimSuffix(section, "_")
	}
	return field.Tag.Get("key")
}

func fieldByKey(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if keyOf(v.Type().Field(i)) == name && name != "-" {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// overlay lets the environment overrule the file. The library joins the tags' names with its prefixes; it gets them in lower
// case, as the tags are.
func (d *document) overlay(c *Config) {
	var current string // the key being looked up: the library's own errors do not tell
	known := map[string]bool{}
	environment := map[string]string{}
	for name, value := range d.variables {
		environment[strings.ToLower(name)] = value
	}
	err := env.ParseWithOptions(c, env.Options{
		Environment: environment, Prefix: "depesche_", TagName: "key", PrefixTagName: "section",
		FuncMap: d.parsers(&current),
		OnSet:   func(name string, _ any, _ bool) { current = strings.ToUpper(name); known[current] = true },
	})
	if err != nil {
		d.mistakes = append(d.mistakes, mistake{line: math.MaxInt, text: fmt.Sprintf("environment: %v", err)})
	}
	for _, name := range slices.Sorted(maps.Keys(d.variables)) {
		if !known[name] {
			hint := didYouMean(name, slices.Sorted(maps.Keys(known)))
			d.mistakes = append(d.mistakes, mistake{line: math.MaxInt, text: "unknown variable " + name + hint})
		}
	}
}

// parsers hands parseValue to the library, one entry per type the configuration has.
func (d *document) parsers(current *string) map[reflect.Type]env.ParserFunc {
	byType := map[reflect.Type]env.ParserFunc{}
	for _, t := range []reflect.Type{
		reflect.TypeFor[string](), reflect.TypeFor[Secret](), reflect.TypeFor[DSN](), reflect.TypeFor[Clock](),
		reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int64](),
		reflect.TypeFor[time.Duration](), reflect.TypeFor[time.Weekday](),
	} {
		byType[t] = func(text string) (any, error) {
			value, err := parseValue(t, text)
			if err != nil {
				d.reportVariable(*current, err.Error())
				return reflect.Zero(t).Interface(), nil
			}
			return value.Interface(), nil
		}
	}
	return byType
}

// reportVariable notes a value of the environment that cannot be read, under the key it stands for.
func (d *document) reportVariable(name, text string) {
	d.mistakes = append(d.mistakes, mistake{line: math.MaxInt, key: "$" + name, text: name + ": " + text})
}

// parseValue reads a single value of the type t, from the file or the environment.
func parseValue(t reflect.Type, text string) (reflect.Value, error) {
	text = strings.TrimSpace(text)
	var value any
	var err error
	switch {
	case t == reflect.TypeFor[time.Duration]():
		value, err = parseDuration(text)
	case t == reflect.TypeFor[time.Weekday]():
		value, err = parseWeekday(text)
	case t.Kind() == reflect.Bool:
		value, err = parseBool(text)
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		value, err = parseNumber(text)
	default:
		value, err = parseLine(text)
	}
	if err != nil {
		return reflect.Value{}, err
	}
	return reflect.ValueOf(value).Convert(t), nil
}

// parseLine refuses what could end a header line or turn the reading direction around: these texts reach mails and pages.
func parseLine(text string) (string, error) {
	for _, r := range text {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return "", fmt.Errorf("expected one line of plain text, it holds the character %U", r)
		}
	}
	return text, nil
}

func parseNumber(text string) (int64, error) {
	number, err := strconv.ParseInt(text, 10, 48)
	if err != nil || number < 0 {
		return 0, fmt.Errorf("expected a number from 0, got %q", text)
	}
	return number, nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "yes", "true":
		return true, nil
	case "no", "false":
		return false, nil
	}
	return false, fmt.Errorf("expected yes or no, got %q", text)
}

// parseDuration is time.ParseDuration with whole days (of 24 hours) before it: 7d, 1d12h.
func parseDuration(text string) (time.Duration, error) {
	wrong := fmt.Errorf("expected a duration such as 15m, 72h or 7d, got %q", text)
	rest := text
	var total time.Duration
	if days, after, ok := strings.Cut(text, "d"); ok {
		number, err := strconv.ParseUint(days, 10, 12)
		if err != nil {
			return 0, wrong
		}
		total, rest = time.Duration(number)*24*time.Hour, after
	}
	if rest != "" {
		part, err := time.ParseDuration(rest)
		if err != nil || part < 0 {
			return 0, wrong
		}
		total += part
	}
	if total <= 0 {
		return 0, wrong
	}
	return total, nil
}

// parseWeekday knows the English three letters and the German two.
func parseWeekday(text string) (time.Weekday, error) {
	names := [...]string{"sun so", "mon mo", "tue di", "wed mi", "thu do", "fri fr", "sat sa"}
	for day, both := range names {
		if slices.Contains(strings.Fields(both), strings.ToLower(text)) {
			return time.Weekday(day), nil
		}
	}
	return 0, fmt.Errorf("expected a day: mon tue wed thu fri sat sun, or mo di mi do fr sa so, got %q", text)
}

// didYouMean proposes the one known name that differs in at most two letters, or a few more where the name is long.
func didYouMean(name string, known []string) string {
	best, distance := "", max(2, len(name)/6)+1
	for _, candidate := range known {
		if n := edits(name, candidate); n < distance {
			best, distance = candidate, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// edits counts the letters to insert, delete or replace to get from a to b (Levenshtein).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
