package main

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

func TestQuick(t *testing.T) {
	dir := os.Getenv("QUICK")
	if dir == "" {
		t.Skip()
	}
	n, _ := strconv.Atoi(os.Getenv("QUICK_N"))
	p := newPress(t, "/tmp/depesche", os.Getenv("QUICK_DB"), n)
	p.compose()
	out, err := exec.Command("sh", "-c", "rm -rf "+dir+"; cp -r "+p.folder+" "+dir).CombinedOutput()
	t.Log(string(out), err)
}
