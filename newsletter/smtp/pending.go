package smtp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// pending tells, without waiting, whether something has arrived on a connection or it has ended. Where the kernel cannot be
// asked nothing has.
func pending(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	arrived := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		arrived = err != unix.EAGAIN && err != unix.EINTR
	})
	return arrived && err == nil
}
