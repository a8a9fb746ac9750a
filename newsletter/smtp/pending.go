package smtp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// lookout tells, without waiting, whether something has arrived on a connection or it has ended. Where the kernel cannot be
// asked nothing has.
type lookout struct {
	socket syscall.RawConn // nil: the kernel cannot be asked
	looked [1]unix.PollFd
	found  bool
}

func newLookout(conn net.Conn) *lookout {
	l := &lookout{}
	if socket, ok := conn.(syscall.Conn); ok {
		l.socket, _ = socket.SyscallConn() // nil where there is an error
	}
	return l
}

func (l *lookout) pending() bool {
	if l.socket == nil {
		return false
	}
	l.found = false
	err := l.socket.Control(l.look)
	return l.found && err == nil
}

func (l *lookout) look(fd uintptr) {
	l.looked[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, err := unix.Poll(l.looked[:], 0)
	l.found = n > 0 && err == nil
}
