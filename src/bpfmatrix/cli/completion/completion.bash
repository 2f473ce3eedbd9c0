# Completion for bpfmatrix, and for invoke in projects with its tasks. It needs bash 4.4 or newer.

_bpfmatrix_complete() {
	local line word found
	mapfile -t found < <(
		BPFMATRIX_COMPLETE=bash COMP_LINE=${COMP_LINE:0:COMP_POINT} COMP_WORDBREAKS=$COMP_WORDBREAKS \
			"$1" --complete -- "${COMP_WORDS[@]}" 2>/dev/null
	)
	# Tasks of other projects come from invoke itself, which gives all of them.
	word=${2#[\"\']}
	COMPREPLY=()
	for line in "${found[@]}"; do
		[[ $line == "$word"* ]] && COMPREPLY+=("$line")
	done
}

complete -o bashdefault -o default -F _bpfmatrix_complete bpfmatrix invoke inv
