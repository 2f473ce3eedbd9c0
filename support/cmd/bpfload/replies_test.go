// SPDX-License-Identifier: Apache-2.0

//go:build !integration

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

func TestReplyReader(t *testing.T) {
	long := strings.Repeat(`12: (7b) *(u64 *)(r10 -16) = r7 ; R7=scalar(umax=255,"ü\)`+"\n", 30_000)
	statistics := "verification time 5 usec\nstack depth 8\nprocessed 3 insns (limit 1000000)"
	for _, text := range []string{
		"", "short", statistics, "a\\\"\\\\\"\t\u0001<>&\u2028𝄞\n" + statistics + "\n", long + statistics, long,
	} {
		raw, err := json.Marshal(map[string]any{
			"map":    map[string]any{"name": `"log":"no`},
			"result": map[string]any{"log": text, "loaded": true, "note": `a "note": {`, "seconds": 1.5},
			"done":   true,
		})
		if err != nil {
			t.Fatal(err)
		}
		reader := newReplyReader(strings.NewReader(string(raw) + "\n" + `{"done": true}` + "\n"))
		got, err := reader.next()
		if err != nil {
			t.Fatalf("%.20q: %v", text, err)
		}
		if !got.Done || !got.Result.Loaded || got.Result.Note != `a "note": {` || got.Map.Name != `"log":"no` {
			t.Errorf("%.20q: got %+v", text, got)
		}
		if strings.HasSuffix(strings.TrimSpace(text), statistics) && got.log.statistics() != statistics {
			t.Errorf("%.20q: got the statistics %q", text, got.log.statistics())
		}
		if written := decompressed(t, got.log.encoded()); written != text {
			t.Errorf("%.20q: got %d bytes, want %d", text, len(written), len(text))
		}
		if second, err := reader.next(); err != nil || !second.Done || second.log != nil {
			t.Errorf("got %+v, %v", second, err)
		}
		if _, err := reader.next(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v at the end", err)
		}
	}
	for _, wrong := range []string{
		"text\n", "}", `{"done":}`, `{"result":{"log":"\x"}}`, `{"result":{"log":"\u12`,
		`{"result":{"log":"a`, "[1]", `{"a"`,
	} {
		if got, err := newReplyReader(strings.NewReader(wrong)).next(); err == nil {
			t.Errorf("%q: got %+v, want an error", wrong, got)
		}
	}
}

func decompressed(t *testing.T, log string) string {
	t.Helper()
	if log == "" {
		return ""
	}
	raw, err := base64.StdEncoding.DecodeString(log)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// FuzzReplyReader checks that any bytes are a reply or an error, and that the log of a reply is as
// encoding/json reads it.
func FuzzReplyReader(f *testing.F) {
	f.Add([]byte(`{"result":{"loaded":true,"log":"a\n\ud834\udd1e\"\\"},"done":true}`))
	f.Add([]byte(`{"result":{"log":"\ud834x"}} [`))
	f.Add([]byte("text\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := newReplyReader(bytes.NewReader(raw)).next()
		var want protocol.Reply
		if json.NewDecoder(bytes.NewReader(raw)).Decode(&want) != nil || err != nil || got.log == nil {
			return
		}
		if want.Result == nil || !utf8.Valid(raw) || bytes.Count(bytes.ToLower(raw), []byte("log")) != 1 {
			return
		}
		if text := decompressed(t, got.log.encoded()); text != want.Result.Log {
			t.Errorf("%q: got %q, want %q", raw, text, want.Result.Log)
		}
	})
}

func TestWhichLogsAreWorthwhile(t *testing.T) {
	log := &verifierLog{}
	log.write([]byte("7: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access\nprocessed 7 insns (limit 1000000)\n"))
	if log.showsRegisters() || log.isTooComplex() || !isShort(log.statistics()) {
		t.Errorf("got %v, %v, %v", log.showsRegisters(), log.isTooComplex(), isShort(log.statistics()))
	}
	log.write([]byte("8: (79) r1 = *(u64 *)(r0 +0)          ; R0=scalar()\nprocessed 5001 insns (limit 1000000)"))
	if !log.showsRegisters() || isShort(log.statistics()) {
		t.Errorf("got %v, %v", log.showsRegisters(), isShort(log.statistics()))
	}
	log.write([]byte("\nThe sequence of 8193 jumps is too complex."))
	if !log.isTooComplex() {
		t.Error("it is too complex")
	}
	if exceedsMemory("processed 10 insns", protocol.LogAll) != "" || exceedsMemory("", protocol.LogAll) != "" {
		t.Error("a short log does not fit into the memory")
	}
	if got := exceedsMemory("processed 99999999999 insns", protocol.LogPath); !strings.Contains(got, "MB free") {
		t.Errorf("got %q", got)
	}
}
