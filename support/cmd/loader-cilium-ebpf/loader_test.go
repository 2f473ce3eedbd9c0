// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

func integer(size uint32, encoding btf.IntEncoding, name string) *btf.Int {
	return &btf.Int{Name: name, Size: size, Encoding: encoding}
}

func TestEncode(t *testing.T) {
	char := integer(1, btf.Signed, "char")
	short := integer(2, btf.Unsigned, "unsigned short")
	color := &btf.Enum{Name: "color", Size: 4, Values: []btf.EnumValue{{Name: "RED", Value: 7}}}
	constant := &btf.Volatile{Type: &btf.Const{Type: integer(4, btf.Unsigned, "unsigned int")}}
	for _, test := range []struct {
		kind btf.Type
		size int
		text string
		want string
	}{
		{nil, 4, "-1", "\xff\xff\xff\xff"},
		{nil, 2, "0x1234", "\x34\x12"},
		{constant, 4, "42", "\x2a\x00\x00\x00"},
		{integer(8, btf.Signed, "long"), 8, "-2", "\xfe\xff\xff\xff\xff\xff\xff\xff"},
		{integer(1, btf.Bool, "_Bool"), 1, "true", "\x01"},
		{integer(1, btf.Bool, "_Bool"), 1, "0", "\x00"},
		{color, 4, "RED", "\x07\x00\x00\x00"},
		{color, 4, "9", "\x09\x00\x00\x00"},
		{&btf.Float{Size: 8}, 8, "1", "\x00\x00\x00\x00\x00\x00\xf0\x3f"},
		{&btf.Float{Size: 4}, 4, "1", "\x00\x00\x80\x3f"},
		{&btf.Array{Type: char, Nelems: 4}, 4, "hi", "hi\x00\x00"},
		{&btf.Array{Type: char, Nelems: 2}, 2, "1,", "1,"},
		{&btf.Array{Type: short, Nelems: 3}, 6, "1, 2", "\x01\x00\x02\x00\x00\x00"},
	} {
		if got, err := encode(test.kind, test.size, test.text); err != nil || string(got) != test.want {
			t.Errorf("encode(%v, %q) = %q, %v, want %q", test.kind, test.text, got, err, test.want)
		}
	}
	for _, test := range []struct {
		kind btf.Type
		size int
		text string
		want string
	}{
		{nil, 12, "1", "without BTF"},
		{nil, 1, "256", "8 bits"},
		{constant, 4, "-1", "unsigned"},
		{constant, 4, "", "unsigned"},
		{integer(1, btf.Bool, "_Bool"), 1, "2", "true or false"},
		{color, 4, "GREEN", "expected"},
		{&btf.Float{Size: 8}, 8, "one", "a number"},
		{&btf.Array{Type: char, Nelems: 1}, 1, "hi", "room for 1"},
		{&btf.Array{Type: short, Nelems: 1}, 2, "1,x", "unsigned"},
		{&btf.Struct{Name: "s", Size: 4}, 4, "1", "can't be set"},
	} {
		got, err := encode(test.kind, test.size, test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("encode(%v, %q) = %q, %v, want an error with %q",
				test.kind, test.text, got, err, test.want)
		}
	}
}

func TestAttribute(t *testing.T) {
	if got := attribute(tcaKind, cString("bpf")); string(got) != "\x08\x00\x01\x00bpf\x00" {
		t.Errorf("got %q", got)
	}
	if got := attribute(tcaKind, cString("clsact")); len(got) != 12 || got[0] != 11 {
		t.Errorf("got %q, want 11 bytes and one byte of padding", got)
	}
}

// nested returns a program of three functions: nested calls small and large, whose code follows in
// the other order.
func nested() *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{Instructions: asm.Instructions{
		asm.Call.Label("small").WithSymbol("nested"),
		asm.Call.Label("large"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("not_a_function"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("large"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("small"),
		asm.Return(),
	}}
}

func TestCalls(t *testing.T) {
	// nested, then large, then small.
	if got, want := calls(nested().Instructions), [][]int{{2, 1}, {}, {}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	alone := asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol("alone"), asm.Return()}
	if got := calls(alone); got != nil {
		t.Errorf("one function: got %v, want nil", got)
	}
}

func TestFailuresOfTheLibrary(t *testing.T) {
	w := &worker{types: btf.NewCache(), object: &object{}}
	for _, test := range []struct {
		text string
		want protocol.Failure
	}{
		{`resolve .kconfig: config option "CONFIG_X" does not exist on this kernel`,
			protocol.Failure{Step: "relocate", Missing: missing("kconfig", "CONFIG_X")}},
		{"resolve .kconfig: cannot find a kconfig file: no such file",
			protocol.Failure{Step: "relocate", Missing: missing("kconfig-file", "")}},
		{"resolve .ksyms: kernel is missing symbol: a,b",
			protocol.Failure{Step: "relocate", Missing: missing("ksym", "a")}},
		{"load BTF: load btf: invalid argument", protocol.Failure{Step: "btf"}},
		// The name of a program does not count, and neither does what it says of itself.
		{"load program: permission denied: load BTF: resolve .ksyms", protocol.Failure{Step: "load"}},
	} {
		got := w.loadFailure(&ebpf.ProgramSpec{Name: "load BTF"}, errors.New("program load BTF: "+test.text))
		if got.Step != test.want.Step || !reflect.DeepEqual(got.Missing, test.want.Missing) ||
			len(got.Words) != 1 || !strings.HasSuffix(got.Words[0], test.text) {
			t.Errorf("%s: got %+v, want %+v", test.text, got, test.want)
		}
	}
}

func TestWordsOfARejectionAreWithoutItsLog(t *testing.T) {
	err := fmt.Errorf("program p: load program%w", &ebpf.VerifierError{
		Cause: unix.EACCES, Log: []string{"R0 !read_ok", "stack depth 0", "processed 1 insns"},
	})
	got := (&worker{types: btf.NewCache(), object: &object{}}).loadFailure(&ebpf.ProgramSpec{Name: "p"}, err)
	if got.Errno != "EACCES" || len(got.Words) != 1 || !strings.HasSuffix(got.Words[0], "permission denied") {
		t.Errorf("got %+v", got)
	}
}

func TestTheSizeOfALogIsThatOfTheProgram(t *testing.T) {
	o := &object{processed: map[string]uint64{}}
	o.noteProcessed("loaded", []string{"stack depth 0\nprocessed 840003 insns (limit 1000000)\n"})
	o.noteProcessed("rejected", []string{"R0 !read_ok", "processed 1000 insns (limit 1000000)"})
	o.noteProcessed("huge", []string{"processed 4000000000 insns (limit 1000000)"})
	o.noteProcessed("unknown", nil)
	for _, test := range []struct {
		program string
		level   protocol.LogLevel
		want    uint32
	}{
		{"loaded", protocol.LogStats, 0},
		{"loaded", protocol.LogAll, 840003 * 600},
		{"loaded", protocol.LogPath, 840003 * 100},
		{"rejected", protocol.LogAll, logBytes},
		{"huge", protocol.LogAll, 1<<30 - 1},
		{"unknown", protocol.LogAll, logBytes},
	} {
		if got := o.logSize(test.program, test.level); got != test.want {
			t.Errorf("%+v: got %d", test, got)
		}
	}
}

func TestErrnoName(t *testing.T) {
	for want, err := range map[string]error{
		"EINVAL":   fmt.Errorf("x: %w", unix.EINVAL),
		"ENOTSUPP": unix.Errno(524),
		"ENOENT":   fmt.Errorf("x: %w", os.ErrNotExist),
		"4095":     unix.Errno(4095),
		"":         errors.New("x"),
	} {
		if got := errnoName(err); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}

// TestProtocol has requests answered that need no kernel.
func TestProtocol(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.o")
	if err := os.WriteFile(text, bytes.Repeat([]byte("this is a text "), 10), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	requests := `{"request":"start","objects":["a.o"],"unknown":1}
		{"request":"open","object":"` + text + `"} {"request":"open","object":"/no/such/file"}`
	if err := serve(strings.NewReader(requests), &out); err != nil {
		t.Fatal(err)
	}
	var replies []protocol.Reply
	for decoder := json.NewDecoder(&out); ; {
		var r protocol.Reply
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		replies = append(replies, r)
	}
	if len(replies) != 3 || replies[0].Loader != "cilium-ebpf" ||
		replies[1].Failure.Step != "open" || !strings.Contains(replies[1].Failure.Words[0], "bad magic") ||
		replies[2].Failure.Errno != "ENOENT" {
		t.Errorf("got %+v", replies)
	}
	for _, r := range replies {
		if !r.Done {
			t.Errorf("not done: %+v", r)
		}
	}
	for _, wrong := range []string{`{"request":"load","program":"p"}`, `{"request":"x"}`, `text`} {
		if err := serve(strings.NewReader(wrong), io.Discard); err == nil {
			t.Errorf("%s: got no error", wrong)
		}
	}
}

func TestALargeLogIsSentAsItIs(t *testing.T) {
	var out bytes.Buffer
	w := &worker{replies: bufio.NewWriter(&out)}
	long := strings.Repeat("0: (b7) r1 = 1 \"<ü>\"\n", 20_000)
	answer := &protocol.Reply{Result: &protocol.Result{Loaded: true}, Done: true}
	if err := w.send(answer, []string{long, "last"}); err != nil {
		t.Fatal(err)
	}
	var got protocol.Reply
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Done || !got.Result.Loaded || got.Result.Log != long+"\nlast" {
		t.Errorf("got %d bytes, want %d", len(got.Result.Log), len(long)+5)
	}
}
