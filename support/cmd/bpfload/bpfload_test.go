// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

func TestParse(t *testing.T) {
	got, err := parse(strings.Fields(`--attach --log-level full --limit 1.5 --jobs 3 --set a=1 --set b=x=y
		--map-size m=0x10 --variants p,q --optional r --only s --only t one.o two.o`))
	want := &settings{
		Attach: true, FullLog: true, Limit: 1500 * time.Millisecond, Jobs: 3,
		Set: []assignment{{"a", "1"}, {"b", "x=y"}}, MapSize: []assignment{{"m", "0x10"}},
		Variants: [][]string{{"p", "q"}}, Optional: []string{"r"}, Only: []string{"s", "t"},
		Objects: []string{"one.o", "two.o"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, words := range []string{
		"", "--attach", "--log-level 2 a.o", "--limit 0 a.o", "--jobs 0 a.o", "--set a a.o", "--set =1 a.o",
		"--map-size m=0 a.o", "--map-size m=many a.o", "--variants a a.o", "--nothing a.o",
	} {
		var usage usageError
		if got, err := parse(strings.Fields(words)); !errors.As(err, &usage) {
			t.Errorf("parse(%q) = %+v, %v, want a usage error", words, got, err)
		}
	}
}

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

// Logs that kernels wrote.
var (
	rejection510 = strings.Split(`0: (b7) r1 = 1
; __u64 *count = bpf_map_lookup_elem(&counts, &key);
4: (18) r1 = 0xffff888004e41800
6: (85) call bpf_map_lookup_elem#1
; *count += 1;
7: (79) r1 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
verification time 364 usec
stack depth 8
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`, "\n")
	rejection73 = strings.Split(`; *count += 1; @ rejected.bpf.c:18
7: (79) r1 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'

Verification failed: Register Type Safety: Invalid dereference
      7 | (79) r1 = *(u64 *)(r0 +0)
verification time 1 usec
stack depth max 8
subprog 0 (unchecked) main insns_self 7 insns_total 7 stack 8
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`, "\n")
	statistics73 = `verification time 16398 usec
stack depth max 128
subprog 0 (nested) main insns_self 13 insns_total 29 stack 32
subprog 1 (large) static insns_self 8 insns_total 8 stack 128
subprog 2 (small) static insns_self 8 insns_total 8 stack 64
processed 29 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 3 mark_read 0
`
)

func TestRejectionPoint(t *testing.T) {
	for _, test := range []struct {
		name     string
		log      []string
		offset   asm.RawInstructionOffset
		index    int
		messages []string
	}{
		{"5.10", rejection510, 7, 5, []string{"R0 invalid mem access 'map_value_or_null'"}},
		{"7.3", rejection73, 7, 1, []string{"R0 invalid mem access 'map_value_or_null'"}},
		{"no instruction", []string{"a", "", "b", "processed 0 insns"}, 0, -1, []string{"a", "b"}},
		{"nothing", nil, 0, -1, nil},
	} {
		offset, index, messages := rejectionPoint(test.log)
		if offset != test.offset || index != test.index || !slices.Equal(messages, test.messages) {
			t.Errorf("%s: got %d, %d, %q, want %d, %d, %q", test.name,
				offset, index, messages, test.offset, test.index, test.messages)
		}
	}
}

func TestRejectionTail(t *testing.T) {
	want := strings.Join(rejection510[1:7], "\n")
	if got := rejectionTail(rejection510); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	long := slices.Concat(slices.Repeat([]string{"0: (b7) r1 = 1"}, 1000), []string{"no", "processed 9 insns"})
	if got := strings.Split(rejectionTail(long), "\n"); len(got) != maxTailLines || got[len(got)-1] != "no" {
		t.Errorf("got %d lines, the last %q", len(got), got[len(got)-1])
	}
	if got := rejectionTail(nil); got != "" {
		t.Errorf("nothing: got %q", got)
	}
}

// FuzzLog checks that no log makes the parser panic: programs have an influence on what a log
// holds.
func FuzzLog(f *testing.F) {
	f.Add(strings.Join(rejection510, "\n"))
	f.Add(strings.Join(rejection73, "\n"))
	f.Add(statistics73)
	f.Add("; x\n99999999999: (85) y\nstack depth 1+99999999999999999999")
	spec := nested()
	f.Fuzz(func(t *testing.T, log string) {
		lines := strings.Split(log, "\n")
		var s statistics
		s.readLog(log, spec)
		_ = rejectionMessage(lines)
		if got := rejectionTail(lines); strings.Count(got, "\n") >= maxTailLines {
			t.Errorf("the tail has too many lines: %q", got)
		}
	})
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

func TestReadLog(t *testing.T) {
	for _, test := range []struct {
		log  string
		want statistics
	}{
		{statistics73, statistics{
			VerifierUS: pointer(16398), InstructionsProcessed: pointer(29), InstructionsLimit: pointer(1000000),
			MaxStatesPerInstruction: pointer(1), TotalStates: pointer(2), PeakStates: pointer(3),
			StackDepth: pointer(160),
		}},
		// A source line in the log is not one of the statistics.
		{"; verification time 5 usec\nverification time 7 usec\nstack depth 32+128+64\n", statistics{
			VerifierUS: pointer(7), StackDepth: pointer(160),
		}},
		{"processed 3 insns (limit 131072)", statistics{
			InstructionsProcessed: pointer(3), InstructionsLimit: pointer(131072),
		}},
		{"", statistics{}},
	} {
		var got statistics
		got.readLog("anything\n"+test.log, nested())
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %+v, want %+v", test.log, got, test.want)
		}
	}
}

func TestDeepestStack(t *testing.T) {
	recursive := asm.Instructions{asm.Call.Label("f").WithSymbol("f"), asm.Return()}
	for _, test := range []struct {
		instructions asm.Instructions
		depths       string
		want         uint64
	}{
		{nested().Instructions, "32+128+64", 160},
		{nested().Instructions, "32+64+128", 160},
		{nested().Instructions, "8", 8}, // fewer depths than functions: the largest depth
		{recursive, "16", 16},
	} {
		got := deepestStack(test.instructions, strings.Split(test.depths, "+"))
		if got == nil || *got != test.want {
			t.Errorf("%s: got %v, want %d", test.depths, got, test.want)
		}
	}
	if got := deepestStack(nested().Instructions, []string{"1", ""}); got != nil {
		t.Errorf("no number: got %d", *got)
	}
}

func TestCompressLog(t *testing.T) {
	raw, err := base64.StdEncoding.DecodeString(compressLog("grüße\n"))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(reader); err != nil || string(got) != "grüße\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// encodeBTF returns BTF with these types and strings (Documentation/bpf/btf.rst).
func encodeBTF(words []uint32, strings string) []byte {
	var raw []byte
	for _, word := range append([]uint32{
		0x0001eb9f, 24, 0, uint32(4 * len(words)), uint32(4 * len(words)), uint32(len(strings)),
	}, words...) {
		raw = binary.LittleEndian.AppendUint32(raw, word)
	}
	return append(raw, strings...)
}

// A variable of .ksyms that is `const void`, and a section .struct_ops; and the same after
// patching.
var (
	unpatchedBTF = encodeBTF([]uint32{
		0, btfConst << 24, 0,
		1, btfVar << 24, 1, 1,
		3, btfDatasec<<24 | 1, 0, 2, 0, 0,
		10, btfDatasec << 24, 0,
	}, "\x00x\x00.ksyms\x00.struct_ops\x00")
	patchedBTF = encodeBTF([]uint32{
		0, btfConst << 24, 0,
		1, btfVar << 24, 0, 1,
		3, btfDatasec<<24 | 1, 0, 2, 0, 0,
		22, btfDatasec << 24, 0,
	}, "\x00x\x00.ksyms\x00.struct_ops\x00.struct_ops.link\x00")
)

func TestPatchBTF(t *testing.T) {
	if got, changed := patchBTF(unpatchedBTF, true); !changed || !bytes.Equal(got, patchedBTF) {
		t.Errorf("got %q, %v, want %q", got, changed, patchedBTF)
	}
	if got, changed := patchBTF(patchedBTF, true); changed || !bytes.Equal(got, patchedBTF) {
		t.Errorf("nothing to do: got %q, %v", got, changed)
	}
}

// FuzzPatchBTF checks that any bytes are patched or returned unchanged, and that the input is not
// written to.
func FuzzPatchBTF(f *testing.F) {
	f.Add(unpatchedBTF)
	f.Add(unpatchedBTF[:30])
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		got, changed := patchBTF(raw, true)
		if !bytes.Equal(raw, before) || !changed && !bytes.Equal(got, before) {
			t.Errorf("%q was changed to %q, %v", before, got, changed)
		}
	})
}

func TestHelperName(t *testing.T) {
	for number, want := range map[uint64]string{
		181: "bpf_loop", 1: "bpf_map_lookup_elem", 1 << 20: "of this number",
	} {
		if got := helperName(number); got != want {
			t.Errorf("%d: got %q, want %q", number, got, want)
		}
	}
}

func TestWorkItems(t *testing.T) {
	programs := []programInfo{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
	for _, test := range []struct {
		settings settings
		want     string
	}{
		{settings{}, "a b c d"},
		{settings{Only: []string{"c"}}, "c"},
		// Variants are in the order of the option, at the position of the first one in the object.
		{settings{Variants: [][]string{{"d", "b", "of_another_object"}}}, "a d,b c"},
		{settings{Variants: [][]string{{"d", "b"}}, Only: []string{"b"}}, "d,b"},
	} {
		var got []string
		for _, c := range workItems("o", programs, &test.settings) {
			var names []string
			for _, p := range c.programs {
				names = append(names, p.Name)
			}
			got = append(got, strings.Join(names, ","))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: got %q, want %q", test.settings, got, test.want)
		}
	}
}

func TestQueue(t *testing.T) {
	q := newQueue(&settings{Objects: []string{"large", "small", "unreadable"}})
	programs := make([]programInfo, 6)
	for i := range programs {
		programs[i].Name = string(rune('a' + i))
	}
	open := func(current, want string, first bool) {
		t.Helper()
		if c, object, isFirst := q.next(current); c != nil || object != want || isFirst != first {
			t.Fatalf("got %v, %q, %v, want to open %q", c, object, isFirst, want)
		}
	}
	load := func(current, want string) {
		t.Helper()
		if c, _, _ := q.next(current); c == nil || c.object != current || c.programs[0].Name != want {
			t.Fatalf("got %v, want to load %s of %s", c, want, current)
		}
	}
	open("", "large", true)
	q.addContents("large", &contents{Programs: programs})
	load("large", "a")
	open("", "small", true) // another job
	q.addContents("small", &contents{Programs: programs[:1]})
	load("small", "a")
	open("small", "unreadable", true)
	q.addContents("unreadable", nil)
	// The large object has enough programs left for another worker to open it.
	open("unreadable", "large", false)
	load("large", "b")
	load("large", "c")
	if c, object, _ := q.next("small"); c != nil || object != "" {
		t.Errorf("got %v, %q, want nothing: too few programs are left", c, object)
	}
	for _, name := range []string{"d", "e", "f"} {
		load("large", name)
	}
	if c, object, _ := q.next("large"); c != nil || object != "" {
		t.Errorf("got %v, %q, want nothing", c, object)
	}
}

func TestQueueRetriesWhatNeededMemory(t *testing.T) {
	q := newQueue(&settings{Objects: []string{"a", "b"}, Jobs: 2})
	for range 2 {
		q.next("")
	}
	if !q.openLater("b") {
		t.Error("b is not opened again")
	}
	q.addContents("b", nil)
	q.addContents("a", &contents{Programs: []programInfo{{Name: "p"}}})
	c, _, _ := q.next("a")
	if !q.retryLater(c) {
		t.Error("p is not loaded again")
	}
	if c, object, _ := q.next("a"); c != nil || object != "" {
		t.Errorf("got %v, %q, want nothing until the others are done", c, object)
	}
	if !q.startRetry() {
		t.Fatal("there is no second pass")
	}
	if c, object, first := q.next(""); c != nil || object != "b" || !first {
		t.Errorf("got %v, %q, want to open b", c, object)
	}
	q.addContents("b", &contents{})
	if c, object, _ := q.next("b"); c != nil || object != "a" {
		t.Errorf("got %v, %q, want to open a again", c, object)
	}
	again, _, _ := q.next("a")
	if again != c {
		t.Errorf("got %v, want %v", again, c)
	}
	if q.retryLater(again) || q.openLater("b") || q.startRetry() || q.incomplete {
		t.Error("there is a third pass, or an object counts as unreadable")
	}
}

func TestCheckUnused(t *testing.T) {
	s := &settings{Objects: []string{"o"}, Set: []assignment{{"x", "1"}}, Only: []string{"a"}}
	q := newQueue(s)
	q.opening = 1
	q.addContents("o", &contents{Programs: []programInfo{{Name: "a"}}})
	if err := q.checkUnused(); err == nil || !strings.Contains(err.Error(), "--set x=1") {
		t.Errorf("got %v, want --set x=1", err)
	}
	q.addContents("o", &contents{Set: []string{"x"}})
	if err := q.checkUnused(); err != nil {
		t.Errorf("all used: got %v", err)
	}
	s.Set = append(s.Set, assignment{"y", "1"})
	q.addContents("unreadable", nil)
	if err := q.checkUnused(); err != nil {
		t.Errorf("the object that may have it could not be read: got %v, want no error", err)
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

func TestBadObjects(t *testing.T) {
	elf := func(order, machine byte) string {
		return "\x7fELF\x02" + string(order) + "\x01" + strings.Repeat("\x00", 9) + "\x01\x00" + string(machine) + "\x00"
	}
	for content, want := range map[string]string{
		"":                                     "empty",
		"no":                                   "is no ELF file",
		strings.Repeat("text", 99):             "is no ELF file",
		elf(2, 0):                              "big-endian",
		elf(3, 0):                              "damaged",
		elf(1, 62):                             "X86_64",
		elf(1, 0) + strings.Repeat("\x00", 99): "",
	} {
		path := filepath.Join(t.TempDir(), "o")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var bad *badObject
		_, err := openObject(path, &settings{})
		if !errors.As(err, &bad) || bad.code != codeBadObject || !strings.Contains(bad.reason, want) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
}
