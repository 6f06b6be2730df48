# Completion of keyctl-ns for bash. The program itself says what may follow.

_keyctl_ns() {
    # bash ends words at characters that are parts of ours (: = @); they are put together again from
    # the line up to the cursor: a word goes on where no blank stands before the next piece.
    local line=${COMP_LINE:0:COMP_POINT} piece rest i
    local -a words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        rest=${line#"${line%%[![:space:]]*}"}
        if [[ ${#words[@]} -eq 0 || $rest != "$line" ]]; then words+=(""); fi
        [[ $rest == "$piece"* ]] || piece=$rest
        words[${#words[@]}-1]+=$piece
        line=${rest#"$piece"}
    done
    local current=${words[${#words[@]}-1]}

    # What bash is going to replace begins behind the last of these characters, and with it if it is @.
    local breaks="" kept="" c
    for c in : = @; do
        if [[ $COMP_WORDBREAKS == *"$c"* ]]; then breaks+=$c; fi
    done
    if [[ -n $breaks ]]; then
        kept=${current%"${current##*["$breaks"]}"}
        kept=${kept%@}
    fi

    # By its name, not as it was typed: nothing is executed from a directory before Enter is pressed.
    local value remark name action
    COMPREPLY=()
    while IFS=$'\t' read -r value remark; do
        case $value in
            :files | :commands)
                action=-f
                if [[ $value == :commands ]]; then action=-c; fi
                compopt -o filenames 2>/dev/null
                while IFS= read -r name; do
                    name=$remark$name
                    COMPREPLY+=("${name#"$kept"}")
                done < <(compgen "$action" -- "${current#"$remark"}")
                ;;
            *) COMPREPLY+=("${value#"$kept"}") ;;
        esac
    done < <(keyctl-ns __complete $((${#words[@]} - 1)) "${words[@]}" 2>/dev/null)

    # A container, to be followed by its key, or an option, to be followed by its value.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

complete -F _keyctl_ns keyctl-ns
