// SPDX-License-Identifier: Apache-2.0

// Package loaderprotocol has the messages between bpfload and a loader. docs/loaders.md describes
// them.
package loaderprotocol

// The kinds of requests.
const (
	Start  = "start"
	Open   = "open"
	Load   = "load"
	Attach = "attach"
)

// A LogLevel says how much the verifier writes to its log.
type LogLevel string

const (
	LogStats LogLevel = "stats" // a few lines of statistics
	LogPath  LogLevel = "path"  // the path to the rejection
	LogAll   LogLevel = "all"   // every instruction as often as the verifier walks it
)

// RepliesDescriptor is the file descriptor to which a loader writes its replies.
const RepliesDescriptor = 3

// A Request is one line on the loader's standard input.
type Request struct {
	Request  string            `json:"request"`
	Objects  []string          `json:"objects,omitempty"`
	Object   string            `json:"object,omitempty"`
	Set      map[string]string `json:"set,omitempty"`
	MapSizes map[string]uint32 `json:"map_sizes,omitempty"` // in entries
	Program  string            `json:"program,omitempty"`
	Log      LogLevel          `json:"log,omitempty"`
}

// A Reply is one line that a loader writes. The last reply to a request has Done.
type Reply struct {
	Loader   string    `json:"loader,omitempty"`
	Version  string    `json:"version,omitempty"`
	Programs []Program `json:"programs,omitempty"`
	Set      []string  `json:"set,omitempty"`
	MapSizes []string  `json:"map_sizes,omitempty"`
	Usage    string    `json:"usage,omitempty"`
	Failure  *Failure  `json:"failure,omitempty"`
	Map      *Map      `json:"map,omitempty"`
	Result   *Result   `json:"result,omitempty"`
	Done     bool      `json:"done,omitempty"`
}

// A Program is a program of an object, in the reply to Open.
type Program struct {
	Name     string `json:"name"`
	Section  string `json:"section,omitempty"`
	Type     string `json:"type,omitempty"`
	AttachTo string `json:"attach_to,omitempty"`
	Optional bool   `json:"optional,omitempty"`
}

// A Map is a map of an object: one that was made, or, in a Failure, one that could not be made.
type Map struct {
	Name        string  `json:"name"`
	Type        string  `json:"type,omitempty"`
	Entries     uint32  `json:"entries,omitempty"`
	MemoryBytes *uint64 `json:"memory_bytes,omitempty"`
}

// A Result is the reply to Load and Attach.
type Result struct {
	Loaded          bool     `json:"loaded"`
	Attached        *bool    `json:"attached,omitempty"`
	Seconds         float64  `json:"seconds,omitempty"`
	Instructions    *uint64  `json:"instructions,omitempty"`
	TranslatedBytes *uint64  `json:"translated_bytes,omitempty"`
	JitedBytes      *uint64  `json:"jited_bytes,omitempty"`
	MemoryBytes     *uint64  `json:"memory_bytes,omitempty"`
	Calls           [][]int  `json:"calls,omitempty"`
	LineInfo        []Line   `json:"line_info,omitempty"`
	Note            string   `json:"note,omitempty"`
	Failure         *Failure `json:"failure,omitempty"`
	Log             string   `json:"log,omitempty"`
}

// A Line is the line of C that the instructions from Insn on were compiled from.
type Line struct {
	Insn int    `json:"insn"`
	File string `json:"file"`
	Line uint32 `json:"line"`
	Text string `json:"text"`
}

// The steps in which something can fail.
const (
	StepOpen     = "open"
	StepBTF      = "btf"
	StepMap      = "map"
	StepRelocate = "relocate"
	StepTarget   = "target"
	StepLoad     = "load"
	StepAttach   = "attach"
)

// A Failure says why an object could not be opened, or a program not be loaded or attached.
type Failure struct {
	Step          string   `json:"step"`
	Errno         string   `json:"errno,omitempty"`
	Words         []string `json:"words,omitempty"`
	Map           *Map     `json:"map,omitempty"`
	TypeSupported *bool    `json:"type_supported,omitempty"`
	Missing       *Missing `json:"missing,omitempty"`
}

// The kinds of things that can be missing.
const (
	MissingKernelBTF     = "kernel-btf"
	MissingObjectBTF     = "object-btf"
	MissingKsym          = "ksym"
	MissingKfunc         = "kfunc"
	MissingKconfig       = "kconfig"
	MissingKconfigFile   = "kconfig-file"
	MissingType          = "type"
	MissingTarget        = "target"
	MissingTargetProgram = "target-program"
	MissingSection       = "section"
	MissingHelper        = "helper" // its name is its number
)

// Missing is what the library knows to be missing.
type Missing struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
}
