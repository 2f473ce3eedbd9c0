package reasons

import "testing"

// TestSomething is called by tests, and is none.
//
//go:noinline
func TestSomething(t *testing.T, times int) {
	t.Helper()
	t.Log(times)
}
