package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/klauspost/compress/flate"
)

// bare is a websocket connection without a library: the least that sends a
// message. It checks nothing.
type bare struct {
	conn net.Conn
	in   *bufio.Reader
	buf  []byte // of one frame, behind room for its header
	op   byte   // of the next frame
	kept int    // bytes at the end of a message that are held back
	flat *flate.Writer
}

const (
	bareFrame  = 128 << 10 // as the client's
	bareHeader = 14
	bareMask   = 0x5ca1ab1e
)

// dialBare makes a connection to a drain; with deflate messages are compressed.
func dialBare(host, path string, deflate bool) (*bare, error) {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	extensions := ""
	if deflate {
		extensions = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
	}
	fmt.Fprintf(conn, "GET %s/websocket HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWlsbHJhY2UgYmVuY2gxMg==\r\n%s\r\n", path, host, extensions)
	b := &bare{conn: conn, in: bufio.NewReader(conn), buf: make([]byte, bareHeader, bareHeader+bareFrame)}
	resp, err := http.ReadResponse(b.in, nil)
	if err == nil && (resp.StatusCode != http.StatusSwitchingProtocols || deflate != strings.Contains(resp.Header.Get("Sec-WebSocket-Extensions"), "deflate")) {
		err = fmt.Errorf("the drain answered %s, extensions %q", resp.Status, resp.Header.Get("Sec-WebSocket-Extensions"))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	if deflate {
		b.kept = 4
		if b.flat, err = flate.NewWriter(b, flate.BestSpeed); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// The message around a dataclip.
const (
	bareStart = `["1","2","t","step:complete",{"step_id":"s","output_dataclip":"`
	bareEnd   = `"}]`
)

// sendEscaped sends a message with the document as a string in it, escaped in
// pieces, and waits for its acknowledgement.
func (b *bare) sendEscaped(doc []byte) error {
	return b.message(func(out io.Writer) error {
		piece := make([]byte, 64<<10)
		for len(doc) > 0 {
			n, read := escapeInto(piece, doc)
			if _, err := out.Write(piece[:n]); err != nil {
				return err
			}
			doc = doc[read:]
		}
		return nil
	})
}

// escapeInto escapes as much of src as surely fits into dst.
func escapeInto(dst, src []byte) (n, read int) {
	src = src[:min(len(src), len(dst)/2)] // most escapes are of two bytes; see below for others
	for i, c := range src {
		if n > len(dst)-6 {
			return n, i
		}
		switch e := bareEscapes[c]; e {
		case 0:
			dst[n] = c
			n++
		case 'u':
			n += copy(dst[n:], fmt.Sprintf(`\u%04x`, c))
		default:
			dst[n], dst[n+1] = '\\', e
			n += 2
		}
	}
	return n, len(src)
}

// bareEscapes has the letter of each escape.
var bareEscapes = func() (t [256]byte) {
	for c := range t[:' '] {
		t[c] = 'u'
	}
	t['"'], t['\\'], t['\b'], t['\f'], t['\n'], t['\r'], t['\t'] = '"', '\\', 'b', 'f', 'n', 'r', 't'
	return t
}()

// message sends one message and waits for its acknowledgement.
func (b *bare) message(body func(io.Writer) error) error {
	var out io.Writer = b
	b.op = 1
	if b.flat != nil {
		b.op |= 0x40
		b.flat.Reset(b)
		out = b.flat
	}
	_, err := io.WriteString(out, bareStart)
	err = errors.Join(err, body(out))
	if err == nil {
		_, err = io.WriteString(out, bareEnd)
	}
	if b.flat != nil && err == nil {
		err = b.flat.Flush()
	}
	if err != nil {
		return err
	}
	b.buf = b.buf[:len(b.buf)-b.kept] // a deflated message goes without the end of its last block
	if err := b.frame(true); err != nil {
		return err
	}
	return b.acknowledged()
}

// Write implements io.Writer: it gathers frames.
func (b *bare) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if len(b.buf) == cap(b.buf) {
			if err := b.frame(false); err != nil {
				return total - len(p), err
			}
		}
		n := copy(b.buf[len(b.buf):cap(b.buf)], p)
		b.buf, p = b.buf[:len(b.buf)+n], p[n:]
	}
	return total, nil
}

// frame masks and writes what was gathered, but for the bytes held back.
func (b *bare) frame(last bool) error {
	end := len(b.buf)
	if !last {
		end -= b.kept
	}
	var held [4]byte
	kept := copy(held[:], b.buf[end:])
	payload := b.buf[bareHeader:end]
	for len(payload) >= 8 {
		binary.LittleEndian.PutUint64(payload, binary.LittleEndian.Uint64(payload)^(bareMask<<32|bareMask))
		payload = payload[8:]
	}
	for i := range payload {
		payload[i] ^= byte(uint32(bareMask) >> (8 * (i & 3)))
	}
	b.buf[0], b.buf[1] = b.op, 0x80|127
	if last {
		b.buf[0] |= 0x80
	}
	binary.BigEndian.PutUint64(b.buf[2:], uint64(end-bareHeader))
	binary.LittleEndian.PutUint32(b.buf[10:], bareMask)
	_, err := b.conn.Write(b.buf[:end])
	b.op = 0
	b.buf = append(b.buf[:bareHeader], held[:kept]...)
	return err
}

// acknowledged reads one short message.
func (b *bare) acknowledged() error {
	var head [2]byte
	if _, err := io.ReadFull(b.in, head[:]); err != nil {
		return err
	}
	n := int(head[1])
	if n == 126 {
		var long [2]byte
		if _, err := io.ReadFull(b.in, long[:]); err != nil {
			return err
		}
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	_, err := b.in.Discard(n)
	return err
}
