// SPDX-License-Identifier: Apache-2.0

// Package guestpython starts the Python interpreter that support/host_python.py put into the
// payload.
package guestpython

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrMissing says that the payload has no Python, and the likely reason.
var ErrMissing = errors.New(
	"no Python in the payload: the host has no CPython for this architecture that the tracer supports")

// root is the folder of the payload's Python.
const root = "/payload/python"

// Command returns a command that is not started yet: Python with these arguments.
func Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	python := filepath.Join(root, "bin/python3")
	if err := linkLoader(python, filepath.Join(root, "lib")); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrMissing
	} else if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Env = append(os.Environ(),
		"LD_LIBRARY_PATH="+filepath.Join(root, "lib"),
		"PYTHONPATH="+filepath.Join(root, "site"),
		"PYTHONDONTWRITEBYTECODE=1", // the payload is read-only
		"PYTHONUTF8=1",
	)
	return cmd, nil
}

// AddModules makes a folder the first in which the command's Python finds modules, but for that of its
// script.
func AddModules(cmd *exec.Cmd, folder string) {
	for i, variable := range cmd.Env {
		if name, value, _ := strings.Cut(variable, "="); name == "PYTHONPATH" && folder != "" {
			cmd.Env[i] = name + "=" + folder + string(os.PathListSeparator) + value
		}
	}
}

// linkLoader makes a symbolic link to the dynamic loader of an executable at the path where the
// kernel looks for it, unless there is a loader at that path.
func linkLoader(executable, libraries string) error {
	file, err := elf.Open(executable)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(segment.Open())
		if err != nil {
			return err
		}
		loader := strings.TrimRight(string(name), "\x00")
		if _, err := os.Stat(loader); err == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(loader), 0o755); err != nil {
			return err
		}
		err = os.Symlink(filepath.Join(libraries, filepath.Base(loader)), loader)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link the dynamic loader: %w", err)
		}
	}
	return nil
}
