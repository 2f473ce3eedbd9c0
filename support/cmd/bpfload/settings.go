// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// A usageError says what is wrong with the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// settings are the options and arguments of the command line.
type settings struct {
	Loader   string // the loader's executable
	Attach   bool
	FullLog  bool
	Limit    time.Duration // for loading or attaching one program
	Jobs     int
	Set      []assignment // of global variables
	MapSize  []assignment // in entries
	Variants [][]string   // groups; of each, the first program that loads is used
	Optional []string     // programs that may fail
	Only     []string     // programs; none means all
	Objects  []string
	// Where the functions are looked for that freplace programs replace.
	Targets []string
	// How long starting a loader, and opening one object, may take at least. This is not what the
	// user limits, and takes long where the machine is emulated and busy.
	MinOpenLimit time.Duration
}

const minOpenLimit = time.Minute

// allObjects is the value of --targets if it is not given.
const allObjects = "*"

func (s *settings) openLimit() time.Duration { return max(s.Limit, s.MinOpenLimit) }

type assignment struct{ Name, Value string }

func parse(args []string) (*settings, error) {
	s := &settings{Jobs: runtime.NumCPU(), MinOpenLimit: minOpenLimit}
	flags := flag.NewFlagSet("bpfload", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.Loader, "loader", "", "the executable file of the loader")
	flags.BoolVar(&s.Attach, "attach", false, "attach programs that can be attached, and detach them")
	flags.IntVar(&s.Jobs, "jobs", s.Jobs, "how many programs are loaded at the same time")
	limit := flags.Float64("limit", 60, "seconds that loading one program may take")
	flags.Func("log-level", "stats or full", func(arg string) error {
		switch arg {
		case "stats", "full":
			s.FullLog = arg == "full"
			return nil
		}
		return errors.New("expected stats or full")
	})
	flags.Func("set", "NAME=VALUE: the value of a global variable", assign(&s.Set))
	flags.Func("map-size", "NAME=ENTRIES: the size of a map", assign(&s.MapSize))
	flags.Func("variants", "A,B,C: the first one that loads is used", func(arg string) error {
		names := strings.Split(arg, ",")
		if len(names) < 2 {
			return errors.New("expected at least two names, such as a,b")
		}
		s.Variants = append(s.Variants, names)
		return nil
	})
	flags.Func("optional", "a program that may fail", appendTo(&s.Optional))
	flags.Func("only", "a program; others are not loaded", appendTo(&s.Only))
	targets := flags.String("targets", allObjects,
		"the objects, separated by commas, in which the targets of freplace programs are; by default all")
	if err := flags.Parse(args); err != nil {
		return nil, usageError(err.Error())
	}
	s.Objects = flags.Args()
	if s.Targets = s.Objects; *targets != allObjects {
		s.Targets = strings.FieldsFunc(*targets, func(r rune) bool { return r == ',' })
	}
	s.Limit = time.Duration(*limit * float64(time.Second))
	switch {
	case len(s.Objects) == 0:
		return nil, usageError("name at least one object")
	case s.Loader == "":
		return nil, usageError("--loader: name the loader's executable file")
	case s.Limit <= 0:
		return nil, usageError("--limit: expected a number of seconds above 0")
	case s.Jobs < 1:
		return nil, usageError("--jobs: expected at least 1")
	}
	for _, size := range s.MapSize {
		if entries(size) == 0 {
			return nil, usageError(fmt.Sprintf("--map-size %s=%s: expected a number of entries",
				size.Name, size.Value))
		}
	}
	return s, nil
}

// entries returns the number that a size has as its value, or 0 if that is none.
func entries(size assignment) uint32 {
	number, err := strconv.ParseUint(size.Value, 0, 32)
	if err != nil {
		return 0
	}
	return uint32(number)
}

// openRequest returns the request to open an object with these settings.
func (s *settings) openRequest(object string) protocol.Request {
	r := protocol.Request{
		Request: protocol.Open, Object: object, Set: map[string]string{}, MapSizes: map[string]uint32{},
	}
	for _, set := range s.Set {
		r.Set[set.Name] = set.Value
	}
	for _, size := range s.MapSize {
		r.MapSizes[size.Name] = entries(size)
	}
	return r
}

func assign(to *[]assignment) func(string) error {
	return func(arg string) error {
		name, value, found := strings.Cut(arg, "=")
		if !found || name == "" {
			return errors.New("expected NAME=VALUE")
		}
		*to = append(*to, assignment{name, value})
		return nil
	}
}

func appendTo(to *[]string) func(string) error {
	return func(arg string) error {
		if arg == "" {
			return errors.New("expected a name")
		}
		*to = append(*to, arg)
		return nil
	}
}
