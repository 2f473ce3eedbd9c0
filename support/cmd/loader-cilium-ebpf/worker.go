// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// A worker answers requests.
type worker struct {
	replies *json.Encoder
	objects []string // all objects of the job
	types   *btf.Cache
	object  *object
	// Other objects, opened because they hold programs that freplace programs of this one extend.
	targetObjects []*object
}

// serve answers the requests that it reads until they end.
func serve(from io.Reader, to io.Writer) error {
	requests := json.NewDecoder(bufio.NewReader(from))
	w := &worker{replies: json.NewEncoder(to), types: btf.NewCache()}
	for {
		var next protocol.Request
		if err := requests.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		answer, err := w.handle(next)
		if err != nil {
			return err
		}
		answer.Done = true
		if err := w.replies.Encode(answer); err != nil {
			return err
		}
	}
}

// handle returns the last reply to a request, and sends those before it.
func (w *worker) handle(r protocol.Request) (*protocol.Reply, error) {
	switch r.Request {
	case protocol.Start:
		w.objects = r.Objects
		// Kernels before 5.11 charge maps and programs to the limit of locked memory.
		if err := rlimit.RemoveMemlock(); err != nil {
			return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
		}
		return &protocol.Reply{Loader: "cilium-ebpf", Version: libraryVersion()}, nil
	case protocol.Open:
		return w.open(r)
	case protocol.Load, protocol.Attach:
		if w.object == nil || w.object.spec.Programs[r.Program] == nil {
			return nil, fmt.Errorf("asked to %s %q, which is not in an open object", r.Request, r.Program)
		}
		result, err := w.load(r)
		return &protocol.Reply{Result: result}, err
	}
	return nil, fmt.Errorf("unknown request %q", r.Request)
}

func (w *worker) open(r protocol.Request) (*protocol.Reply, error) {
	if w.object != nil {
		for _, o := range append(w.targetObjects, w.object) {
			o.close()
		}
		w.object, w.targetObjects = nil, nil
	}
	opened, err := openObject(r.Object)
	if err != nil {
		return &protocol.Reply{Failure: openFailure(err)}, nil
	}
	answer := &protocol.Reply{Programs: opened.programs()}
	if answer.Set, err = opened.setVariables(r.Set); err != nil {
		return &protocol.Reply{Usage: err.Error()}, nil
	}
	answer.MapSizes = opened.setMapSizes(r.MapSizes)
	w.object = opened
	return answer, nil
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
