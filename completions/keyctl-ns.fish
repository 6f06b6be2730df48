# Completion of keyctl-ns for fish. The program itself says what may follow.

function __keyctl_ns_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --cut-at-cursor --current-token)
    for entry in (keyctl-ns __complete (count $words) $words "$current" 2>/dev/null)
        switch $entry
            case ':files*'
                # The remark is what precedes the name in its word.
                set -l before (string split --max 1 \t -- $entry)[2]
                set -l name (string sub --start (math (string length -- "$before") + 1) -- "$current")
                __fish_complete_path "$name" | string replace --regex '^' -- "$before"
            case ':commands*'
                __fish_complete_command
            case '*'
                printf '%s\n' $entry
        end
    end
end

complete --command keyctl-ns --no-files --arguments '(__keyctl_ns_complete)'
