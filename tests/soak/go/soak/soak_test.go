// Package soak has tests that do what a variable of the environment tells them.
//
// The variable is SOAK_ and the name of the binary. It has a word for each test, such as
// "pass,fail,skip,exit:3".
package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func act(t *testing.T, number int) {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
	words := strings.Split(os.Getenv("SOAK_"+name), ",")
	if number >= len(words) {
		t.Fatalf("SOAK_%s has no word for test %d", name, number)
	}
	word, argument, _ := strings.Cut(words[number], ":")
	value, _ := strconv.Atoi(argument)
	switch word {
	case "pass":
		t.Log("fine")
	case "fail":
		t.Error("soak: fails as planned")
	case "skip":
		t.Skip("soak: skipped as planned")
	case "panic":
		panic("soak: panics as planned")
	case "exit":
		os.Exit(value)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.Signal(value))
		time.Sleep(time.Hour)
	case "prints":
		fmt.Println("--- PASS: TestFake (0.00s)")
		fmt.Println("exited 1 status=0 limit=no oom_kills=0 tainted=0 full= cores=0")
		fmt.Print("half a line, and bytes that are no text: \xff\xfe")
	case "hang":
		time.Sleep(time.Hour)
	default:
		t.Fatalf("SOAK_%s: unknown word %q", name, word)
	}
}

func Test0(t *testing.T) { act(t, 0) }
func Test1(t *testing.T) { act(t, 1) }
func Test2(t *testing.T) { act(t, 2) }
func Test3(t *testing.T) { act(t, 3) }
