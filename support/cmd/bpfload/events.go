// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"sync"
)

// The outcomes are those of src/bpfmatrix/results/outcome.py, and the codes those of
// src/bpfmatrix/results/verification.py, which explain them.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
	timeout = "timeout"
	broken  = "error"
)

const (
	codeVerifierRejected       = "verifier-rejected"
	codeTooComplex             = "too-complex"
	codeUnsupportedProgramType = "unsupported-program-type"
	codeUnsupportedMapType     = "unsupported-map-type"
	codeUnsupportedHelper      = "unsupported-helper"
	codeUnsupportedKfunc       = "unsupported-kfunc"
	codeUnknownSection         = "unknown-section"
	codeMissingBTF             = "missing-btf"
	codeBadBTF                 = "bad-btf"
	codeRelocationFailed       = "relocation-failed"
	codeAttachTargetMissing    = "attach-target-missing"
	codeAttachFailed           = "attach-failed"
	codeMapCreateFailed        = "map-create-failed"
	codeNoMemory               = "no-memory"
	codeTimeout                = "timeout"
	codeLoaderCrashed          = "loader-crashed"
	codeBadObject              = "bad-object"
	codeDeclared               = "declared"
	codeOptional               = "optional"
	codeLoadFailed             = "load-failed"
)

type kernelEvent struct {
	Event    string          `json:"event"` // kernel
	Release  string          `json:"release"`
	Arch     string          `json:"arch"`
	Features map[string]bool `json:"features"`
}

type startEvent struct {
	Event   string `json:"event"` // start
	Object  string `json:"object"`
	Program string `json:"program"`
	Step    string `json:"step"`
}

type objectEvent struct {
	Event  string `json:"event"` // object
	Object string `json:"object"`
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

type mapEvent struct {
	Event       string  `json:"event"` // map
	Object      string  `json:"object"`
	Name        string  `json:"name"`
	Type        string  `json:"type"`
	MemoryBytes *uint64 `json:"memory_bytes,omitempty"`
}

type endEvent struct {
	Event   string  `json:"event"` // end
	Seconds float64 `json:"seconds"`
}

type programEvent struct {
	Event        string      `json:"event"` // program
	Object       string      `json:"object"`
	Program      string      `json:"program"`
	Outcome      string      `json:"outcome"`
	Section      string      `json:"section,omitempty"`
	Type         string      `json:"type,omitempty"`
	AttachTo     string      `json:"attach_to,omitempty"`
	Attached     *bool       `json:"attached,omitempty"`
	Code         string      `json:"code,omitempty"`
	Reason       string      `json:"reason,omitempty"`
	Errno        string      `json:"errno,omitempty"`
	VerifierTail string      `json:"verifier_tail,omitempty"`
	Source       string      `json:"source,omitempty"`
	Seconds      float64     `json:"seconds,omitempty"`
	Statistics   *statistics `json:"statistics,omitempty"`
	Log          string      `json:"log,omitempty"`
	LogLeftOut   string      `json:"log_left_out,omitempty"`
	LineInfo     []lineInfo  `json:"line_info,omitempty"`
}

type statistics struct {
	VerifierUS              *uint64 `json:"verifier_us,omitempty"`
	InstructionsProcessed   *uint64 `json:"instructions_processed,omitempty"`
	InstructionsLimit       *uint64 `json:"instructions_limit,omitempty"`
	PeakStates              *uint64 `json:"peak_states,omitempty"`
	TotalStates             *uint64 `json:"total_states,omitempty"`
	MaxStatesPerInstruction *uint64 `json:"max_states_per_instruction,omitempty"`
	StackDepth              *uint64 `json:"stack_depth,omitempty"`
	ProgramInstructions     *uint64 `json:"program_instructions,omitempty"`
	TranslatedBytes         *uint64 `json:"translated_bytes,omitempty"`
	JitedBytes              *uint64 `json:"jited_bytes,omitempty"`
	MemoryBytes             *uint64 `json:"memory_bytes,omitempty"`
}

type lineInfo struct {
	Insn int    `json:"insn"`
	File string `json:"file"`
	Line uint32 `json:"line"`
	Text string `json:"text"`
}

// A printer writes each event as one line, unbuffered: if the kernel dies, the last events that
// were printed tell why.
type printer struct {
	lock sync.Mutex
	out  io.Writer
	err  error
}

func (p *printer) print(event any) {
	line, err := json.Marshal(event)
	p.lock.Lock()
	defer p.lock.Unlock()
	if err == nil && p.err == nil {
		_, err = p.out.Write(append(line, '\n'))
	}
	if p.err == nil {
		p.err = err
	}
}
