// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// A supervisor has one loader at a time do what the queue gives out, starts another one if it dies,
// and prints the results.
type supervisor struct {
	settings  *settings
	queue     *queue
	out       *printer
	attaching *attachLock
	loader    *loaderProcess
	// The object whose programs are loaded, and whether the loader has it open.
	object string
	open   bool
}

func (v *supervisor) run() error {
	defer func() {
		if v.loader != nil {
			v.loader.kill()
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
			c, _, err := v.openObject(object, first)
			if err != nil {
				return err
			}
			if first {
				v.queue.addContents(object, c)
			} else if c == nil && !v.queue.isRetrying() {
				return nil // another loader could open it, so there is no memory for it twice
			}
		default:
			return nil
		}
	}
}

func newProgramEvent(object string, p protocol.Program) *programEvent {
	return &programEvent{
		Event: "program", Object: object, Program: p.Name,
		Section: p.Section, Type: p.Type, AttachTo: p.AttachTo,
	}
}

// call has the loader answer a request, and starts one if there is none. Before that, it prints the
// start event, if it is given. It returns a termination if the loader died of the request. The error
// is one of the run.
func (v *supervisor) call(
	what protocol.Request, program protocol.Program, start *startEvent, handle func(*reply),
) (*termination, error) {
	unlock := v.attaching.lockFor(what.Request, program)
	defer unlock()
	if start != nil {
		v.out.print(start)
	}
	if v.loader == nil {
		loader, died, err := startLoader(v.settings)
		if err != nil { // for want of memory, or of processes
			died = &termination{broken, codeLoaderCrashed, err.Error(), 0}
		}
		if died != nil {
			return died, nil
		}
		v.loader = loader
	}
	limit := v.settings.Limit
	if what.Request == protocol.Open {
		limit = v.settings.openLimit()
	}
	died, err := v.loader.call(what, limit, handle)
	if died != nil {
		v.loader, v.open = nil, false
	}
	return died, err
}

// openObject has the loader open an object. If that fails, the contents are nil; the event says why,
// and is printed if this is the first try.
func (v *supervisor) openObject(object string, first bool) (*contents, *objectEvent, error) {
	v.open = false
	var start *startEvent
	if first {
		start = &startEvent{"start", object, "", "open"}
	}
	result := &contents{}
	why := &objectEvent{Event: "object", Object: object}
	died, err := v.call(v.settings.openRequest(object), protocol.Program{}, start, func(r *reply) {
		result.programs = append(result.programs, r.Programs...)
		result.set = append(result.set, r.Set...)
		result.mapSizes = append(result.mapSizes, r.MapSizes...)
		if r.Failure != nil {
			why.Failure = r.Failure
		}
	})
	switch {
	case err != nil:
		return nil, nil, err
	case died != nil:
		why.Failure = nil
		why.outcome, why.Code, why.Reason = died.outcome, died.code, died.reason
	case why.Failure == nil && len(result.programs) == 0:
		why.Failure = &protocol.Failure{Step: protocol.StepOpen, Words: []string{"it has no program"}}
	case why.Failure == nil:
		v.open = true
		return result, nil, nil
	}
	if first && !((why.Code == codeNoMemory || wantsMemory(why.Failure)) && v.queue.openLater(object)) {
		v.out.print(why)
	}
	return nil, why, nil
}

// wantsMemory tells whether something failed because the kernel had no memory at that time.
func wantsMemory(failure *protocol.Failure) bool {
	return failure != nil && failure.Errno == "ENOMEM"
}

// load loads the programs of an item, and prints their results. Of variants, it stops at the first
// one that loads. An item that failed for want of memory may be put aside instead.
func (v *supervisor) load(item *workItem) error {
	var results []programResult
	loaded := ""
	for _, p := range item.programs {
		if loaded != "" {
			event := newProgramEvent(item.object, p)
			event.Outcome, event.Excused = skipped, loaded+" was loaded in its place"
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
		if (r.event.Code == codeNoMemory || wantsMemory(r.event.Failure)) && v.queue.retryLater(item) {
			return nil
		}
	}
	for _, r := range results {
		replaced := item.variants && loaded != ""
		if r.event.Outcome == failed && (replaced || v.optional(r.program)) {
			r.event.Outcome, r.event.Excused = skipped, "it is optional"
			if replaced {
				r.event.Excused = loaded + " was loaded in its place"
			}
		}
		v.out.print(r.event)
	}
	return nil
}

func (v *supervisor) optional(p protocol.Program) bool {
	return p.Optional || slices.Contains(v.settings.Optional, p.Name)
}

type programResult struct {
	program protocol.Program
	event   *programEvent
}

// loadProgram loads a program, attaches it and has its log written, as the settings say, and
// returns its result.
func (v *supervisor) loadProgram(object string, p protocol.Program) (*programEvent, error) {
	event := newProgramEvent(object, p)
	if !v.open {
		_, why, err := v.openObject(object, false)
		if err != nil {
			return nil, err
		}
		if why != nil {
			event.Outcome, event.Failure, event.Code, event.Reason = failed, why.Failure, why.Code, why.Reason
			if why.Code != "" {
				event.Outcome = why.outcome
			}
			return event, nil
		}
	}
	start := &startEvent{"start", object, p.Name, "load"}
	first, died, err := v.try(object, p, start, protocol.Load, protocol.LogStats)
	switch {
	case err != nil:
		return nil, err
	case died != nil:
		event.copyTermination(died)
		return event, nil
	}
	event.copyAnswer(first)
	if first.result.Loaded && v.settings.Attach {
		if err := v.attach(event, p); err != nil {
			return nil, err
		}
	}
	if err := v.addLog(event, p, first); err != nil {
		return nil, err
	}
	return event, nil
}

// An answer is a loader's answer to a request to load or attach a program.
type answer struct {
	result *protocol.Result
	log    *verifierLog
}

// try has the loader load a program, or load and attach it. The answer is nil if the loader died.
func (v *supervisor) try(
	object string, p protocol.Program, start *startEvent, how string, level protocol.LogLevel,
) (*answer, *termination, error) {
	var result *answer
	request := protocol.Request{Request: how, Program: p.Name, Log: level}
	died, err := v.call(request, p, start, func(r *reply) {
		if r.Result != nil {
			result = &answer{r.Result, r.log}
		}
		if r.Map != nil && v.queue.isNewMap(object, r.Map.Name) {
			v.out.print(mapEvent{"map", object, r.Map.Name, r.Map.Type, r.Map.MemoryBytes})
		}
	})
	if died == nil && err == nil && result == nil {
		died = v.loader.discard("the loader's answer has no result")
		v.loader, v.open = nil, false
	}
	if died != nil {
		result = nil
	}
	return result, died, err
}

func (e *programEvent) copyTermination(t *termination) {
	e.Outcome, e.Code, e.Reason, e.Seconds = t.outcome, t.code, t.reason, t.seconds
}

func (e *programEvent) copyAnswer(a *answer) {
	r := a.result
	e.Outcome = failed
	if r.Loaded {
		e.Outcome = passed
	}
	e.Failure, e.Seconds, e.Note = r.Failure, r.Seconds, r.Note
	e.Instructions, e.TranslatedBytes, e.JitedBytes = r.Instructions, r.TranslatedBytes, r.JitedBytes
	e.MemoryBytes, e.Calls, e.StatisticsLog = r.MemoryBytes, r.Calls, a.log.statistics()
}

// attach has a program attached that loads, and adds to its result whether that was possible.
func (v *supervisor) attach(event *programEvent, p protocol.Program) error {
	start := &startEvent{"start", event.Object, p.Name, "attach"}
	attached, died, err := v.try(event.Object, p, start, protocol.Attach, "")
	switch {
	case err != nil:
		return err
	case died != nil:
		seconds := event.Seconds
		event.copyTermination(died)
		event.Seconds = seconds
		return nil
	}
	event.Attached = attached.result.Attached
	if attached.result.Failure != nil {
		event.Outcome, event.Failure = failed, attached.result.Failure
	}
	return nil
}

// addLog loads a program again if its result should have a log: that of a rejected program shows
// how the verifier came to reject it; that of another one is there only if the settings ask for it.
func (v *supervisor) addLog(event *programEvent, p protocol.Program, first *answer) error {
	rejected := !first.result.Loaded && !first.log.isEmpty()
	if event.Code != "" || !rejected && (!first.result.Loaded || !v.settings.FullLog) {
		return nil
	}
	failure := first.result.Failure
	if rejected && failure != nil && failure.Step != protocol.StepLoad {
		event.Log = first.log.encoded() // such as what the kernel says about the object's BTF
		return nil
	}
	level := protocol.LogPath
	if v.settings.FullLog {
		level = protocol.LogAll
	}
	shown := first
	var err error
	if reason := exceedsMemory(event.StatisticsLog, level); reason != "" {
		event.LogLeftOut = reason
	} else if rejected && first.log.isTooComplex() && !v.settings.FullLog {
		event.LogLeftOut = "the path to where the verifier gave up explains little: " +
			"--log-level full has it"
	} else if shown, err = v.loadForLog(event, p, level, shown); err != nil {
		return err
	}
	if level == protocol.LogPath && event.LogLeftOut == "" &&
		!shown.log.showsRegisters() && isShort(event.StatisticsLog) {
		if shown, err = v.loadForLog(event, p, protocol.LogAll, shown); err != nil {
			return err
		}
	}
	if rejected || shown != first {
		event.Log, event.LineInfo = shown.log.encoded(), shown.result.LineInfo
	}
	// The loader may find more in a longer log, such as the name of a missing type.
	if rejected && sameFailure(failure, shown.result.Failure) {
		event.Failure = shown.result.Failure
	}
	return nil
}

// loadForLog loads a program again for its log. It returns the answer that was given, and says why
// in the result, if there is no log.
func (v *supervisor) loadForLog(
	event *programEvent, p protocol.Program, level protocol.LogLevel, before *answer,
) (*answer, error) {
	again, died, err := v.try(event.Object, p, nil, protocol.Load, level)
	switch {
	case err != nil:
		return nil, err
	case died != nil:
		event.LogLeftOut = "the loader died while it loaded the program again for its log: " + died.reason
		return before, nil
	case again.log.isEmpty():
		if failure := again.result.Failure; failure != nil {
			event.LogLeftOut = "the program did not load again for its log: " +
				strings.Join(failure.Words, " ")
		}
		return before, nil
	}
	return again, nil
}

func sameFailure(a, b *protocol.Failure) bool {
	return a != nil && b != nil && a.Step == b.Step && a.Errno == b.Errno
}
