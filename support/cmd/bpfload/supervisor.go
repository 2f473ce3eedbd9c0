// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A supervisor has one worker at a time do what the queue gives out, starts another one if it dies,
// and prints the results.
type supervisor struct {
	settings *settings
	queue    *queue
	out      *printer
	worker   *workerProcess
	// The object whose programs are loaded, and whether the worker has it open.
	object string
	open   bool
}

func (v *supervisor) run() error {
	defer func() {
		if v.worker != nil {
			v.worker.kill()
		}
	}()
	for {
		item, object, first := v.queue.next(v.object)
		switch {
		case item != nil:
			if err := v.load(item); err != nil {
				return err
			}
		case object != "":
			v.object = object
			c, err := v.openObject(object, first)
			if err != nil {
				return err
			}
			if first {
				if c != nil {
					v.skipUnmet(object, c)
				}
				v.queue.addContents(object, c)
			} else if c == nil {
				return nil // another worker could open it, so there is no memory for it twice
			}
		default:
			return nil
		}
	}
}

// skipUnmet prints the programs of an object as skipped if the object needs a newer kernel.
func (v *supervisor) skipUnmet(object string, c *contents) {
	if c.Unmet == "" {
		return
	}
	for _, item := range workItems(object, c.Programs, v.settings) {
		for _, p := range item.programs {
			event := newProgramEvent(object, p)
			event.Outcome, event.Code, event.Reason = skipped, codeDeclared, c.Unmet
			v.out.print(event)
		}
	}
}

func newProgramEvent(object string, p programInfo) *programEvent {
	return &programEvent{
		Event: "program", Object: object, Program: p.Name,
		Section: p.Section, Type: p.Type, AttachTo: p.AttachTo,
	}
}

// openObject has the worker open an object. It returns nil if that failed, and prints why if this
// is the first try.
func (v *supervisor) openObject(object string, first bool) (*contents, error) {
	v.open = false
	if err := v.needWorker(); err != nil {
		return nil, err
	}
	if first {
		v.out.print(startEvent{"start", object, "", "open"})
	}
	var result *contents
	died, err := v.worker.call(request{Object: object}, v.settings.Limit, func(r reply) {
		if r.Contents != nil {
			result = r.Contents
		}
		if r.Event != nil && first {
			v.out.print(r.Event)
		}
	})
	if err != nil {
		return nil, err
	}
	if died != nil {
		v.worker = nil
		if first && (died.code != codeNoMemory || !v.queue.openLater(object)) {
			v.out.print(objectEvent{"object", object, died.code, died.reason})
		}
		return nil, nil
	}
	v.open = result != nil
	return result, nil
}

func (v *supervisor) needWorker() error {
	if v.worker != nil {
		return nil
	}
	var err error
	v.worker, err = startWorker(v.settings)
	return err
}

// load loads the programs of an item, and prints their results. Of variants, it stops at the first
// one that loads. An item that failed for want of memory may be put aside instead.
func (v *supervisor) load(item *workItem) error {
	var results []programResult
	loaded := ""
	for _, p := range item.programs {
		if loaded != "" {
			event := newProgramEvent(item.object, p)
			event.Outcome, event.Code = skipped, codeOptional
			event.Reason = loaded + " was loaded in its place"
			results = append(results, programResult{p, event})
			continue
		}
		event, err := v.loadProgram(item.object, p)
		if err != nil {
			return err
		}
		if event.Outcome == passed {
			loaded = p.Name
		}
		results = append(results, programResult{p, event})
	}
	for _, r := range results {
		if r.event.Code == codeNoMemory && v.queue.retryLater(item) {
			return nil
		}
	}
	for _, r := range results {
		replaced := item.variants && loaded != ""
		if r.event.Outcome == failed && (replaced || v.optional(r.program)) {
			why := "it is optional"
			if replaced {
				why = loaded + " was loaded in its place"
			}
			r.event.Reason = fmt.Sprintf("%s; %s: %s", why, r.event.Code, r.event.Reason)
			r.event.Outcome, r.event.Code = skipped, codeOptional
		}
		v.out.print(r.event)
	}
	return nil
}

func (v *supervisor) optional(p programInfo) bool {
	return p.Optional || slices.Contains(v.settings.Optional, p.Name)
}

type programResult struct {
	program programInfo
	event   *programEvent
}

func (v *supervisor) loadProgram(object string, p programInfo) (*programEvent, error) {
	if !v.open {
		c, err := v.openObject(object, false)
		if err != nil {
			return nil, err
		}
		if c == nil {
			event := newProgramEvent(object, p)
			event.Outcome, event.Code = broken, codeLoaderCrashed
			event.Reason = "the object could not be opened again"
			return event, nil
		}
	}
	var event, fallback *programEvent
	what := request{Object: object, Program: p.Name}
	died, err := v.worker.call(what, v.settings.Limit, func(r reply) {
		switch {
		case r.Fallback != nil:
			fallback = decodeProgramEvent(r.Fallback)
		case r.Event != nil:
			kind, name := eventKind(r.Event)
			if kind == "program" {
				event = decodeProgramEvent(r.Event)
			} else if kind != "map" || v.queue.isNewMap(object, name) {
				v.out.print(r.Event)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if died != nil {
		v.worker, v.open = nil, false
		event = fallback
		if event == nil {
			event = newProgramEvent(object, p)
			event.Outcome, event.Code, event.Reason = died.outcome, died.code, died.reason
			event.Seconds = died.seconds
		} else {
			event.LogLeftOut = strings.TrimSpace(event.LogLeftOut + ": " + died.reason)
		}
	}
	if event == nil {
		return nil, fmt.Errorf("%s of %s: the worker sent no result", p.Name, object)
	}
	return event, nil
}

func eventKind(raw json.RawMessage) (kind, name string) {
	var event struct{ Event, Name string }
	_ = json.Unmarshal(raw, &event)
	return event.Event, event.Name
}

func decodeProgramEvent(raw json.RawMessage) *programEvent {
	event := &programEvent{}
	if json.Unmarshal(raw, event) != nil {
		return nil
	}
	return event
}
