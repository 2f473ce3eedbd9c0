// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// A reply is what a loader answers. The verifier's log is apart, and not in Result.Log: it can have
// hundreds of megabytes, and is compressed while it is read.
type reply struct {
	protocol.Reply
	log *verifierLog // nil if there is none
}

// A replyReader reads replies.
type replyReader struct{ from *bufio.Reader }

func newReplyReader(from io.Reader) *replyReader {
	return &replyReader{bufio.NewReaderSize(from, 64<<10)}
}

// The key of the log, and where it is: in the object `result` of the reply.
const (
	logKey   = `"log"`
	logDepth = 2
)

// next returns the next reply, or io.EOF.
func (r *replyReader) next() (*reply, error) {
	result := &reply{}
	var rest []byte // the reply without the log's text
	depth := 0
	key := []byte(nil) // the last string, if nothing but a colon came after it
	for {
		char, err := r.from.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && len(bytes.TrimSpace(rest)) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if char == '"' && depth == logDepth && string(key) == logKey+":" {
			result.log = &verifierLog{}
			if err := r.readString(result.log); err != nil {
				return nil, err
			}
			rest, key = append(rest, `""`...), nil
			continue
		}
		rest = append(rest, char)
		switch char {
		case '"':
			start := len(rest) - 1
			if rest, err = r.copyString(rest); err != nil {
				return nil, err
			}
			key = rest[start:]
		case ':':
			key = append(bytes.Clone(key), char)
		case '{', '[':
			depth++
			key = nil
		case '}', ']':
			if depth--; depth <= 0 {
				return result, json.Unmarshal(rest, &result.Reply)
			}
			key = nil
		case '\n':
			if depth == 0 && len(bytes.TrimSpace(rest)) > 0 {
				return result, json.Unmarshal(rest, &result.Reply) // no object, and so an error
			}
		case ' ', '\t', '\r':
		default:
			key = nil
		}
	}
}

// copyString appends a string after its first quote, as it is written, up to its last quote.
func (r *replyReader) copyString(to []byte) ([]byte, error) {
	for {
		part, err := r.from.ReadSlice('"')
		to = append(to, part...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, noEOF(err)
		}
		if err == nil && backslashesBefore(to, len(to)-1)%2 == 0 {
			return to, nil
		}
	}
}

func backslashesBefore(data []byte, end int) int {
	count := 0
	for count < end && data[end-1-count] == '\\' {
		count++
	}
	return count
}

// readString writes the text of a string after its first quote to a log.
func (r *replyReader) readString(to *verifierLog) error {
	for {
		part, err := r.from.Peek(max(1, r.from.Buffered()))
		if err != nil {
			return noEOF(err)
		}
		plain := bytes.IndexAny(part, `"\`)
		if plain != 0 {
			if plain < 0 {
				plain = len(part)
			}
			to.write(part[:plain])
			_, _ = r.from.Discard(plain)
			continue
		}
		char, _ := r.from.ReadByte()
		if char == '"' {
			return nil
		}
		if err := r.readEscape(to); err != nil {
			return err
		}
	}
}

// escapes are the characters after a backslash, in JSON, and what they stand for.
var escapes = map[byte]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

func (r *replyReader) readEscape(to *verifierLog) error {
	char, err := r.from.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if char != 'u' {
		plain, known := escapes[char]
		if !known {
			return fmt.Errorf(`unknown escape \%c in a string`, char)
		}
		to.write([]byte{plain})
		return nil
	}
	code, err := r.readHex()
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(code) {
		second := rune(utf8.RuneError)
		if next, err := r.from.Peek(2); err == nil && string(next) == `\u` {
			_, _ = r.from.Discard(2)
			if second, err = r.readHex(); err != nil {
				return err
			}
		}
		code = utf16.DecodeRune(code, second)
	}
	to.write(utf8.AppendRune(nil, code))
	return nil
}

func (r *replyReader) readHex() (rune, error) {
	var digits [4]byte
	if _, err := io.ReadFull(r.from, digits[:]); err != nil {
		return 0, noEOF(err)
	}
	code, err := strconv.ParseUint(string(digits[:]), 16, 32)
	return rune(code), err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
