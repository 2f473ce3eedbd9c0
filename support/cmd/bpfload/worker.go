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

// workerWord is the first argument of a child.
const workerWord = "--worker"

// A child reads orders as lines of JSON on its standard input, the first of which are the settings,
// and answers each on descriptor 3 with any number of messages, the last of which is done. What it
// prints on standard error is why it died.
type order struct {
	Object  string
	Program string // none: read the object
}

type message struct {
	// An event to be printed.
	Event json.RawMessage `json:",omitempty"`
	// What to print if the child dies before it says more of this program.
	Until json.RawMessage `json:",omitempty"`
	Found *found          `json:",omitempty"`
	// A usage error.
	Usage string `json:",omitempty"`
	Done  bool   `json:",omitempty"`
}

// found is what an object holds.
type found struct {
	Programs []foundProgram
	Declared string // why this kernel is too old for it, as the object says
	Set      []string
	MapSize  []string
}

type foundProgram struct {
	Name, Section, Type, AttachTo string
	Optional                      bool
}

type worker struct {
	settings *settings
	replies  *json.Encoder
	types    *btf.Cache
	object   *object
	others   []*object // of programs that were replaced
	locked   *os.File
}

func obeyOrders() error {
	orders := json.NewDecoder(bufio.NewReader(os.Stdin))
	w := &worker{settings: &settings{}, types: btf.NewCache()}
	w.replies = json.NewEncoder(os.NewFile(3, "replies"))
	if err := orders.Decode(w.settings); err != nil {
		return fmt.Errorf("no settings: %w", err)
	}
	// Kernels before 5.11 charge maps and programs to the limit of locked memory.
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	var err error
	// Each child opens it anew: locks are those of open files.
	if w.locked, err = os.Open("/proc/self/exe"); err != nil {
		return err
	}
	for {
		var next order
		if err := orders.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := w.obey(next); err != nil {
			return err
		}
		if err := w.replies.Encode(message{Done: true}); err != nil {
			return err
		}
	}
}

func (w *worker) obey(next order) error {
	if next.Program == "" {
		return w.open(next.Object)
	}
	if w.object == nil || w.object.path != next.Object {
		return fmt.Errorf("told to load %s of %s, which is not open", next.Program, next.Object)
	}
	return w.load(next.Program)
}

func (w *worker) open(path string) error {
	if w.object != nil {
		for _, o := range append(w.others, w.object) {
			o.close()
		}
		w.object, w.others = nil, nil
	}
	opened, err := openObject(path, w.settings)
	var usage usageError
	var bad *badObject
	switch {
	case errors.As(err, &usage):
		return w.replies.Encode(message{Usage: usage.Error()})
	case errors.As(err, &bad):
		return w.event(objectEvent{"object", path, bad.code, bad.reason})
	case err != nil:
		return err
	}
	w.object = opened
	return w.replies.Encode(message{Found: opened.found()})
}

func (w *worker) event(event any) error {
	raw, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return w.replies.Encode(message{Event: raw})
}

// until has an event printed if this child dies before it says more.
func (w *worker) until(event any) error {
	raw, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return w.replies.Encode(message{Until: raw})
}
