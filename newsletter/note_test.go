package newsletter

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"depesche/migrations"
	"depesche/migrations/dbtest"
)

// While the server has a message and has not answered, the database says that it is doubtful and the journal that it is on the
// wire: both as a kill at that moment would leave them.
func TestUnansweredIsNotedAsSuch(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *migrations.Database) {
		h := newHouse(t, db, daily(t))
		h.due(50)
		var mu sync.Mutex
		h.relay.setAnswer(func(to string, _ []byte) error {
			mu.Lock()
			defer mu.Unlock()
			var reader int64
			_, err := fmt.Sscanf(to, "leser%d@", &reader)
			var state State
			if err == nil {
				err = db.Read.QueryRow(`SELECT state FROM deliveries WHERE subscriber = $1`, reader).Scan(&state)
			}
			if noted := h.noted(t, reader); err != nil || state != Doubtful || noted != launched {
				t.Errorf("reader %d: %s, note %d, %v; want doubtful, note %d", reader, state, noted, err, launched)
			}
			return nil
		})
		h.run("2026-02-11T06:00:00+01:00")
		if r := h.report("2026-02-11"); r.Sent != 50 {
			t.Errorf("report = %+v, want 50 sent", r)
		}
	})
}

// noted is the state of a reader's slot in the one journal there is, as the file says.
func (h *house) noted(t *testing.T, reader int64) uint32 {
	paths, _ := filepath.Glob(h.JournalBase + "-*")
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		for at := journalHead; at+slotBytes <= len(content); at += slotBytes {
			if s := (*slot)(unsafe.Pointer(&content[at])); s.subscriber == reader && s.state.Load() != vacant {
				return s.state.Load()
			}
		}
	}
	return vacant
}
