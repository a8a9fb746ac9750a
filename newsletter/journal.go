package newsletter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"depesche/newsletter/smtp"
)

// journal keeps, beside the database, what became of each delivery whose doubt is written: not begun, on the wire, or
// answered, and how. It is memory shared with a file, so a note costs no system call, and what was noted survives the death of
// the process, however it dies: the kernel has it. After a kill only deliveries that were on the wire stay doubtful.
//
// A power cut it does not survive. It knows the boot it was written in and is not believed in another; then every delivery of
// the open windows stays doubtful, which the database knows for certain.
type journal struct {
	file  *os.File
	path  string
	bytes []byte
	free  []*slot // the recorder's alone
}

// slot is one delivery's place in the journal. A note's state is written last.
type slot struct {
	state      atomic.Uint32
	code       uint16
	length     uint16 // of text
	digest     int64
	variant    int64
	subscriber int64
	attempts   int64
	phase      [8]byte
	enhanced   [12]byte
	text       [196]byte
}

// The states of a slot.
const (
	vacant   uint32 = iota
	doubted         // its doubt is written, or about to be; nothing of it has left
	launched        // it may have been accepted
	answered
)

const (
	slotBytes    = int(unsafe.Sizeof(slot{}))
	journalHead  = 4096
	journalMagic = "depesche replies 1\n"
)

// createJournal makes the journal of a dispatcher: base names the file, which gets the fence as its ending. The process holds
// a lock on it as long as it lives.
func createJournal(base string, fence int64, slots int) (*journal, error) {
	path := fmt.Sprintf("%s-%d", base, fence)
	file, err := os.OpenFile(path+unfinished, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the journal of replies: %w", err)
	}
	j := &journal{file: file, path: path + unfinished}
	err = j.prepare(fence, slots)
	if err == nil { // nobody finds it by its name before it is locked
		err = os.Rename(j.path, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the journal of replies %s: %w", path, err), j.remove())
	}
	j.path = path
	return j, nil
}

// unfinished ends the name of a journal that is being made.
const unfinished = ".new"

func (j *journal) prepare(fence int64, slots int) error {
	if err := unix.Flock(int(j.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	head := append([]byte(journalMagic), boot[:]...)
	head = binary.BigEndian.AppendUint64(head, uint64(fence))
	size := journalHead + slots*slotBytes
	whole := make([]byte, size) // written, not left out: a full disk is told of now, not by a signal when a page is touched
	copy(whole, head)
	if _, err := j.file.Write(whole); err != nil {
		return err
	}
	if err := j.share(size); err != nil {
		return err
	}
	for i := range slots {
		j.free = append(j.free, j.slot(i))
	}
	return nil
}

func (j *journal) share(size int) (err error) {
	j.bytes, err = unix.Mmap(int(j.file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

func (j *journal) slot(i int) *slot {
	return (*slot)(unsafe.Pointer(&j.bytes[journalHead+i*slotBytes]))
}

func (j *journal) slots() int { return (len(j.bytes) - journalHead) / slotBytes }

// take gives a vacant slot to a delivery whose doubt is about to be written. There must be one: see recorder.room.
func (j *journal) take(d *delivery) *slot {
	s := j.free[len(j.free)-1]
	j.free = j.free[:len(j.free)-1]
	s.digest, s.variant, s.subscriber, s.attempts = d.digest, d.variant, d.subscriber, d.attempts
	s.state.Store(doubted)
	return s
}

// release makes a slot vacant again: what it says is in the database.
func (j *journal) release(s *slot) {
	s.state.Store(vacant)
	j.free = append(j.free, s)
}

// launch notes that the server may have accepted the message from now on.
func (s *slot) launch() { s.state.Store(launched) }

// answer notes a reply. What the database keeps of a server's words beyond this length is lost by a kill.
func (s *slot) answer(r smtp.Reply) {
	text := r.Text
	if r.Code == 0 && r.Err != nil {
		text = r.Err.Error()
	}
	s.code = uint16(r.Code)
	s.length = uint16(copy(s.text[:], text))
	clear(s.phase[copy(s.phase[:], r.Phase):])
	clear(s.enhanced[copy(s.enhanced[:], r.Enhanced):])
	s.state.Store(answered)
}

// reply is what answer noted.
func (s *slot) reply() smtp.Reply {
	word := func(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
	r := smtp.Reply{
		Phase: smtp.Phase(word(s.phase[:])), Code: int(s.code), Enhanced: word(s.enhanced[:]), Text: string(s.text[:s.length]),
	}
	if r.Code == 0 {
		r.Err = errors.New(r.Text)
	}
	return r
}

// remove gives up the journal: all it says is in the database.
func (j *journal) remove() error {
	return errors.Join(os.Remove(j.path), j.close())
}

func (j *journal) close() error {
	var err error
	if j.bytes != nil {
		err = unix.Munmap(j.bytes)
		j.bytes, j.free = nil, nil
	}
	return errors.Join(err, j.file.Close())
}

// bequest is the journal of a dispatcher that is dead.
type bequest struct {
	*journal
	fence   int64
	trusted bool // it was written since this machine was started
}

// bequests opens the journals under base whose owners are dead. The lock on each is held until it is closed.
func bequests(base string) (list []bequest, err error) {
	paths, err := filepath.Glob(base + "-*")
	if err != nil {
		return nil, fmt.Errorf("find journals of replies: %w", err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, unfinished) {
			continue
		}
		b, dead, err := openBequest(path)
		if err != nil {
			return list, fmt.Errorf("read the journal of replies %s: %w", path, err)
		}
		if dead {
			list = append(list, b)
		}
	}
	return list, nil
}

func openBequest(path string) (b bequest, dead bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return b, false, nil // another process has dealt with it
	}
	if err != nil {
		return b, false, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return b, false, errors.Join(ignoring(err, unix.EWOULDBLOCK), file.Close())
	}
	b.journal = &journal{file: file, path: path}
	info, err := file.Stat()
	if err != nil {
		return b, false, errors.Join(err, b.close())
	}
	size := int(info.Size())
	if size < journalHead || (size-journalHead)%slotBytes != 0 {
		return b, true, nil // killed while it was made: nothing had been noted
	}
	if err := b.share(size); err != nil {
		return b, false, errors.Join(err, b.close())
	}
	boot, err := bootID()
	if err != nil {
		return b, false, errors.Join(err, b.close())
	}
	head, found := bytes.CutPrefix(b.bytes, []byte(journalMagic))
	if found {
		b.trusted = bytes.Equal(head[:len(boot)], boot[:])
		b.fence = int64(binary.BigEndian.Uint64(head[len(boot):]))
	}
	return b, true, nil
}

// notes are the slots that say something, of a journal that can be believed.
func (b bequest) notes() []*slot {
	var list []*slot
	if !b.trusted {
		return nil
	}
	for i := range b.slots() {
		if s := b.slot(i); s.state.Load() != vacant {
			list = append(list, s)
		}
	}
	return list
}

// bootID names the time since this machine was started. Where the system has no such name, no two are the same.
func bootID() (id [36]byte, err error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, os.ErrNotExist) {
		copy(id[:], fmt.Sprintf("process %d", os.Getpid()))
		return id, nil
	}
	copy(id[:], text)
	return id, err
}

func ignoring(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}
