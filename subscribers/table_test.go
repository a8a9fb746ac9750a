package subscribers

import "testing"

// Two statements that begin alike and end differently are two.
func TestStatementsOverRows(t *testing.T) {
	plain, upsert := shape{"INSERT INTO t (a, b) ", "nt", ""}, shape{"INSERT INTO t (a, b) ", "nt", " ON CONFLICT DO NOTHING"}
	for range 2 {
		for s, want := range map[shape]string{
			plain:  "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)",
			upsert: "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING",
		} {
			if got := s.overValues(2); got != want {
				t.Errorf("overValues = %q, want %q", got, want)
			}
		}
	}
	const want = "INSERT INTO t (a, b) SELECT * FROM unnest($1::bigint[], $2::text[]) AS v (column1, column2) ON CONFLICT DO NOTHING"
	if got := upsert.overArrays(); got != want {
		t.Errorf("overArrays = %q, want %q", got, want)
	}
}
