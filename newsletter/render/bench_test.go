package render

import (
	"fmt"
	"testing"
)

func BenchmarkEntry(b *testing.B) {
	tmpl := mustParse(b, "de", Digest)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.Entry(germanEntries[0].entries[0]); err != nil {
			b.Fatal(err)
		}
	}
}

// variantOf40 is a digest of a usual size: 40 entries in 5 topics.
func variantOf40(b *testing.B, tmpl *Template) issue {
	v := germanVariant(b, tmpl)
	v.Sections, v.Count = nil, 40
	for topic := range 5 {
		heading, err := tmpl.Topic(Text(fmt.Sprintf("Thema %d", topic)))
		if err != nil {
			b.Fatal(err)
		}
		section := Section{Name: "Thema", Heading: heading}
		for n := range 8 {
			e := germanEntries[0].entries[0]
			e.Title += Text(fmt.Sprintf(" %d.%d", topic, n))
			fragment, err := tmpl.Entry(e)
			if err != nil {
				b.Fatal(err)
			}
			section.Entries = append(section.Entries, fragment)
		}
		v.Sections = append(v.Sections, section)
	}
	return v
}

func BenchmarkVariant(b *testing.B) {
	tmpl := mustParse(b, "de", Digest)
	v := variantOf40(b, tmpl)
	press := tmpl.Press(v.Edition)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := press.Message(v.Variant); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	tmpl := mustParse(b, "de", Digest)
	body := mustVariant(b, tmpl, variantOf40(b, tmpl))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(header, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplice(b *testing.B) {
	tmpl := mustParse(b, "de", Digest)
	message := mustMessage(b, tmpl, variantOf40(b, tmpl))
	dst := make([]byte, 0, message.Size())
	b.SetBytes(int64(message.Size()))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = message.Splice(dst[:0], &reader); err != nil {
			b.Fatal(err)
		}
	}
}
