package newsletter

import "strings"

// Topic is a subject readers choose, and the kickers and categories that mean it.
type Topic struct {
	Slug    string
	Name    string
	Aliases []string
}

// Desk files articles by topic: kickers and categories are aliases of topics, so `Ukraine-Krieg` and `Krieg in der
// Ukraine` are one. Formats such as `Lage im Überblick` are ignored: they say nothing about the subject.
type Desk struct {
	topics  map[string]string // alias → slug
	ignored map[string]bool
	names   map[string]string // slug → name
}

// NewDesk takes the topics and the labels to ignore. A topic's slug and name are aliases of it.
func NewDesk(topics []Topic, ignored []string) Desk {
	d := Desk{topics: map[string]string{}, ignored: map[string]bool{}, names: map[string]string{}}
	for _, topic := range topics {
		d.names[topic.Slug] = topic.Name
		d.topics[fold(topic.Slug)] = topic.Slug
		d.topics[fold(topic.Name)] = topic.Slug
		for _, alias := range topic.Aliases {
			d.topics[fold(alias)] = topic.Slug
		}
	}
	for _, label := range ignored {
		d.ignored[fold(label)] = true
	}
	return d
}

// File says which topics an article with these labels belongs to, in the order of its labels, each once.
func (d Desk) File(labels []string) []string {
	var topics []string
	seen := map[string]bool{}
	for _, label := range labels {
		slug, known := d.topics[fold(label)]
		if known && !seen[slug] {
			seen[slug] = true
			topics = append(topics, slug)
		}
	}
	return topics
}

// Unmapped are the labels that mean no topic and are not ignored.
func (d Desk) Unmapped(labels []string) []string {
	var unmapped []string
	for _, label := range labels {
		if _, known := d.topics[fold(label)]; !known && !d.ignored[fold(label)] {
			unmapped = append(unmapped, label)
		}
	}
	return unmapped
}

// Name is a topic's name as readers see it, its slug where the topic is gone from the configuration.
func (d Desk) Name(slug string) string {
	if name, ok := d.names[slug]; ok {
		return name
	}
	return slug
}

// fold makes labels comparable: case, and what stands between words, make no difference.
func fold(label string) string {
	between := func(r rune) bool { return strings.ContainsRune(" \t\n-–—_/·:", r) }
	return strings.Join(strings.FieldsFunc(strings.ToLower(label), between), " ")
}
