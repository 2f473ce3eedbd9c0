// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bpfmatrix/bpfmatrix/support/internal/requirement"
)

// run loads all programs, some side by side, and prints what came of them.
func run(s *settings, out *printer) error {
	started := time.Now()
	release, err := requirement.KernelRelease()
	if err != nil {
		return err
	}
	out.print(kernelEvent{"kernel", release, machine(), map[string]bool{"btf": haveKernelBTF()}})
	q := newQueue(s)
	if err := work(s.Jobs, s, q, out); err != nil {
		return err
	}
	if q.anew() {
		if err := work(1, s, q, out); err != nil {
			return err
		}
	}
	if err := q.unused(); err != nil {
		return err
	}
	out.print(endEvent{"end", time.Since(started).Seconds()})
	return out.err
}

// work has so many jobs do what there is to do.
func work(count int, s *settings, q *queue, out *printer) error {
	var jobs sync.WaitGroup
	errs := make(chan error, count)
	for range count {
		jobs.Add(1)
		go func() {
			defer jobs.Done()
			j := &job{settings: s, queue: q, out: out}
			if err := j.run(); err != nil {
				errs <- err
				q.stop()
			}
		}()
	}
	jobs.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func machine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// A queue knows what is still to be done, and by whom.
type queue struct {
	lock     sync.Mutex
	changed  *sync.Cond
	settings *settings
	unopened []string
	opening  int
	waiting  []*chain
	// What there was no memory for, with the maps that other jobs hold.
	again         []*chain
	unopenedAgain []string
	alone         bool
	stopped       bool
	// Words of the command line that no object had a use for, and whether all objects were asked.
	set, mapSize, only map[string]bool
	unread             bool
	printedMaps        map[string]bool
}

// A chain is loaded in its order, by one job: a program, or the variants of one.
type chain struct {
	object   string
	programs []foundProgram
	variants bool
}

// So many programs of an object have to be left for another job to open it as well.
const worthOpening = 4

func newQueue(s *settings) *queue {
	q := &queue{
		settings: s, unopened: slices.Clone(s.Objects),
		set: map[string]bool{}, mapSize: map[string]bool{}, only: map[string]bool{},
		printedMaps: map[string]bool{},
	}
	q.changed = sync.NewCond(&q.lock)
	return q
}

// next returns what a job that has an object open does next: a chain, or an object to open, of which
// the bool says whether that is the first time; or neither, when all is done.
func (q *queue) next(open string) (*chain, string, bool) {
	q.lock.Lock()
	defer q.lock.Unlock()
	for !q.stopped {
		if c := q.take(open); c != nil {
			return c, "", false
		}
		if len(q.unopened) > 0 {
			object := q.unopened[0]
			q.unopened = q.unopened[1:]
			q.opening++
			return nil, object, true
		}
		if object := q.busiest(); object != "" {
			return nil, object, false
		}
		if q.opening == 0 {
			break
		}
		q.changed.Wait()
	}
	return nil, "", false
}

// later has a chain loaded again when nobody else needs memory; false where that is so already.
func (q *queue) later(c *chain) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.alone || q.settings.Jobs == 1 {
		return false
	}
	q.again = append(q.again, c)
	return true
}

// openLater has an object opened again when nobody else needs memory; false as in later.
func (q *queue) openLater(object string) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.alone || q.settings.Jobs == 1 {
		return false
	}
	q.unopenedAgain = append(q.unopenedAgain, object)
	return true
}

// anew begins with what is to be loaded again, by one job; false where there is nothing.
func (q *queue) anew() bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.waiting, q.again, q.alone = q.again, nil, true
	q.unopened, q.unopenedAgain = q.unopenedAgain, nil
	return len(q.waiting) > 0 || len(q.unopened) > 0
}

func (q *queue) take(object string) *chain {
	at := slices.IndexFunc(q.waiting, func(c *chain) bool { return c.object == object })
	if at < 0 {
		return nil
	}
	c := q.waiting[at]
	q.waiting = slices.Delete(q.waiting, at, at+1)
	return c
}

func (q *queue) busiest() string {
	counts := map[string]int{}
	best := ""
	for _, c := range q.waiting {
		counts[c.object]++
		if (counts[c.object] >= worthOpening || q.alone) && counts[c.object] > counts[best] {
			best = c.object
		}
	}
	return best
}

// opened notes what an object holds; nil where it can't be read.
func (q *queue) opened(object string, f *found) {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.opening--
	defer q.changed.Broadcast()
	if f == nil {
		q.unread = q.unread || !slices.Contains(q.unopenedAgain, object)
		return
	}
	for _, name := range f.Set {
		q.set[name] = true
	}
	for _, name := range f.MapSize {
		q.mapSize[name] = true
	}
	for _, program := range f.Programs {
		q.only[program.Name] = true
	}
	if f.Declared == "" {
		q.waiting = append(q.waiting, chains(object, f.Programs, q.settings)...)
	}
}

// chains returns what is to be loaded of an object.
func chains(object string, programs []foundProgram, s *settings) []*chain {
	var result []*chain
	taken := map[string]bool{}
	for _, program := range programs {
		if taken[program.Name] || len(s.Only) > 0 && !slices.Contains(s.Only, program.Name) {
			continue
		}
		c := &chain{object: object, programs: []foundProgram{program}}
		for _, group := range s.Variants {
			if !slices.Contains(group, program.Name) {
				continue
			}
			c.programs, c.variants = nil, true
			for _, name := range group {
				at := slices.IndexFunc(programs, func(p foundProgram) bool { return p.Name == name })
				if at >= 0 && !taken[name] {
					c.programs = append(c.programs, programs[at])
				}
			}
			break
		}
		for _, p := range c.programs {
			taken[p.Name] = true
		}
		result = append(result, c)
	}
	return result
}

// firstTime tells whether a map is to be printed: each job creates its own.
func (q *queue) firstTime(object, name string) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	key := object + "\x00" + name
	known := q.printedMaps[key]
	q.printedMaps[key] = true
	return !known
}

func (q *queue) stop() {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.stopped = true
	q.changed.Broadcast()
}

// unused says which word of the command line no object has a use for. Where an object could not be
// read, it may be that one.
func (q *queue) unused() error {
	if q.unread {
		return nil
	}
	for _, set := range q.settings.Set {
		if !q.set[set.Name] {
			return usageError(fmt.Sprintf("--set %s=%s: no object has a global variable of this name",
				set.Name, set.Value))
		}
	}
	for _, size := range q.settings.MapSize {
		if !q.mapSize[size.Name] {
			return usageError(fmt.Sprintf("--map-size %s=%s: no object has a map of this name",
				size.Name, size.Value))
		}
	}
	for option, names := range map[string][]string{
		"only": q.settings.Only, "optional": q.settings.Optional,
		"variants": slices.Concat(q.settings.Variants...),
	} {
		for _, name := range names {
			if !q.only[name] {
				return usageError(fmt.Sprintf("--%s %s: no object has a program of this name", option, name))
			}
		}
	}
	return nil
}

// A job has one child at a time, and one object open in it.
type job struct {
	settings *settings
	queue    *queue
	out      *printer
	child    *child
	// The object whose programs it loads, and whether the child has it open.
	object string
	open   bool
}

func (j *job) run() error {
	defer func() {
		if j.child != nil {
			j.child.end()
		}
	}()
	for {
		c, object, first := j.queue.next(j.object)
		switch {
		case c != nil:
			if err := j.load(c); err != nil {
				return err
			}
		case object != "":
			j.object = object
			f, err := j.openObject(object, first)
			if err != nil {
				return err
			}
			if first {
				if f != nil {
					j.skipDeclared(object, f)
				}
				j.queue.opened(object, f)
			} else if f == nil {
				return nil // it could be read before, so there is no memory for it twice
			}
		default:
			return nil
		}
	}
}

func (j *job) skipDeclared(object string, f *found) {
	if f.Declared == "" {
		return
	}
	for _, c := range chains(object, f.Programs, j.settings) {
		for _, p := range c.programs {
			event := describe(object, p)
			event.Outcome, event.Code, event.Reason = skipped, codeDeclared, f.Declared
			j.out.print(event)
		}
	}
}

func describe(object string, p foundProgram) *programEvent {
	return &programEvent{
		Event: "program", Object: object, Program: p.Name,
		Section: p.Section, Type: p.Type, AttachTo: p.AttachTo,
	}
}

// openObject has the child read an object. nil means that it could not; if this is the first time,
// that was printed.
func (j *job) openObject(object string, first bool) (*found, error) {
	j.open = false
	if err := j.needChild(); err != nil {
		return nil, err
	}
	if first {
		j.out.print(startEvent{"start", object, "", "open"})
	}
	var result *found
	answer, err := j.child.ask(order{Object: object}, j.settings.Limit, func(m message) {
		if m.Found != nil {
			result = m.Found
		}
		if m.Event != nil && first {
			j.out.print(m.Event)
		}
	})
	if err != nil {
		return nil, err
	}
	if answer.died {
		j.child = nil
		if first && (answer.code != codeNoMemory || !j.queue.openLater(object)) {
			j.out.print(objectEvent{"object", object, answer.code, answer.reason})
		}
		return nil, nil
	}
	j.open = result != nil
	return result, nil
}

func (j *job) needChild() error {
	if j.child != nil {
		return nil
	}
	var err error
	j.child, err = startChild(j.settings)
	return err
}

// load has the child load a chain's programs, and prints their results.
func (j *job) load(c *chain) error {
	var results []*result
	loaded := ""
	for _, p := range c.programs {
		if loaded != "" {
			event := describe(c.object, p)
			event.Outcome, event.Code = skipped, codeOptional
			event.Reason = loaded + " was loaded in its place"
			results = append(results, &result{program: p, event: event})
			continue
		}
		r, err := j.loadProgram(c.object, p)
		if err != nil {
			return err
		}
		if r.event.Outcome == passed {
			loaded = p.Name
		}
		results = append(results, r)
	}
	for _, r := range results {
		if r.event.Code == codeNoMemory && j.queue.later(c) {
			return nil
		}
	}
	for _, r := range results {
		if r.event.Outcome == failed && (c.variants && loaded != "" || j.optional(r.program)) {
			why := "it is optional"
			if c.variants && loaded != "" {
				why = loaded + " was loaded in its place"
			}
			r.event.Reason = fmt.Sprintf("%s; %s: %s", why, r.event.Code, r.event.Reason)
			r.event.Outcome, r.event.Code = skipped, codeOptional
		}
		j.out.print(r.event)
	}
	return nil
}

func (j *job) optional(p foundProgram) bool {
	return p.Optional || slices.Contains(j.settings.Optional, p.Name)
}

type result struct {
	program foundProgram
	event   *programEvent
}

func (j *job) loadProgram(object string, p foundProgram) (*result, error) {
	if !j.open {
		f, err := j.openObject(object, false)
		if err != nil {
			return nil, err
		}
		if f == nil {
			event := describe(object, p)
			event.Outcome, event.Code = broken, codeLoaderCrashed
			event.Reason = "the object could not be read again"
			return &result{p, event}, nil
		}
	}
	var event, until *programEvent
	answer, err := j.child.ask(order{Object: object, Program: p.Name}, j.settings.Limit, func(m message) {
		switch {
		case m.Until != nil:
			until = readProgram(m.Until)
		case m.Event != nil:
			kind, name := eventKind(m.Event)
			if kind == "program" {
				event = readProgram(m.Event)
			} else if kind != "map" || j.queue.firstTime(object, name) {
				j.out.print(m.Event)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if answer.died {
		j.child, j.open = nil, false
		event = until
		if event == nil {
			event = describe(object, p)
			event.Outcome, event.Code, event.Reason = answer.outcome, answer.code, answer.reason
			event.Seconds = answer.seconds
		} else {
			event.LogLeftOut = strings.TrimSpace(event.LogLeftOut + ": " + answer.reason)
		}
	}
	if event == nil {
		return nil, fmt.Errorf("%s of %s: the loader said nothing of it", p.Name, object)
	}
	return &result{p, event}, nil
}

func eventKind(raw json.RawMessage) (kind, name string) {
	var event struct{ Event, Name string }
	_ = json.Unmarshal(raw, &event)
	return event.Event, event.Name
}

func readProgram(raw json.RawMessage) *programEvent {
	event := &programEvent{}
	if json.Unmarshal(raw, event) != nil {
		return nil
	}
	return event
}
