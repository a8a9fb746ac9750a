package dbtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// sharedServer starts one PostgreSQL for the whole test process, or names the one that DEPESCHE_TEST_POSTGRES points to.
var sharedServer = sync.OnceValues(func() (*server, error) {
	if given := os.Getenv("DEPESCHE_TEST_POSTGRES"); given != "" {
		address, err := url.Parse(given)
		return &server{address: address}, err
	}
	return startServer()
})

// server is a running PostgreSQL. It ends when its standard input does, which must stay referred to: a file nobody refers to
// is closed by the collector.
type server struct {
	address *url.URL
	input   io.Closer
}

// script runs the server until its standard input ends, which it does however the test process dies.
const script = `
"$1/postgres" -D "$2/data" -c listen_addresses=127.0.0.1 -c port="$3" -c unix_socket_directories="$2" \
	-c fsync=off -c max_connections=200 >"$2/log" 2>&1 </dev/null &
pid=$!
n=0
until "$1/pg_isready" -q -h 127.0.0.1 -p "$3"; do
	n=$((n+1)); if [ $n -gt 300 ] || ! kill -0 $pid 2>/dev/null; then cat "$2/log"; echo failed; exit 1; fi
	sleep 0.1
done
echo ready
read -r _
kill -QUIT $pid; wait $pid
rm -rf "$2"
`

func startServer() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "depesche-postgres-")
	if err != nil {
		return nil, err
	}
	attributes, err := unprivileged(folder)
	if err != nil {
		return nil, err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(folder, "data"),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
	initdb.SysProcAttr, initdb.Dir = attributes, folder
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	process := exec.Command("sh", "-c", script, "sh", bin, folder, strconv.Itoa(port))
	process.SysProcAttr, process.Dir = attributes, folder
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	answer := make([]byte, 4096)
	n, _ := out.Read(answer)
	if !bytes.HasPrefix(answer[:n], []byte("ready")) {
		return nil, fmt.Errorf("start PostgreSQL: %s", answer[:n])
	}
	return &server{serverURL("127.0.0.1", port), input}, nil
}

// binaries finds PostgreSQL's server programs: Debian keeps them out of PATH.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("PostgreSQL is not installed (Debian: apt-get install postgresql)")
	}
	return filepath.Dir(path), nil
}

// unprivileged gives the folder to a user who may run PostgreSQL, which refuses root.
func unprivileged(folder string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("find a user to run PostgreSQL as: %w", err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	if err := os.Chown(folder, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
