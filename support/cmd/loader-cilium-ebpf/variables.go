// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// setVariable sets a global variable to the value that a text stands for, and tells whether the
// object has such a variable.
func setVariable(spec *ebpf.CollectionSpec, name, text string) (exists bool, err error) {
	if variable := spec.Variables[name]; variable != nil {
		var kind btf.Type
		if variable.Type != nil {
			kind = variable.Type.Type
		}
		value, err := encode(kind, int(variable.Size()), text)
		if err != nil {
			return true, err
		}
		return true, variable.Set(value)
	}
	// The library leaves out variables that are static in C, but BTF has them.
	for _, m := range spec.Maps {
		section, ok := m.Value.(*btf.Datasec)
		if !ok || len(m.Contents) != 1 {
			continue
		}
		data, ok := m.Contents[0].Value.([]byte)
		if !ok {
			continue
		}
		for _, entry := range section.Vars {
			variable, ok := entry.Type.(*btf.Var)
			if !ok || variable.Name != name || int(entry.Offset+entry.Size) > len(data) {
				continue
			}
			value, err := encode(variable.Type, int(entry.Size), text)
			if err != nil {
				return true, err
			}
			data = append([]byte(nil), data...)
			copy(data[entry.Offset:], value)
			m.Contents[0].Value = data
			return true, nil
		}
	}
	return false, nil
}

// encode returns the bytes of a value of `size` bytes. The text is a number, `true` or `false`, or
// the name of an enumeration's value. For an array of char, it is the array's text; for another
// array, it is values separated by commas. Without a type (nil), it is a number.
func encode(kind btf.Type, size int, text string) ([]byte, error) {
	if kind == nil {
		return encodeInteger(size, false, true, text)
	}
	switch t := btf.UnderlyingType(kind).(type) {
	case *btf.Int:
		switch {
		case t.Encoding == btf.Bool && (text == "true" || text == "false"):
			return []byte{map[string]byte{"true": 1, "false": 0}[text]}, nil
		case t.Encoding == btf.Bool:
			value, err := encodeInteger(size, false, false, text)
			if err == nil && value[0] > 1 {
				err = errors.New("expected true or false")
			}
			return value, err
		}
		return encodeInteger(size, t.Encoding == btf.Signed, false, text)
	case *btf.Enum:
		for _, value := range t.Values {
			if value.Name == text {
				return nativeEndian(size, value.Value), nil
			}
		}
		return encodeInteger(size, t.Signed, false, text)
	case *btf.Float:
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, errors.New("expected a number")
		}
		if size == 4 {
			return nativeEndian(size, uint64(math.Float32bits(float32(value)))), nil
		}
		return nativeEndian(size, math.Float64bits(value)), nil
	case *btf.Array:
		return encodeArray(t, size, text)
	}
	return nil, fmt.Errorf("a variable of type %s can't be set", kind)
}

func encodeArray(t *btf.Array, size int, text string) ([]byte, error) {
	element, err := btf.Sizeof(t.Type)
	if err != nil || element == 0 {
		return nil, fmt.Errorf("an array of %s can't be set", t.Type)
	}
	result := make([]byte, 0, size)
	if kind, ok := btf.UnderlyingType(t.Type).(*btf.Int); ok && element == 1 && isText(kind) {
		result = append(result, text...)
	} else {
		for word := range strings.SplitSeq(text, ",") {
			value, err := encode(t.Type, element, strings.TrimSpace(word))
			if err != nil {
				return nil, err
			}
			result = append(result, value...)
		}
	}
	if len(result) > size {
		return nil, fmt.Errorf("it has room for %d", size/element)
	}
	return append(result, make([]byte, size-len(result))...), nil
}

func isText(kind *btf.Int) bool { return kind.Encoding == btf.Char || kind.Name == "char" }

// encodeInteger encodes a number as C writes it, such as 10, -1 or 0x10. An unsigned number may be
// negative only if allowNegative is set.
func encodeInteger(size int, signed, allowNegative bool, text string) ([]byte, error) {
	switch size {
	case 1, 2, 4, 8:
	default:
		return nil, fmt.Errorf("a variable of %d bytes can't be set without BTF", size)
	}
	if signed || allowNegative && strings.HasPrefix(text, "-") {
		value, err := strconv.ParseInt(text, 0, size*8)
		if err != nil {
			return nil, integerError(size, true, err)
		}
		return nativeEndian(size, uint64(value)), nil
	}
	value, err := strconv.ParseUint(text, 0, size*8)
	if err != nil {
		return nil, integerError(size, false, err)
	}
	return nativeEndian(size, value), nil
}

func integerError(size int, signed bool, err error) error {
	kind := "an unsigned number"
	if signed {
		kind = "a number"
	}
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("expected %s of %d bits", kind, size*8)
	}
	return fmt.Errorf("expected %s", kind)
}

// nativeEndian encodes a value for eBPF on this machine: the library refuses programs of objects of
// the other byte order.
func nativeEndian(size int, value uint64) []byte {
	whole := binary.NativeEndian.AppendUint64(nil, value)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 { // big-endian: the low bytes come last
		return whole[len(whole)-size:]
	}
	return whole[:size]
}
