// Package demo is what depesche shows without a newspaper and without a mail server: the sources of a made-up local paper,
// and a mailbox that takes every mail and shows it on a page.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // mails from elsewhere may be ISO-8859-1
	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
)

const (
	keptMessages    = 1000
	maxMessageBytes = 10 << 20
)

// Message is one mail as it arrived.
type Message struct {
	ID       int       // 1, 2, 3 … in the order of arrival
	From, To string    // of the envelope: who gets the bounce, and whose mail it is
	Sender   string    // the header From as a reader sees it
	Subject  string    // decoded
	HTML     string    // of the first text/html part, decoded; "" where there is none
	Text     string    // of the first text/plain part
	Header   []Field   // in the order of the mail, decoded
	Raw      []byte    // the bytes between DATA and the dot
	Received time.Time // when the dot came
}

// Field is a line of the header.
type Field struct{ Name, Value string }

// Mailbox takes mail for everybody by SMTP on the loopback and keeps the last thousand in memory.
type Mailbox struct {
	server   *smtp.Server
	listener net.Listener
	now      func() time.Time
	served   chan struct{} // closed when the server has stopped

	mu       sync.Mutex
	messages []Message
	last     int           // ID of the newest message
	changed  chan struct{} // closed and replaced with every change
}

// NewMailbox listens on address, such as 127.0.0.1:0, until Close. It refuses addresses other machines could reach.
func NewMailbox(address string, now func() time.Time) (*Mailbox, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for mail: %w", err)
	}
	if local, ok := listener.Addr().(*net.TCPAddr); !ok || !local.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("listen for mail on %s: expected an address of the loopback", address), listener.Close())
	}
	m := &Mailbox{listener: listener, now: now, served: make(chan struct{}), changed: make(chan struct{})}
	open := func(*smtp.Conn) (smtp.Session, error) { return &session{mailbox: m}, nil }
	m.server = smtp.NewServer(smtp.BackendFunc(open))
	m.server.Domain = "mailbox.test"
	m.server.MaxMessageBytes = maxMessageBytes
	m.server.MaxRecipients = 100
	m.server.EnableSMTPUTF8 = true
	m.server.ReadTimeout, m.server.WriteTimeout = 5*time.Minute, time.Minute
	m.server.ErrorLog = log.New(io.Discard, "", 0) // a client that hangs up is no news here
	go func() {
		defer close(m.served)
		_ = m.server.Serve(listener)
	}()
	return m, nil
}

// Addr is host:port of the SMTP server.
func (m *Mailbox) Addr() string { return m.listener.Addr().String() }

// Close stops the server; the mails stay readable.
func (m *Mailbox) Close() error {
	err := m.server.Close()
	if errors.Is(err, smtp.ErrServerClosed) {
		err = nil
	}
	<-m.served
	return err
}

// Messages are the mails kept, oldest first.
func (m *Mailbox) Messages() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.messages)
}

// Wait returns as soon as done says so of the mails kept, or when ctx ends.
func (m *Mailbox) Wait(ctx context.Context, done func([]Message) bool) error {
	for {
		m.mu.Lock()
		messages, changed := slices.Clone(m.messages), m.changed
		m.mu.Unlock()
		if done(messages) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for mail: %w", ctx.Err())
		}
	}
}

// message finds one mail by its ID.
func (m *Mailbox) message(id int) (Message, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := slices.BinarySearchFunc(m.messages, id, func(message Message, id int) int { return message.ID - id })
	if !found {
		return Message{}, false
	}
	return m.messages[i], true
}

func (m *Mailbox) add(message Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	message.ID, message.Received = m.last, m.now()
	m.messages = append(m.messages, message)
	m.messages = m.messages[max(0, len(m.messages)-keptMessages):]
	m.announce()
}

func (m *Mailbox) empty() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = nil
	m.announce()
}

// announce wakes whoever waits; the caller holds the lock.
func (m *Mailbox) announce() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// session is one SMTP connection; a mail to several people is kept once for each.
type session struct {
	mailbox *Mailbox
	from    string
	to      []string
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	message := read(raw)
	for _, to := range s.to {
		message.From, message.To = s.from, to
		s.mailbox.add(message)
	}
	return nil
}

func (s *session) Reset() { s.from, s.to = "", nil }

func (s *session) Logout() error { return nil }

// read takes a mail apart. What cannot be read is left empty: the source shows it.
func read(raw []byte) Message {
	m := Message{Raw: raw}
	reader, err := mail.CreateReader(bytes.NewReader(raw))
	if err != nil && !message.IsUnknownCharset(err) {
		return m
	}
	defer func() { _ = reader.Close() }()
	m.Subject, _ = reader.Header.Subject()
	for fields := reader.Header.Fields(); fields.Next(); {
		value, err := fields.Text()
		if err != nil {
			value = fields.Value()
		}
		m.Header = append(m.Header, Field{fields.Key(), strings.TrimSpace(value)})
		if strings.EqualFold(fields.Key(), "From") {
			m.Sender = value
		}
	}
	for {
		part, err := reader.NextPart()
		if err != nil && !message.IsUnknownCharset(err) || part == nil {
			return m
		}
		m.keep(part)
	}
}

// keep takes the first part of each kind; attachments stay in the source.
func (m *Message) keep(part *mail.Part) {
	inline, ok := part.Header.(*mail.InlineHeader)
	if !ok {
		return
	}
	kind, _, _ := inline.ContentType()
	body, _ := io.ReadAll(part.Body) // what can be decoded of a broken part is better than nothing
	switch {
	case kind == "text/html" && m.HTML == "":
		m.HTML = string(body)
	case kind == "text/plain" && m.Text == "":
		m.Text = string(body)
	}
}
