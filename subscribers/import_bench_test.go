package subscribers

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"depesche/migrations"
	"depesche/migrations/dbtest"
	"depesche/templates"
)

// BenchmarkImport is the mark of performance.md: 100,000 readers with evidence of consent. DEPESCHE_BENCH_IMPORT changes how many.
func BenchmarkImport(b *testing.B) {
	rows := 100_000
	if text := os.Getenv("DEPESCHE_BENCH_IMPORT"); text != "" {
		var err error
		if rows, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	list := filepath.Join(b.TempDir(), "list.csv")
	if err := os.WriteFile(list, []byte(mailchimpList(rows)), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, open := range map[string]func(testing.TB) *migrations.Database{"sqlite": dbtest.SQLite, "postgres": dbtest.PostgreSQL} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				r := benchRegistry(b, open(b))
				file, err := os.Open(list)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				began := time.Now()
				sheet, err := NewSheet(file)
				if err != nil {
					b.Fatal(err)
				}
				a, err := r.Import(b.Context(), time.Now, sheet, Import{})
				if err != nil || a.Active != rows {
					b.Fatalf("Import = %+v, %v", a, err)
				}
				b.ReportMetric(float64(rows)/time.Since(began).Seconds(), "rows/s")
				_ = file.Close()
			}
		})
	}
}

func benchRegistry(b *testing.B, db *migrations.Database) *Registry {
	b.Helper()
	keys := filepath.Join(b.TempDir(), "keys")
	if err := CreateKeys(keys); err != nil {
		b.Fatal(err)
	}
	loaded, err := LoadKeys(keys)
	if err != nil {
		b.Fatal(err)
	}
	r, err := New(db, loaded, templates.FS(""), testSettings())
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// mailchimpList is a list of readers with evidence, in no order, with a thousand sets of labels.
func mailchimpList(rows int) string {
	var b strings.Builder
	b.WriteString("Email Address,First Name,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,SOURCE,TAGS\n")
	for i := range rows {
		fmt.Fprintf(&b, "leser.%x@post%d.example,Lena,2024-05-%02d 10:11:12,10.%d.%d.7,2024-05-%02d 10:15:00,10.%d.%d.7,https://talbote.example/abo,\"\"\"Sport\"\",\"\"Gruppe %d\"\"\"\n",
			uint32(i)*2654435761, i%500, 1+i%28, i%250, i/250%250, 1+i%28, i%250, i/250%250, i%1000)
	}
	return b.String()
}
