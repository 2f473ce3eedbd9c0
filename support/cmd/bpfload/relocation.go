// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// The library's text is the only way to a relocation's fields:
// CORERelocation(byte_off, Struct:"task_struct"[0:3], local_id=12).
var relocationText = regexp.MustCompile(`^CORERelocation\((\w+), .*\[([\d:]*)\], local_id=(\d+)\)$`)

// relocationAt says what of the kernel the CO-RE relocation of an instruction is about, such as
// "struct task_struct.pid (field offset)". It is empty where there is none.
func relocationAt(
	types *btf.Spec, instructions asm.Instructions, offset asm.RawInstructionOffset,
) string {
	for iter := instructions.Iterate(); iter.Next(); {
		if iter.Offset != offset {
			continue
		}
		if relocation := btf.CORERelocationMetadata(iter.Ins); relocation != nil {
			return describeRelocation(types, relocation.String())
		}
	}
	return ""
}

func describeRelocation(types *btf.Spec, text string) string {
	match := relocationText.FindStringSubmatch(text)
	if match == nil || types == nil {
		return text
	}
	id, _ := strconv.ParseUint(match[3], 10, 32)
	local, err := types.TypeByID(btf.TypeID(id))
	if err != nil {
		return text
	}
	var accessor []int
	for word := range strings.SplitSeq(match[2], ":") {
		index, err := strconv.Atoi(word)
		if err != nil {
			return text
		}
		accessor = append(accessor, index)
	}
	if value, ok := btf.UnderlyingType(local).(*btf.Enum); ok && strings.HasPrefix(match[1], "enumval") {
		if accessor[0] < len(value.Values) {
			return fmt.Sprintf("value %s of %s", essential(value.Values[accessor[0]].Name), typeName(local))
		}
	}
	return typeName(local) + members(local, accessor[1:])
}

// members spells an accessor: the first index is that of a pointer to the type, the others are those of
// members and of elements.
func members(local btf.Type, accessor []int) string {
	var result strings.Builder
	for _, index := range accessor {
		var all []btf.Member
		switch t := btf.UnderlyingType(local).(type) {
		case *btf.Struct:
			all = t.Members
		case *btf.Union:
			all = t.Members
		case *btf.Array:
			fmt.Fprintf(&result, "[%d]", index)
			local = t.Type
			continue
		}
		if index >= len(all) {
			return result.String()
		}
		if name := all[index].Name; name != "" {
			result.WriteString("." + name)
		}
		local = all[index].Type
	}
	return result.String()
}

func typeName(t btf.Type) string {
	name := essential(t.TypeName())
	switch t.(type) {
	case *btf.Struct:
		return "struct " + name
	case *btf.Union:
		return "union " + name
	case *btf.Enum:
		return "enum " + name
	}
	return name
}

// essential returns a name without the suffix after ___ that is not part of it for the kernel.
func essential(name string) string {
	if at := strings.LastIndex(name, "___"); at > 0 {
		return name[:at]
	}
	return name
}
