// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"sync"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// An attachLock keeps loaders from getting in each other's way: one program is attached at a time,
// and while one is attached that can make system calls fail, nothing is loaded.
type attachLock struct {
	attached sync.Mutex
	loading  sync.RWMutex
}

// lockFor locks for a request, and returns what unlocks again.
func (l *attachLock) lockFor(request string, program protocol.Program) (unlock func()) {
	if request != protocol.Attach {
		l.loading.RLock()
		return l.loading.RUnlock
	}
	l.attached.Lock()
	if makesCallsFail(program) {
		l.loading.Lock()
		return func() { l.loading.Unlock(); l.attached.Unlock() }
	}
	l.loading.RLock()
	return func() { l.loading.RUnlock(); l.attached.Unlock() }
}

// makesCallsFail tells whether a program, while it is attached, decides on system calls of other
// processes.
func makesCallsFail(program protocol.Program) bool {
	section := strings.TrimPrefix(program.Section, "?")
	return program.Type == "lsm" || program.Type == "tracing" && strings.HasPrefix(section, "fmod_ret")
}
