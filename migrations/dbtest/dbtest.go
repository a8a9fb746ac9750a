// Package dbtest gives a test a fresh database of either kind, so that every store test runs on both.
package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"depesche/migrations"
)

// Each runs test once on a fresh SQLite file and once on a fresh PostgreSQL database.
func Each(t *testing.T, test func(t *testing.T, db *migrations.Database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, PostgreSQL(t)) })
}

// SQLite is a fresh, migrated database file that goes with the test.
func SQLite(t testing.TB) *migrations.Database {
	t.Helper()
	return open(t, SQLiteLocation(t))
}

// PostgreSQL is a fresh, migrated database in a server of the test process's own. Where PostgreSQL is not installed the
// test is skipped, or fails if DEPESCHE_NO_SKIP is set.
func PostgreSQL(t testing.TB) *migrations.Database {
	t.Helper()
	return open(t, PostgreSQLLocation(t))
}

// SQLiteLocation is the path of a database file that does not exist yet.
func SQLiteLocation(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "test.db")
}

var databases atomic.Int64 // numbers the databases of this process's server

// PostgreSQLLocation is the URL of a fresh, empty database.
func PostgreSQLLocation(t testing.TB) string {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		if os.Getenv("DEPESCHE_NO_SKIP") != "" {
			t.Fatalf("PostgreSQL is needed: %v", err)
		}
		t.Skipf("SKIPPED, nothing of PostgreSQL is tested: %v", err)
	}
	name := fmt.Sprintf("test%d_%d", os.Getpid(), databases.Add(1))
	admin, err := migrations.Open(context.Background(), server.address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	if _, err := admin.Write.Exec(`CREATE DATABASE ` + name); err != nil {
		t.Fatalf("create database %s: %v", name, err)
	}
	location := *server.address
	location.Path = "/" + name
	return location.String()
}

func open(t testing.TB, location string) *migrations.Database {
	t.Helper()
	db, err := migrations.Open(context.Background(), location)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	if err := db.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	return db
}

func serverURL(host string, port int) *url.URL {
	return &url.URL{
		Scheme: "postgres", User: url.User("postgres"), Host: fmt.Sprintf("%s:%d", host, port),
		Path: "/postgres", RawQuery: "sslmode=disable",
	}
}
