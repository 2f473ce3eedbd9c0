"""A small Go module whose tests end in every way in which Go tests can end.

The variable `SAMPLE` of the environment makes one of them panic, exit or hang.
"""

import functools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

TESTS = """package sample

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestPass(t *testing.T) { t.Log("fine") }

func TestFail(t *testing.T) {
	t.Log("before")
	t.Errorf("want %d, got %d", 1, 2)
}

func TestSkip(t *testing.T) { t.Skip("needs 5.17: bpf_loop") }

func TestSubtests(t *testing.T) {
	t.Run("good", func(t *testing.T) { t.Log("ok") })
	t.Run("bad", func(t *testing.T) { t.Fatal("no such map") })
	t.Run("skipped", func(t *testing.T) { t.Skip("not here") })
	t.Run("outer", func(t *testing.T) {
		t.Run("in ner", func(t *testing.T) {})
	})
}

func TestParallel(t *testing.T) {
	for n := 0; n < 3; n++ {
		n := n
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			t.Logf("of %d", n)
		})
	}
}

func TestMany(t *testing.T) {
	for n := 0; n < 200; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {})
	}
}

func TestPrints(t *testing.T) {
	fmt.Println("--- PASS: TestFake (0.00s)")
	fmt.Println("no newline at the end, and bytes that are no text: \\xff\\xfe")
	fmt.Print("half a line")
}

func TestArguments(t *testing.T) {
	for _, argument := range os.Args[1:] {
		fmt.Printf("%q\\n", argument)
	}
}

func TestPanics(t *testing.T) {
	switch os.Getenv("SAMPLE") {
	case "panic":
		t.Run("inner", func(t *testing.T) { panic("on purpose") })
	case "panic-below":
		t.Run("a", func(t *testing.T) {
			t.Log("of a")
			t.Run("b", func(t *testing.T) {
				t.Log("of b")
				panic(errors.New("below"))
			})
		})
	case "panic-top":
		t.Log("before")
		panic("at the top")
	case "panic-goroutine":
		t.Run("inner", func(t *testing.T) {
			t.Log("before")
			go func() { panic("elsewhere") }()
			time.Sleep(time.Hour)
		})
	case "panic-parallel":
		for n := 0; n < 3; n++ {
			n := n
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				t.Logf("of %d", n)
				if n == 1 {
					panic("one of three")
				}
			})
		}
	case "panic-words":
		t.Run("inner", func(t *testing.T) {
			fmt.Println("panic: only words")
			t.Error("the real reason")
		})
		os.Exit(3)
	}
}

func TestExits(t *testing.T) {
	switch os.Getenv("SAMPLE") {
	case "exit0":
		os.Exit(0)
	case "exit3":
		os.Exit(3)
	}
}

func TestHangs(t *testing.T) {
	if os.Getenv("SAMPLE") == "hang" {
		time.Sleep(time.Hour)
	}
}
"""


@dataclass(frozen=True)
class GoModule:
    """The folder of the module."""

    root: Path

    def write(self) -> None:
        """Write the files of the module."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "go.mod").write_text("module example.com/sample\n\ngo 1.20\n")
        (self.root / "sample_test.go").write_text(TESTS)
        (self.root / "cmd").mkdir(exist_ok=True)
        (self.root / "cmd/main.go").write_text('package main\n\nfunc main() { println("hi") }\n')

    @functools.cache  # noqa: B019 - a run of pytest has one module
    def binary(self, *, stripped: bool = False) -> Path:
        """Return the test binary, which is built by the first call."""
        target = self.root / ("stripped.test" if stripped else "sample.test")
        flags = ["-ldflags=-s -w", "-trimpath"] if stripped else []
        self._go("test", "-c", *flags, "-o", str(target), ".")
        return target

    @functools.cache  # noqa: B019 - as above
    def program(self) -> Path:
        """Return a program that is not a test binary, which is built by the first call."""
        self._go("build", "-o", str(self.root / "program"), "./cmd")
        return self.root / "program"

    def _go(self, *words: str) -> None:
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
        subprocess.run(["go", *words], cwd=self.root, env=env, check=True)

    def run(self, *words: str, sample: str = "") -> tuple[int, bytes]:
        """Run the test binary here as a guest runs it; return its exit status and its output."""
        done = subprocess.run(
            [self.binary(), "-test.v=test2json", "-test.paniconexit0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SAMPLE": sample},
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout
