package ingest

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// Two spellings of one address are one article (H21); a home page is none.
func TestKeys(t *testing.T) {
	same := []string{
		"https://www.a.example/stadt/bruecke",
		"http://www.a.example/stadt/bruecke/",
		"HTTPS://WWW.A.EXAMPLE:443/stadt/bruecke#kommentare",
		"http://www.a.example:80/stadt/bruecke?utm_source=rss&fbclid=1",
		"https://www.a.example/stadt/br%75ecke?ref=rss",
		"https://www.a.example./stadt/bruecke?",
	}
	for _, address := range same {
		got := Article{Source: "s", URL: address}.Keys()
		if want := []string{"url:www.a.example/stadt/bruecke"}; !slices.Equal(got, want) {
			t.Errorf("Keys of %q = %q, want %q", address, got, want)
		}
	}
	for address, want := range map[string][]string{
		"https://a.example/":          nil,
		"https://a.example?utm_id=1":  nil,
		"https://a.example/?p=17":     nil,
		"https://a.example/a?id=2":    {"url:a.example/a?id=2"},
		"https://a.example/a?b=2&a=1": {"url:a.example/a?b=2&a=1"},
		"":                            nil,
	} {
		if got := (Article{URL: address}).Keys(); !slices.Equal(got, want) {
			t.Errorf("Keys of %q = %q, want %q", address, got, want)
		}
	}
	got := Article{Source: "s", GUID: "g", URL: "https://a.example/a"}.Keys()
	if want := []string{"guid:s\x1fg", "url:a.example/a"}; !slices.Equal(got, want) {
		t.Errorf("Keys = %q, want %q", got, want)
	}
}

// Every field a reader or the desk sees changes the hash; identity does not.
func TestHash(t *testing.T) {
	base := Article{Title: "a", Kicker: "b", Categories: []string{"c"}, Picture: &Picture{URL: "u"}}
	seen := map[string]string{base.Hash(): "nothing"}
	value := reflect.ValueOf(base)
	for i := range value.NumField() {
		name := value.Type().Field(i).Name
		changed := base
		field := reflect.ValueOf(&changed).Elem().Field(i)
		switch field.Interface().(type) {
		case string:
			field.SetString("other")
		case int64, int, Status:
			field.SetInt(2)
		case []string:
			field.Set(reflect.ValueOf([]string{"c", "d"}))
		case time.Time:
			field.Set(reflect.ValueOf(testNow))
		case *Picture:
			field.Set(reflect.ValueOf(&Picture{URL: "u", Credit: "x"}))
		default:
			t.Fatalf("field %s of a type this test does not know", name)
		}
		identity := name == "Source" || name == "GUID"
		other, repeated := seen[changed.Hash()]
		if repeated != identity {
			t.Errorf("hash with another %s: repeats %q", name, other)
		}
		seen[changed.Hash()] = name
	}
	moved := base
	moved.Published = testNow.In(time.FixedZone("", 3600))
	same := base
	same.Published = testNow
	if moved.Hash() != same.Hash() {
		t.Error("the zone of a date changes the hash")
	}
}

func TestStatus(t *testing.T) {
	for word, want := range map[string]Status{"": Usable, "usable": Usable, "stat:canceled": Canceled, "Withheld": Withheld, "?": Withheld} {
		if got, ok := statusOf(word); got != want || ok != (word != "?") {
			t.Errorf("statusOf(%q) = %v, %v", word, got, ok)
		}
	}
}
