"""The command line's tree as a completion script: for bash, and for zsh. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from .commands import Command, Offer, Option

_BASH = """\
# Completion for bash, written by `yukimi completion bash`.

_yukimi() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' config='' offer='' word i count=0
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ $word == --config ]] && config=${COMP_WORDS[i + 1]}
        case "$command $word" in
@VALUES@
                ((i++)); continue ;;
        esac
        [[ $word == -* ]] && continue
        case "$command $word" in
@COMMANDS@
                command+=" $word"; count=0 ;;
            *) ((count++)) ;;
        esac
    done
    case "$command $previous" in
@TAKES@
        *)
            if [[ $current == -* ]]; then
                case "$command" in
@OPTIONS@
                esac
            else
                case "$command:$count" in
@ARGUMENTS@
                esac
            fi ;;
    esac
    case $offer in
        '') ;;
        files)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        sensors | drivers)
            offer=$("${COMP_WORDS[0]}" completion "$offer" \\
                ${config:+--config "$config"} 2>/dev/null)
            mapfile -t COMPREPLY < <(compgen -W "$offer" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$offer" -- "$current") ;;
    esac
}

complete -F _yukimi yukimi
"""


def bash(root: Command) -> str:
    """Return the script for bash."""
    commands = list(root.all())
    taking = [(each, option) for each in commands for option in each.options if option.takes]
    values = [f"{_bash_path(each)} {name}" for each, option in taking for name in option.names]
    takes = [
        ([f"{_bash_path(each)} {name}" for name in option.names], _bash_offer(option.takes or ""))
        for each, option in taking
    ]
    options = [
        ([_bash_path(each)], " ".join(name for option in each.options for name in option.names))
        for each in commands
    ]
    arguments = [
        ([f"{_bash_path(each)}:{at}"], _bash_offer(offer))
        for each in commands
        for at, offer in enumerate(
            [tuple(below.path[-1] for below in each.below)] if each.below else each.arguments
        )
    ]
    filled = {
        "@VALUES@": _bash_pattern(values, 12),
        "@COMMANDS@": _bash_pattern((_bash_path(each) for each in commands if each.path), 12),
        "@TAKES@": _bash_cases(takes, 8),
        "@OPTIONS@": _bash_cases(options, 20),
        "@ARGUMENTS@": _bash_cases(arguments, 20),
    }
    script = _BASH
    for place, text in filled.items():
        script = script.replace(place, text)
    return script


def _bash_path(command: Command) -> str:
    return "".join(f" {name}" for name in command.path)


def _bash_offer(offer: Offer | str) -> str:
    if isinstance(offer, tuple):
        return " ".join(offer)
    return "" if offer == "nothing" else offer


def _bash_pattern(words: Iterable[str], indent: int) -> str:
    lines = " | \\\n".join(" " * indent + shlex.quote(word) for word in words)
    return f"{lines})"


def _bash_cases(cases: Iterable[tuple[list[str], str]], indent: int) -> str:
    return "\n".join(
        f"{' ' * indent}{' | '.join(map(shlex.quote, patterns))}) offer={shlex.quote(offer)} ;;"
        for patterns, offer in cases
    )


_ZSH = """\
#compdef yukimi
# Completion for zsh, written by `yukimi completion zsh`.

_yukimi_names() {
    local config=${opt_args[--config]}
    local -a names
    names=(${(f)"$(_call_program names yukimi completion $@[-1] ${config:+--config $config})"})
    compadd "${@[1,-2]}" -a names
}
"""


def zsh(root: Command) -> str:
    """Return the script for zsh."""
    functions = [_zsh_function(command) for command in root.all()]
    return "\n".join([_ZSH, *functions, '_yukimi "$@"'])


def _zsh_function(command: Command) -> str:
    name = "_".join(("_yukimi", *command.path))
    specs = [_zsh_option(option) for option in command.options]
    if not command.below:
        specs += [f"{at}:: :{_zsh_offer(offer)}" for at, offer in enumerate(command.arguments, 1)]
        return f"{name}() {{\n    typeset -A opt_args\n    _arguments \\\n{_zsh_lines(specs)}\n}}\n"
    specs += ["1: :->below", "*:: :->rest"]
    offers = [f"{below.path[-1]}:{_zsh_text(below.about, ':')}" for below in command.below]
    names = " | ".join(below.path[-1] for below in command.below)
    return (
        f"{name}() {{\n    local state\n    local -a offers\n    typeset -A opt_args\n"
        f"    offers=(\n{_zsh_lines(offers, more='')}\n    )\n"
        f"    _arguments -C \\\n{_zsh_lines(specs)}\n"
        f"    case $state in\n        below) _describe command offers ;;\n"
        f"        rest) case $words[1] in {names}) {name}_$words[1] ;; esac ;;\n    esac\n}}\n"
    )


def _zsh_option(option: Option) -> str:
    """Return a specification: names that exclude each other, what it is, what it takes."""
    names = " ".join(option.names)
    about = _zsh_text(option.about, "[]:")
    takes = "" if option.takes is None else f": :{_zsh_offer(option.takes)}"
    return "\n".join(f"({names}){name}[{about}]{takes}" for name in option.names)


def _zsh_lines(specs: Iterable[str], more: str = " \\") -> str:
    every = [each for spec in specs for each in spec.split("\n")]
    return f"{more}\n".join(f"        {shlex.quote(each)}" for each in every)


def _zsh_offer(offer: Offer) -> str:
    if isinstance(offer, tuple):
        return f"({' '.join(offer)})"
    return {"files": "_files", "nothing": " "}.get(offer, f"_yukimi_names {offer}")


def _zsh_text(text: str, special: str) -> str:
    for character in ("\\", *special):
        text = text.replace(character, f"\\{character}")
    return text
