package filter

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each file of testdata is a packet in hexadecimal digits. Its name begins with what becomes of it.
func TestPackets(t *testing.T) {
	program, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	files, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no packets in testdata: %v", err)
	}
	verdicts := map[uint32]string{xdpDrop: "drop", xdpPass: "pass"}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".hex")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			packet, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
			if err != nil {
				t.Fatal(err)
			}
			verdict, _, err := program.Test(packet)
			if err != nil {
				t.Fatal(err)
			}
			want, _, _ := strings.Cut(name, "-")
			if verdicts[verdict] != want {
				t.Errorf("the verdict is %d, want %s", verdict, want)
			}
		})
	}
}
