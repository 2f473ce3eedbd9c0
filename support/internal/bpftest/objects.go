// SPDX-License-Identifier: Apache-2.0

// Package bpftest finds the objects that are built in ebpf/, and loads them for tests. It skips a
// test if the running kernel is too old for the object, and shows the verifier's messages if the
// kernel rejects a program.
package bpftest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ObjectsVariable is the environment variable that names the directory of the objects.
const ObjectsVariable = "BPFMATRIX_OBJECTS"

const objectSuffix = ".bpf.o"

// ObjectPath returns the path of the object that was built from ebpf/NAME.bpf.c. It looks in the
// directory that [ObjectsVariable] names; if that is not set, it looks in the nearest directory
// "ebpf" at or above the working directory.
func ObjectPath(name string) (string, error) {
	dir, err := objectsDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name+objectSuffix)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: build it with `make ebpf`, or name its directory in $%s",
			err, ObjectsVariable)
	}
	return path, nil
}

func objectsDir() (string, error) {
	if dir := os.Getenv(ObjectsVariable); dir != "" {
		return dir, nil
	}
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		candidate := filepath.Join(dir, "ebpf")
		if info, err := os.Stat(candidate); err == nil && info.IsDir() {
			return candidate, nil
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no directory ebpf at or above %s: name the directory of the objects in $%s",
				start, ObjectsVariable)
		}
	}
}
