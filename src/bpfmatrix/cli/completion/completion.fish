# Completion for bpfmatrix, and for invoke in projects with its tasks.

function __bpfmatrix_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (BPFMATRIX_COMPLETE=fish $words[1] --complete -- $words[2..-1] "$current" 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end

for program in bpfmatrix invoke inv
    complete --command $program --no-files --keep-order --arguments '(__bpfmatrix_complete)'
end
