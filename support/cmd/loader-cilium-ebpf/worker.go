// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"unicode/utf8"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// A worker answers requests.
type worker struct {
	replies *bufio.Writer
	objects []string // where the targets of freplace programs are
	types   *btf.Cache
	object  *object
	// Other objects, opened because they hold programs that freplace programs of this one extend.
	targetObjects []*object
	isTarget      bool // whether `object` is one of them now
}

// serve answers the requests that it reads until they end.
func serve(from io.Reader, to io.Writer) error {
	requests := json.NewDecoder(bufio.NewReader(from))
	w := &worker{replies: bufio.NewWriter(to), types: btf.NewCache()}
	for {
		var next protocol.Request
		if err := requests.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		answer, log, err := w.handle(next)
		if err != nil {
			return err
		}
		answer.Done = true
		if err := w.send(answer, log); err != nil {
			return err
		}
	}
}

// send sends a reply. The log is the lines of the log of its result, which can be large: it is not
// copied.
func (w *worker) send(answer *protocol.Reply, log []string) error {
	raw, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	const start = `{"result":{`
	if rest, found := bytes.CutPrefix(raw, []byte(start)); found && len(log) > 0 {
		_, _ = w.replies.WriteString(start + `"log":"`)
		for i, line := range log {
			if i > 0 {
				_, _ = w.replies.WriteString(`\n`)
			}
			if err := writeEscaped(w.replies, line); err != nil {
				return err
			}
		}
		_, _ = w.replies.WriteString(`",`)
		raw = rest
	}
	_, _ = w.replies.Write(raw)
	_ = w.replies.WriteByte('\n')
	return w.replies.Flush() // which has the first error of all
}

// writeEscaped writes a text as it is between the quotes of a JSON string.
func writeEscaped(to *bufio.Writer, text string) error {
	const most = 64 << 10 // bytes at a time
	for len(text) > 0 {
		end := min(len(text), most)
		for end < len(text) && end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		raw, err := json.Marshal(text[:end])
		if err != nil {
			return err
		}
		_, _ = to.Write(raw[1 : len(raw)-1])
		text = text[end:]
	}
	return nil
}

// handle returns the last reply to a request and the lines of its log, and sends those before it.
func (w *worker) handle(r protocol.Request) (*protocol.Reply, []string, error) {
	switch r.Request {
	case protocol.Start:
		w.objects = r.Objects
		// Kernels before 5.11 charge maps and programs to the limit of locked memory. If it can't be
		// raised, the library says so when something does not load.
		_ = rlimit.RemoveMemlock()
		return &protocol.Reply{Loader: "cilium-ebpf", Version: libraryVersion()}, nil, nil
	case protocol.Open:
		return w.open(r), nil, nil
	case protocol.Load, protocol.Attach:
		if w.object == nil || w.object.spec.Programs[r.Program] == nil {
			return nil, nil, fmt.Errorf("asked to %s %q, which is not in an open object", r.Request, r.Program)
		}
		result, log, err := w.load(r)
		return &protocol.Reply{Result: result}, log, err
	}
	return nil, nil, fmt.Errorf("unknown request %q", r.Request)
}

func (w *worker) open(r protocol.Request) *protocol.Reply {
	if w.object != nil {
		for _, o := range append(w.targetObjects, w.object) {
			o.close()
		}
		w.object, w.targetObjects = nil, nil
	}
	opened, err := openObject(r.Object)
	if err != nil {
		return &protocol.Reply{Failure: openFailure(err)}
	}
	answer := &protocol.Reply{Programs: opened.programs()}
	if answer.Set, err = opened.setVariables(r.Set); err != nil {
		return &protocol.Reply{Usage: err.Error()}
	}
	answer.MapSizes = opened.setMapSizes(r.MapSizes)
	w.object = opened
	return answer
}

// libraryVersion returns the version of cilium/ebpf that this program was built with.
func libraryVersion() string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, module := range info.Deps {
			if module.Path == "github.com/cilium/ebpf" {
				return module.Version
			}
		}
	}
	return ""
}
