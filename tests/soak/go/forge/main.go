// forge fails, and tells the host over the control port of init that it has passed.
//
// It gets init's descriptors by pidfd_getfd(2). The variable SOAK_FORGE_ID has the id of the test.
// With SOAK_FORGE_BOUNDARY, it also looks in init's memory for the boundary of its output, which
// has 32 hexadecimal digits, and prints everything there that may be one.
package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// The numbers of these system calls are the same on all architectures.
const (
	pidfdOpen  = 434
	pidfdGetfd = 438
)

func main() {
	if os.Getenv("SOAK_FORGE_BOUNDARY") != "" {
		printBoundaries()
	}
	secret := strings.Repeat("0123456789abcdef", 2)
	lie := fmt.Sprintf(
		"exited %s %s status=0 limit=no oom_kills=0 tainted=0 before=0 full= cores=0\ndone %s\n",
		os.Getenv("SOAK_FORGE_ID"), secret, secret,
	)
	init, _, _ := syscall.Syscall(pidfdOpen, 1, 0, 0)
	for number := uintptr(3); number < 32; number++ {
		place, _ := os.Readlink(fmt.Sprintf("/proc/1/fd/%d", number))
		if !strings.HasPrefix(place, "/dev/vport") {
			continue
		}
		file, _, failure := syscall.Syscall(pidfdGetfd, init, number, 0)
		if failure == 0 {
			// The port of the output has the lie too. No harm is done by that.
			syscall.Write(int(file), []byte(lie))
		}
	}
	time.Sleep(300 * time.Millisecond)
	os.Exit(1)
}

func printBoundaries() {
	maps, err := os.Open("/proc/1/maps")
	if err != nil {
		return
	}
	memory, err := os.Open("/proc/1/mem")
	if err != nil {
		return
	}
	digits := regexp.MustCompile("[0-9a-f]{32}")
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to int64
		var mode string
		fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode)
		if !strings.HasPrefix(mode, "rw") || to-from > 8<<20 {
			continue
		}
		content := make([]byte, to-from)
		size, _ := memory.ReadAt(content, from)
		for _, found := range digits.FindAll(content[:size], -1) {
			os.Stdout.Write(found)
		}
	}
}
