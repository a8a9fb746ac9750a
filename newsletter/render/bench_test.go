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
func variantOf40(b testing.TB, tmpl *Template) issue {
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

// variantsOf12 are cuts of a digest: 12 of its 40 entries, in 3 of its 5 topics. Each begins with another headline.
func variantsOf12(v issue) []Variant {
	var cuts []Variant
	for first := range 5 {
		cut := Variant{Count: 12}
		for n := range 3 {
			section := v.Sections[(first+n)%len(v.Sections)]
			section.Entries = section.Entries[first%4 : first%4+4]
			cut.Sections = append(cut.Sections, section)
			for range section.Entries {
				cut.Headlines = append(cut.Headlines, Text(fmt.Sprint(first, n, v.Headlines[n%len(v.Headlines)])))
			}
		}
		cuts = append(cuts, cut)
	}
	return cuts
}

// BenchmarkVariant makes a message of a variant while a digest is dispatched: others were made before.
func BenchmarkVariant(b *testing.B) {
	tmpl := mustParse(b, "de", Digest)
	v := variantOf40(b, tmpl)
	press := tmpl.Press(v.Edition)
	variants := variantsOf12(v)
	b.Run("12 of 40", func(b *testing.B) {
		b.ReportAllocs()
		for n := int64(0); b.Loop(); n++ {
			variant := variants[n%int64(len(variants))]
			variant.Number = n
			if _, err := press.Message(variant); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("40 of 40", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := press.Message(v.Variant); err != nil {
				b.Fatal(err)
			}
		}
	})
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
	v := variantOf40(b, tmpl)
	for _, c := range []struct {
		name    string
		variant Variant
	}{{"12 of 40", variantsOf12(v)[0]}, {"40 of 40", v.Variant}} {
		message := mustMessage(b, tmpl, issue{v.Edition, c.variant})
		b.Run(c.name, func(b *testing.B) {
			dst := make([]byte, 0, message.Size())
			b.SetBytes(int64(message.Length(&reader)))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = message.Splice(dst[:0], &reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
