// SPDX-License-Identifier: Apache-2.0

// The program clocks compares the clocks of a guest with each other, on each of its CPUs, and
// prints what it measured as JSON.
//
// On a busy host, a CPU of the guest may stand still at any moment, and what is measured then takes
// too long. So each measurement is repeated, and the one that was disturbed least counts.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

const (
	sampleHz     = 50
	runOfSamples = 5
	mostSamples  = 1500 // they fit into perfPages
	perfPages    = 8
)

// CPU is what was measured on one CPU. Each is a ratio, and 1 is right.
type CPU struct {
	Number int     `json:"cpu"`
	Delay  float64 `json:"delay"`
	Timer  float64 `json:"timer"`
	BPF    float64 `json:"bpf"`
	Perf   float64 `json:"perf"`
}

// Report is what the program prints.
type Report struct {
	CPUs []CPU `json:"cpus"`
	// Seconds of the guest's clock for each second of the host's.
	Host float64 `json:"host"`
	// How long both were compared.
	HostSeconds   float64 `json:"host_seconds"`
	MaxSampleRate string  `json:"max_sample_rate"`
	Clock         string  `json:"clock"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	runtime.LockOSThread()
	report := Report{}
	rtc, err := os.Open("/dev/rtc0")
	if err != nil {
		return err
	}
	defer rtc.Close()
	hostStart, guestStart, err := nextSecond(rtc)
	if err != nil {
		return err
	}
	// Timers stay on the CPU that set them, and no message of delay is dropped.
	for name, value := range map[string]string{"timer_migration": "0", "printk_devkmsg": "on"} {
		if err := sysctl(name, value); err != nil {
			return err
		}
	}
	var online unix.CPUSet
	if err := unix.SchedGetaffinity(0, &online); err != nil {
		return err
	}
	for number := 0; number < 1024; number++ {
		if !online.IsSet(number) {
			continue
		}
		var one unix.CPUSet
		one.Set(number)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return err
		}
		measured, err := measure(number)
		if err != nil {
			return fmt.Errorf("CPU %d: %w", number, err)
		}
		report.CPUs = append(report.CPUs, measured)
	}
	hostEnd, guestEnd, err := nextSecond(rtc)
	if err != nil {
		return err
	}
	report.HostSeconds = (hostEnd - hostStart).Seconds()
	report.Host = (guestEnd - guestStart).Seconds() / report.HostSeconds
	rate, err := os.ReadFile("/proc/sys/kernel/perf_event_max_sample_rate")
	if err != nil {
		return err
	}
	report.MaxSampleRate = string(rate[:len(rate)-1])
	clock, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err != nil {
		return err
	}
	report.Clock = string(clock[:len(clock)-1])
	return json.NewEncoder(os.Stdout).Encode(report)
}

func measure(number int) (CPU, error) {
	measured := CPU{Number: number}
	var err error
	if measured.Delay, err = delay(); err != nil {
		return measured, fmt.Errorf("delay: %w", err)
	}
	if measured.Timer, err = timer(); err != nil {
		return measured, fmt.Errorf("timer: %w", err)
	}
	if measured.BPF, err = bpf(); err != nil {
		return measured, fmt.Errorf("bpf_ktime_get_ns: %w", err)
	}
	if measured.Perf, err = perf(number); err != nil {
		return measured, fmt.Errorf("perf: %w", err)
	}
	return measured, nil
}

// now reads the clock that nobody sets.
func now() time.Duration {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &at); err != nil {
		panic(err)
	}
	return time.Duration(at.Nano())
}

func sysctl(name, value string) error {
	return os.WriteFile("/proc/sys/kernel/"+name, []byte(value+"\n"), 0o644)
}

// shortest returns the least time that the action took. It goes on until the least has been the
// least for some attempts.
func shortest(attempts int, action func() error) (time.Duration, error) {
	least := time.Duration(1<<63 - 1)
	for left := attempts; left > 0; left-- {
		before := now()
		if err := action(); err != nil {
			return 0, err
		}
		took := now() - before
		if took < least-least/200 {
			left = attempts
		}
		least = min(least, took)
	}
	return least, nil
}

// between returns how much longer the action takes for one time than for another, as a part of the
// difference between the two. What it takes besides is no part of that.
func between(less, more, attempts int, action func(milliseconds int) error) (float64, error) {
	took := map[int]time.Duration{}
	for _, milliseconds := range []int{less, more} {
		var err error
		took[milliseconds], err = shortest(attempts, func() error { return action(milliseconds) })
		if err != nil {
			return 0, err
		}
	}
	return float64(took[more]-took[less]) / float64(time.Duration(more-less)*time.Millisecond), nil
}

// delay measures mdelay, with which the kernel waits after each message if it is asked to
// (printk_delay() in kernel/printk/printk.c).
func delay() (float64, error) {
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	defer sysctl("printk_delay", "0")
	set := 0
	return between(1, 3, 400, func(milliseconds int) error {
		if set != milliseconds {
			set = milliseconds
			if err := sysctl("printk_delay", strconv.Itoa(milliseconds)); err != nil {
				return err
			}
		}
		_, err := log.WriteString("<7>clocks\n") // of the level that is not printed
		return err
	})
}

// timer measures the timer that ends a sleep.
func timer() (float64, error) {
	return between(2, 32, 20, func(milliseconds int) error {
		duration := unix.NsecToTimespec(int64(milliseconds) * int64(time.Millisecond))
		return unix.Nanosleep(&duration, nil)
	})
}

// bpf measures the time that eBPF programs see.
func bpf() (float64, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.SocketFilter,
		License: "GPL",
		Instructions: asm.Instructions{
			asm.FnKtimeGetNs.Call(),
			// The result has 32 bits. These are units of 1024 ns.
			asm.RSh.Imm(asm.R0, 10),
			asm.Return(),
		},
	})
	if err != nil {
		return 0, err
	}
	defer program.Close()
	packet := make([]byte, 64)
	// The least that a run takes is what a moment is known to.
	read := func() (time.Duration, time.Duration, error) {
		var at, inBPF time.Duration
		least := time.Duration(1<<63 - 1)
		for range 40 {
			before := now()
			units, _, err := program.Test(packet)
			if err != nil {
				return 0, 0, err
			}
			after := now()
			if after-before < least {
				least, at, inBPF = after-before, (before+after)/2, time.Duration(units)<<10
			}
		}
		return at, inBPF, nil
	}
	firstAt, firstInBPF, err := read()
	if err != nil {
		return 0, err
	}
	time.Sleep(200 * time.Millisecond)
	lastAt, lastInBPF, err := read()
	if err != nil {
		return 0, err
	}
	elapsed := time.Duration(uint32((lastInBPF-firstInBPF)>>10)) << 10
	return float64(elapsed) / float64(lastAt-firstAt), nil
}

// perf measures the interval between two samples of a busy CPU, as a part of the one that was asked
// for.
func perf(number int) (float64, error) {
	attr := unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config:      unix.PERF_COUNT_SW_CPU_CLOCK,
		Sample:      sampleHz,
		Bits:        unix.PerfBitFreq | unix.PerfBitDisabled,
		Sample_type: unix.PERF_SAMPLE_TIME,
	}
	const record = 16 // a perf_event_header, and the time
	event, err := unix.PerfEventOpen(&attr, -1, number, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(event)
	page := os.Getpagesize()
	ring, err := unix.Mmap(event, 0, (1+perfPages)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(ring)
	if err := unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		return 0, err
	}
	period := float64(time.Second) / sampleHz
	var times []uint64
	mean, spread := 0.0, period
	// Of the runs of samples, the most regular one was disturbed least.
	for spread > period/50 && len(times) < mostSamples {
		head := binary.NativeEndian.Uint64(ring[1024:]) / record // data_head
		if int(head) == len(times) {
			continue
		}
		at := page + len(times)*record + 8
		times = append(times, binary.NativeEndian.Uint64(ring[at:]))
		if len(times) > runOfSamples {
			if found, least := regularity(times[len(times)-1-runOfSamples:]); least < spread {
				mean, spread = found, least
			}
		}
	}
	return mean / period, nil
}

// regularity returns the mean interval of samples, and by how much the intervals differ.
func regularity(times []uint64) (mean, spread float64) {
	shortest, longest := float64(1<<62), 0.0
	for index := range times[1:] {
		interval := float64(times[index+1] - times[index])
		shortest, longest = min(shortest, interval), max(longest, interval)
	}
	return float64(times[len(times)-1]-times[0]) / float64(len(times)-1), longest - shortest
}

// nextSecond waits until the second of the real-time clock changes, and returns it with the guest's
// time. QEMU takes that clock from the host's (`-rtc clock=host`, its default).
func nextSecond(rtc *os.File) (host, guest time.Duration, err error) {
	first, err := unix.IoctlGetRTCTime(int(rtc.Fd()))
	if err != nil {
		return 0, 0, err
	}
	for {
		read, err := unix.IoctlGetRTCTime(int(rtc.Fd()))
		if err != nil {
			return 0, 0, err
		}
		if read.Sec != first.Sec {
			at := time.Date(int(read.Year)+1900, time.Month(read.Mon+1), int(read.Mday),
				int(read.Hour), int(read.Min), int(read.Sec), 0, time.UTC)
			return time.Duration(at.UnixNano()), now(), nil
		}
	}
}
