// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"sync"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// The outcomes are those of src/bpfmatrix/results/outcome.py.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
	timeout = "timeout"
	broken  = "error"
)

// The reason codes that are not for the host to find, as they are about the loader's process.
// docs/reason-codes.md explains them.
const (
	codeNoMemory      = "no-memory"
	codeTimeout       = "timeout"
	codeLoaderCrashed = "loader-crashed"
)

type kernelEvent struct {
	Event         string          `json:"event"` // kernel
	Release       string          `json:"release"`
	Arch          string          `json:"arch"`
	Loader        string          `json:"loader"`
	LoaderVersion string          `json:"loader_version"`
	Features      map[string]bool `json:"features"`
}

type startEvent struct {
	Event   string `json:"event"` // start
	Object  string `json:"object"`
	Program string `json:"program"`
	Step    string `json:"step"`
}

// An objectEvent says why an object could not be opened: the loader's failure, or a code.
type objectEvent struct {
	Event   string            `json:"event"` // object
	Object  string            `json:"object"`
	Failure *protocol.Failure `json:"failure,omitempty"`
	Code    string            `json:"code,omitempty"`
	Reason  string            `json:"reason,omitempty"`
	outcome string            // of its programs, if there is a code
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

// A programEvent is the result of a program. Why it failed is in Failure, or in Code and Reason.
type programEvent struct {
	Event    string `json:"event"` // program
	Object   string `json:"object"`
	Program  string `json:"program"`
	Section  string `json:"section,omitempty"`
	Type     string `json:"type,omitempty"`
	AttachTo string `json:"attach_to,omitempty"`
	Outcome  string `json:"outcome"`
	// Why it is skipped although it failed, or was not even tried.
	Excused  string            `json:"excused,omitempty"`
	Failure  *protocol.Failure `json:"failure,omitempty"`
	Code     string            `json:"code,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	Attached *bool             `json:"attached,omitempty"`
	Seconds  float64           `json:"seconds,omitempty"`

	Instructions    *uint64 `json:"instructions,omitempty"`
	TranslatedBytes *uint64 `json:"translated_bytes,omitempty"`
	JitedBytes      *uint64 `json:"jited_bytes,omitempty"`
	MemoryBytes     *uint64 `json:"memory_bytes,omitempty"`
	Calls           [][]int `json:"calls,omitempty"`
	Note            string  `json:"note,omitempty"`

	StatisticsLog string          `json:"statistics_log,omitempty"`
	Log           string          `json:"log,omitempty"` // compressed with gzip, in base64
	LogLeftOut    string          `json:"log_left_out,omitempty"`
	LineInfo      []protocol.Line `json:"line_info,omitempty"`
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
