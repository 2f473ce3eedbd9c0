// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
)

// workerArgument is the first argument of a worker process.
const workerArgument = "--worker"

// A worker reads lines of JSON from its standard input: first the settings, then requests. It
// answers each request on descriptor 3 with any number of replies; Done is set in the last one. If
// a worker dies, its standard error says why.
type request struct {
	Object  string
	Program string // the program to load; if empty, open the object
}

type reply struct {
	// An event to be printed.
	Event json.RawMessage `json:",omitempty"`
	// The event to print for this program if the worker dies before it sends another one.
	Fallback json.RawMessage `json:",omitempty"`
	Contents *contents       `json:",omitempty"`
	// A usage error.
	Usage string `json:",omitempty"`
	Done  bool   `json:",omitempty"`
}

// contents are what an object holds.
type contents struct {
	Programs []programInfo
	Unmet    string   // why this kernel is too old, as the object declares; empty if it is not
	Set      []string // the names of --set that are variables of the object
	MapSize  []string // the names of --map-size that are maps of the object
}

type programInfo struct {
	Name, Section, Type, AttachTo string
	Optional                      bool
}

type worker struct {
	settings *settings
	replies  *json.Encoder
	types    *btf.Cache
	object   *object
	// Other objects, opened because they hold programs that freplace programs of this one extend.
	targetObjects []*object
	attachLock    *os.File
}

// serveRequests is what a worker process does until its standard input ends.
func serveRequests() error {
	requests := json.NewDecoder(bufio.NewReader(os.Stdin))
	w := &worker{settings: &settings{}, types: btf.NewCache()}
	w.replies = json.NewEncoder(os.NewFile(3, "replies"))
	if err := requests.Decode(w.settings); err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	// Kernels before 5.11 charge maps and programs to the limit of locked memory.
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	var err error
	// Each worker opens the file by itself: a flock(2) lock belongs to an open file, not to a
	// process.
	if w.attachLock, err = os.Open("/proc/self/exe"); err != nil {
		return err
	}
	for {
		var next request
		if err := requests.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := w.handle(next); err != nil {
			return err
		}
		if err := w.replies.Encode(reply{Done: true}); err != nil {
			return err
		}
	}
}

func (w *worker) handle(next request) error {
	if next.Program == "" {
		return w.open(next.Object)
	}
	if w.object == nil || w.object.path != next.Object {
		return fmt.Errorf("asked to load %s of %s, which is not open", next.Program, next.Object)
	}
	return w.load(next.Program)
}

func (w *worker) open(path string) error {
	if w.object != nil {
		for _, o := range append(w.targetObjects, w.object) {
			o.close()
		}
		w.object, w.targetObjects = nil, nil
	}
	opened, err := openObject(path, w.settings)
	var usage usageError
	var bad *badObject
	switch {
	case errors.As(err, &usage):
		return w.replies.Encode(reply{Usage: usage.Error()})
	case errors.As(err, &bad):
		return w.sendEvent(objectEvent{"object", path, bad.code, bad.reason})
	case err != nil:
		return err
	}
	w.object = opened
	return w.replies.Encode(reply{Contents: opened.contents()})
}

func (w *worker) sendEvent(event any) error {
	raw, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return w.replies.Encode(reply{Event: raw})
}

// sendFallback sends the event that is printed if this worker dies before it sends another one.
func (w *worker) sendFallback(event any) error {
	raw, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return w.replies.Encode(reply{Fallback: raw})
}
