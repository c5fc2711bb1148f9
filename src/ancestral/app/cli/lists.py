"""Options that take several values: separated by commas, repeated, or simply one after the other."""

from __future__ import annotations

import re

COMMAS = {"--models", "--features", "--seeds", "--class", "--interpolate", "--interval", "--rows"}
CONDITIONS = {"--condition": {"train", "compare"}}  # elsewhere it is NAME=VALUE, and repeated
REPEATED = {"--prompt", "--number", "--track", "--condition"}


def gathered(arguments: list[str]) -> list[str]:
    """Return the arguments with all values of an option in one: `--models vae gan` as `--models vae,gan`.

    The words after such an option are its values only if the command already has its subject, as in `compare digits --models
    vae gan`. Before the subject, as in `compare --models vae digits`, an option has one value.
    """
    command, *rest = arguments or [""]
    subjects = 2 if command == "draw" else 1
    found, i = [command] if arguments else [], 0
    while i < len(rest):
        word = rest[i]
        found.append(word)
        i += 1
        commas = word in COMMAS or command in CONDITIONS.get(word, ())
        if not _value(word) and (commas or word in REPEATED):
            values = rest[i : i + 1]
            while subjects <= 0 and i + len(values) < len(rest) and _belongs(rest[i + len(values)], command):
                values.append(rest[i + len(values)])
            i += len(values)
            found += [",".join(values)] * bool(values) if commas else [w for v in values for w in (word, v)][1:]
        elif _value(word):
            subjects -= i < 2 or _value(rest[i - 2])  # a word after an option may be the option's value
    return found


def _value(word: str) -> bool:
    return not word.startswith("-") or re.match(r"-\.?\d", word) is not None


def _belongs(word: str, command: str) -> bool:
    return _value(word) and not (command == "train" and "=" in word)  # section.name=value is a setting
