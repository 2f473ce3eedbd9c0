// Package reasons has tests that fail in each way in which Go tests fail.
package reasons

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	qt "github.com/frankban/quicktest"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type program struct {
	Name string
	Maps []string
}

func logged() { fmt.Fprintln(os.Stderr, `level=INFO msg="all is well"`) }

func TestTestifyError(t *testing.T) {
	logged()
	t.Cleanup(func() { t.Log("closing") })
	require.NoError(t, fmt.Errorf("load program: permission denied"))
}

func TestTestifyEqual(t *testing.T) {
	assert.Equal(t, 1, 2, "the number of %s", "maps")
	t.Log("and on it goes")
}

func TestTestifyStruct(t *testing.T) {
	assert.Equal(t, program{Name: "a"}, program{Name: "b"})
}

func TestQuicktest(t *testing.T) {
	logged()
	qt.New(t).Assert(0, qt.Equals, 1, qt.Commentf("of all programs"))
}

func TestQuicktestError(t *testing.T) {
	qt.New(t).Assert(fmt.Errorf("no such map"), qt.IsNil)
}

func TestQuicktestDiff(t *testing.T) {
	qt.New(t).Check(program{Name: "a"}, qt.DeepEquals, program{Name: "b"})
	t.Log("and on it goes")
}

func TestCmp(t *testing.T) {
	want, got := program{"a", []string{"x", "y"}}, program{"a", []string{"x", "z"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("program mismatch (-want +got):\n%s", diff)
	}
	t.Log("and on it goes")
}

func TestFatalLines(t *testing.T) {
	t.Log("before")
	t.Fatalf("load: %v", "permission denied:\n\t0: R1=ctx\n\tR1 is no scalar")
}

func TestLogBehind(t *testing.T) {
	t.Error("the first assertion")
	t.Error("the second one")
	t.Log("a log")
}

func TestNoMessage(t *testing.T) {
	t.Log("a log")
	fmt.Println("printed")
	t.Fail()
}

func TestSkip(t *testing.T) {
	t.Cleanup(func() { t.Log("closing") })
	t.Skip("needs 5.17")
}

func TestRace(t *testing.T) {
	n := 0
	var wait sync.WaitGroup
	for i := 0; i < 2; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			n++
		}()
	}
	wait.Wait()
	t.Log(n)
}

// The tests below end the whole binary: each is run alone.

func only(t *testing.T) {
	if os.Getenv("ONLY") != t.Name() {
		t.Skip("not now")
	}
}

func TestNil(t *testing.T) {
	only(t)
	logged()
	var p *program
	p.Name = "x"
}

func TestPanicLines(t *testing.T) {
	only(t)
	panic(fmt.Errorf("first line\nsecond line"))
}

func TestPanicInLibrary(t *testing.T) {
	only(t)
	cmp.Diff(struct{ a int }{1}, struct{ a int }{2})
}

func TestDeadlock(t *testing.T) {
	only(t)
	select {}
}

func TestMapWrites(t *testing.T) {
	only(t)
	m := map[int]int{}
	for i := 0; i < 8; i++ {
		go func() {
			for {
				m[0]++
			}
		}()
	}
	time.Sleep(time.Hour)
}

func TestHang(t *testing.T) {
	only(t)
	t.Run("inner", func(t *testing.T) {
		fmt.Println("it hangs now")
		time.Sleep(time.Hour)
	})
}

func TestZLast(t *testing.T) { TestSomething(t, 1) }
