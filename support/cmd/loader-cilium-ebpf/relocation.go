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

// The library has no other way to a relocation's fields than its text:
// CORERelocation(byte_off, Struct:"task_struct"[0:3], local_id=12).
var relocationText = regexp.MustCompile(`^CORERelocation\((\w+), .*\[([\d:]*)\], local_id=(\d+)\)$`)

// relocationTarget returns the type, field or enum value that the CO-RE relocation of an
// instruction refers to, such as "struct task_struct.pid". It is empty if the instruction has no
// relocation.
func relocationTarget(
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
			return fmt.Sprintf("value %s of %s", withoutFlavor(value.Values[accessor[0]].Name), typeName(local))
		}
	}
	return typeName(local) + memberPath(local, accessor[1:])
}

// memberPath returns the names of members and the indices of array elements that an accessor leads
// through, such as ".se.load" or ".comm[3]". The accessor is given without its first index, which
// is that of a pointer to the type.
func memberPath(local btf.Type, accessor []int) string {
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
	name := withoutFlavor(t.TypeName())
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

// withoutFlavor returns a name without its flavor: the suffix after ___, which CO-RE ignores.
func withoutFlavor(name string) string {
	if at := strings.LastIndex(name, "___"); at > 0 {
		return name[:at]
	}
	return name
}
