#compdef bpfmatrix invoke inv
# Completion for bpfmatrix, and for invoke in projects with its tasks.

_bpfmatrix() {
    local line
    local -a found
    for line in ${(f)"$(BPFMATRIX_COMPLETE=zsh $words[1] --complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)"}; do
        # _describe takes the text up to the first colon as the candidate.
        found+=("${${line%%$'\t'*}//:/\\:}:${${line#*$'\t'}#$line}")
    done
    (( $#found )) && _describe -V 'bpfmatrix' found || _files
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _bpfmatrix "$@"
else
    compdef _bpfmatrix bpfmatrix invoke inv
fi
