// SPDX-License-Identifier: Apache-2.0

//go:build !integration

package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/bpfmatrix/bpfmatrix/support/internal/pytrace"
)

func TestEqualStacksAreCountedAndPrintedOnce(t *testing.T) {
	named := &pytrace.Code{
		Identity: pytrace.Identity{FirstLine: 12, Arguments: 1, Flags: 3, Hash: 0x9ae16a3b},
		File:     "/a.py", Name: "f", Table: []byte{0x80, 0},
	}
	unnamed := &pytrace.Code{Identity: pytrace.Identity{FirstLine: 1}}
	inner := &pytrace.Part{Frames: []pytrace.Frame{{Code: named, Offset: 2}, {Code: unnamed, Offset: -2}}}
	outer := &pytrace.Part{Frames: []pytrace.Frame{{Code: named, Offset: 4}}}
	counter := newStackCounter()
	process := &pytrace.Process{}
	counter.process = func(uint32) *pytrace.Process { return process }
	for _, sample := range []pytrace.Sample{
		{Parts: []*pytrace.Part{inner, outer}, PID: 5, TID: 6, Comm: "py"},
		{Parts: []*pytrace.Part{outer}, PID: 5, TID: 6, Comm: "py", Truncated: pytrace.TooDeep},
		{PID: 5, TID: 6}, // of a thread that runs no Python code
		{Parts: []*pytrace.Part{inner, outer}, PID: 5, TID: 6, Comm: "py", Time: 7},
		{Parts: []*pytrace.Part{inner, outer}, PID: 5, TID: 9, Comm: "py"},
	} {
		counter.add(&sample)
	}
	process.Name = "a.py" // a name is final at the end
	var printed bytes.Buffer
	printer := newStackPrinter(&printer{lines: json.NewEncoder(&printed)})
	printer.print(counter.counted)
	other := &pytrace.Code{Identity: pytrace.Identity{FirstLine: 7}, Name: "g", Table: []byte{0x81}}
	printer.printLost([]pytrace.LostSamples{
		{PID: 5, Innermost: pytrace.Frame{Code: named, Offset: 4}, Count: 3},
		{PID: 5, Innermost: pytrace.Frame{Code: other}, Count: 2}, // at the first instruction
		{PID: 5, Count: 9},
	}, counter.process)
	want := `{"code":{"number":1,"identity":"12:1:0:3:000000009ae16a3b","file":"/a.py","function":"f","table":"8000"}}
{"code":{"number":2,"identity":"1:0:0:0:0000000000000000"}}
{"part":{"number":1,"frames":[[1,2],[2,-2]]}}
{"part":{"number":2,"frames":[[1,4]]}}
{"stack":{"parts":[1,2],"count":2,"pid":5,"tid":6,"comm":"py","process":"a.py"}}
{"stack":{"parts":[2],"count":1,"pid":5,"tid":6,"comm":"py","process":"a.py","truncated":"too deep"}}
{"stack":{"parts":[1,2],"count":1,"pid":5,"tid":9,"comm":"py","process":"a.py"}}
{"lost":{"pid":5,"process":"a.py","code":1,"offset":4,"count":3}}
{"code":{"number":3,"identity":"7:0:0:0:0000000000000000","function":"g","table":"81"}}
{"lost":{"pid":5,"process":"a.py","code":3,"offset":0,"count":2}}
`
	if got := printed.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
