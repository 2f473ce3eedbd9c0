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
			c, err := v.openObject(object, first)
			if err != nil {
				return err
			}
			if first {
				v.queue.addContents(object, c)
			} else if c == nil {
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
	what protocol.Request, program protocol.Program, start *startEvent, handle func(protocol.Reply),
) (*termination, error) {
	unlock := v.attaching.lockFor(what.Request, program)
	defer unlock()
	if start != nil {
		v.out.print(start)
	}
	if v.loader == nil {
		loader, died, err := startLoader(v.settings)
		if died != nil || err != nil {
			return died, err
		}
		v.loader = loader
	}
	died, err := v.loader.call(what, v.settings.Limit, handle)
	if died != nil {
		v.loader, v.open = nil, false
	}
	return died, err
}

// openObject has the loader open an object. It returns nil if that failed, and prints why if this
// is the first try.
func (v *supervisor) openObject(object string, first bool) (*contents, error) {
	v.open = false
	var start *startEvent
	if first {
		start = &startEvent{"start", object, "", "open"}
	}
	result := &contents{}
	var failure *protocol.Failure
	died, err := v.call(v.settings.openRequest(object), protocol.Program{}, start, func(r protocol.Reply) {
		result.programs = append(result.programs, r.Programs...)
		result.set = append(result.set, r.Set...)
		result.mapSizes = append(result.mapSizes, r.MapSizes...)
		if r.Failure != nil {
			failure = r.Failure
		}
	})
	switch {
	case err != nil:
		return nil, err
	case died != nil:
		if first && (died.code != codeNoMemory || !v.queue.openLater(object)) {
			v.out.print(objectEvent{Event: "object", Object: object, Code: died.code, Reason: died.reason})
		}
		return nil, nil
	case failure == nil && len(result.programs) == 0:
		failure = &protocol.Failure{Step: protocol.StepOpen, Words: []string{"it has no program"}}
	}
	if failure != nil {
		if first && (!wantsMemory(failure) || !v.queue.openLater(object)) {
			v.out.print(objectEvent{Event: "object", Object: object, Failure: failure})
		}
		return nil, nil
	}
	v.open = true
	return result, nil
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
		c, err := v.openObject(object, false)
		if err != nil {
			return nil, err
		}
		if c == nil {
			event.Outcome, event.Code = broken, codeLoaderCrashed
			event.Reason = "the object could not be opened again"
			return event, nil
		}
	}
	start := &startEvent{"start", object, p.Name, "load"}
	result, died, err := v.try(object, p, start, protocol.Load, protocol.LogStats)
	switch {
	case err != nil:
		return nil, err
	case died != nil:
		event.copyTermination(died)
		return event, nil
	}
	event.copyResult(result)
	if result.Loaded && v.settings.Attach {
		if err := v.attach(event, p); err != nil {
			return nil, err
		}
	}
	if err := v.addLog(event, p, result); err != nil {
		return nil, err
	}
	return event, nil
}

// try has the loader load a program, or load and attach it. The result is nil if the loader died.
func (v *supervisor) try(
	object string, p protocol.Program, start *startEvent, how string, level protocol.LogLevel,
) (*protocol.Result, *termination, error) {
	var result *protocol.Result
	request := protocol.Request{Request: how, Program: p.Name, Log: level}
	died, err := v.call(request, p, start, func(r protocol.Reply) {
		if r.Result != nil {
			result = r.Result
		}
		if r.Map != nil && v.queue.isNewMap(object, r.Map.Name) {
			v.out.print(mapEvent{"map", object, r.Map.Name, r.Map.Type, r.Map.MemoryBytes})
		}
	})
	if died == nil && err == nil && result == nil {
		died = v.loader.discard("the loader's answer has no result")
		v.loader, v.open = nil, false
	}
	return result, died, err
}

func (e *programEvent) copyTermination(t *termination) {
	e.Outcome, e.Code, e.Reason, e.Seconds = t.outcome, t.code, t.reason, t.seconds
}

func (e *programEvent) copyResult(r *protocol.Result) {
	e.Outcome = failed
	if r.Loaded {
		e.Outcome = passed
	}
	e.Failure, e.Seconds, e.Note = r.Failure, r.Seconds, r.Note
	e.Instructions, e.TranslatedBytes, e.JitedBytes = r.Instructions, r.TranslatedBytes, r.JitedBytes
	e.MemoryBytes, e.Calls, e.StatisticsLog = r.MemoryBytes, r.Calls, statisticsOf(r.Log)
}

// attach has a program attached that loads, and adds to its result whether that was possible.
func (v *supervisor) attach(event *programEvent, p protocol.Program) error {
	start := &startEvent{"start", event.Object, p.Name, "attach"}
	result, died, err := v.try(event.Object, p, start, protocol.Attach, "")
	switch {
	case err != nil:
		return err
	case died != nil:
		seconds := event.Seconds
		event.copyTermination(died)
		event.Seconds = seconds
		return nil
	}
	event.Attached = result.Attached
	if result.Failure != nil {
		event.Outcome, event.Failure = failed, result.Failure
	}
	return nil
}

// addLog loads a program again if its result should have a log: that of a rejected program shows
// how the verifier came to reject it; that of another one is there only if the settings ask for it.
func (v *supervisor) addLog(event *programEvent, p protocol.Program, first *protocol.Result) error {
	rejected := !first.Loaded && first.Log != ""
	if event.Code != "" || !rejected && (!first.Loaded || !v.settings.FullLog) {
		return nil
	}
	if rejected && first.Failure != nil && first.Failure.Step != protocol.StepLoad {
		event.Log = compressLog(first.Log) // such as what the kernel says about the object's BTF
		return nil
	}
	level := protocol.LogPath
	if v.settings.FullLog {
		level = protocol.LogAll
	}
	shown := first
	if reason := exceedsMemory(event.StatisticsLog, level); reason != "" {
		event.LogLeftOut = reason
	} else if tooComplex.MatchString(first.Log) && !v.settings.FullLog {
		event.LogLeftOut = "the path to where the verifier gave up explains little: " +
			"--log-level full has it"
	} else {
		again, err := v.loadForLog(event, p, level)
		if err != nil {
			return err
		}
		if again != nil {
			shown = again
		}
	}
	if level == protocol.LogPath && event.LogLeftOut == "" &&
		!showsRegisters(shown.Log) && isShort(event.StatisticsLog) {
		again, err := v.loadForLog(event, p, protocol.LogAll)
		if err != nil {
			return err
		}
		if again != nil {
			shown = again
		}
	}
	if rejected || shown != first {
		event.Log, event.LineInfo = compressLog(shown.Log), shown.LineInfo
	}
	// The loader may find more in a longer log, such as the name of a missing type.
	if rejected && shown != first && sameFailure(event.Failure, shown.Failure) {
		event.Failure = shown.Failure
	}
	return nil
}

// loadForLog loads a program again for its log. It returns nil, and says why in the result, if
// there is none.
func (v *supervisor) loadForLog(
	event *programEvent, p protocol.Program, level protocol.LogLevel,
) (*protocol.Result, error) {
	if !v.open {
		return nil, nil
	}
	again, died, err := v.try(event.Object, p, nil, protocol.Load, level)
	switch {
	case err != nil:
		return nil, err
	case died != nil:
		event.LogLeftOut = "the loader died while it loaded the program again for its log: " + died.reason
		return nil, nil
	case again.Log == "":
		if again.Failure != nil {
			event.LogLeftOut = "the program did not load again for its log: " +
				strings.Join(again.Failure.Words, " ")
		}
		return nil, nil
	}
	return again, nil
}

func sameFailure(a, b *protocol.Failure) bool {
	return a != nil && b != nil && a.Step == b.Step && a.Errno == b.Errno
}
