// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package requirement

import "testing"

func TestParseRelease(t *testing.T) {
	for text, want := range map[string]Release{
		"5.4":                       {5, 4},
		"5.10.0-46-cloud-amd64":     {5, 10},
		"6.12.117+deb13-cloud":      {6, 12},
		"7.3-rc1":                   {7, 3},
		"6.18.15+deb13-cloud-arm64": {6, 18},
	} {
		if got, err := ParseRelease(text); err != nil || got != want {
			t.Errorf("ParseRelease(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "5.", ".10", "v5.10", "linux 5.10"} {
		if got, err := ParseRelease(text); err == nil {
			t.Errorf("ParseRelease(%q) = %v, want an error", text, got)
		}
	}
}

func TestParse(t *testing.T) {
	got, err := parse([]byte("5.17 bpf_loop\x00"))
	if want := (Requirement{Release{5, 17}, "bpf_loop"}); err != nil || *got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, data := range []string{
		"", "5.17 bpf_loop", "5.17\x00", "5.17 \x00", "5.17.3 x\x00", "5.017 x\x00", "bpf_loop 5.17\x00",
		"5.17 bpf_loop\x005.8 ringbuf\x00",
	} {
		if got, err := parse([]byte(data)); err == nil {
			t.Errorf("parse(%q) = %v, want an error", data, got)
		}
	}
}

func TestUnmetBy(t *testing.T) {
	requirement := &Requirement{Release{5, 17}, "bpf_loop"}
	for kernel, want := range map[string]string{
		"5.10.0-46-cloud-amd64": "needs 5.17 (bpf_loop), this kernel is 5.10.0-46-cloud-amd64",
		"4.19.1":                "needs 5.17 (bpf_loop), this kernel is 4.19.1",
		"5.17.0":                "",
		"6.1.0-56-cloud-amd64":  "",
	} {
		if got, err := requirement.UnmetBy(kernel); err != nil || got != want {
			t.Errorf("UnmetBy(%q) = %q, %v, want %q", kernel, got, err, want)
		}
	}
	if got, err := (*Requirement)(nil).UnmetBy("4.19"); err != nil || got != "" {
		t.Errorf("nothing required: got %q, %v", got, err)
	}
}
