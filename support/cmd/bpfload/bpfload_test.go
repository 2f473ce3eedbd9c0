// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

func TestParse(t *testing.T) {
	got, err := parse(strings.Fields(`--loader l --attach --log-level full --limit 1.5 --jobs 3 --targets x.o,y.o --set a=1 --set b=x=y
		--map-size m=0x10 --variants p,q --optional r --only s --only t one.o two.o`))
	want := &settings{
		Loader: "l", Attach: true, FullLog: true, Limit: 1500 * time.Millisecond, Jobs: 3,
		Set: []assignment{{"a", "1"}, {"b", "x=y"}}, MapSize: []assignment{{"m", "0x10"}},
		Variants: [][]string{{"p", "q"}}, Optional: []string{"r"}, Only: []string{"s", "t"},
		Objects: []string{"one.o", "two.o"}, Targets: []string{"x.o", "y.o"}, MinOpenLimit: time.Minute,
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

func TestTargetsAreAllObjectsUnlessSomeAreNamed(t *testing.T) {
	for words, want := range map[string]int{"a.o b.o": 2, "--targets= a.o b.o": 0, "--targets b.o a.o b.o": 1} {
		got, err := parse(append([]string{"--loader", "l"}, strings.Fields(words)...))
		if err != nil || len(got.Targets) != want {
			t.Errorf("%s: got %+v, %v, want %d targets", words, got, err, want)
		}
	}
}

func TestWorkItems(t *testing.T) {
	programs := []protocol.Program{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
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
	programs := make([]protocol.Program, 6)
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
	q.addContents("large", &contents{programs: programs})
	load("large", "a")
	open("", "small", true) // another job
	q.addContents("small", &contents{programs: programs[:1]})
	load("small", "a")
	open("small", "unreadable", true)
	q.addContents("unreadable", nil)
	// The large object has enough programs left for another loader to open it.
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
	q.addContents("a", &contents{programs: []protocol.Program{{Name: "p"}}})
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
	q.addContents("o", &contents{programs: []protocol.Program{{Name: "a"}}})
	if err := q.checkUnused(); err == nil || !strings.Contains(err.Error(), "--set x=1") {
		t.Errorf("got %v, want --set x=1", err)
	}
	q.addContents("o", &contents{set: []string{"x"}})
	if err := q.checkUnused(); err != nil {
		t.Errorf("all used: got %v", err)
	}
	s.Set = append(s.Set, assignment{"y", "1"})
	q.addContents("unreadable", nil)
	if err := q.checkUnused(); err != nil {
		t.Errorf("the object that may have it could not be read: got %v, want no error", err)
	}
}
