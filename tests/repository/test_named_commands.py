"""Proves that the commands and options that messages, help, docstrings, sentences and tables name are those of `cavsync`."""

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from support.documents.named_commands import Text, literals, texts
from support.documents.pages import PAGES, ROOT
from typer.main import get_command

from cavsync.cli.main import app
from cavsync.train.huggingface.card import COMMANDS

COMMAND_LINE: Any = get_command(app)
UsageError: Any = typer.BadParameter.__base__  # Typer does not export it
TEXTS = texts()
# Options of docker and torchrun, which messages name without backticks.
FOREIGN = {"--ipc", "--shm-size", "--nproc-per-node"}
BENCHMARK = re.compile(r"python -m benchmarks\.([a-z_]+)((?: +(?!python )[^\s`#|]+)*)")


def commands_below(command: Any) -> Iterator[Any]:
    if not hasattr(command, "commands"):
        yield command
    for inner in getattr(command, "commands", {}).values():
        yield from commands_below(inner)


def options_of(command: Any) -> set[str]:
    """Of a command, or of all commands of a group."""
    found = {"--help"}
    for one in commands_below(command):
        for parameter in one.params:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def is_placeholder(word: str) -> bool:
    return word.isupper() or "..." in word or "…" in word or "FILLED" in word or "=" in word


def fault(words: list[str]) -> str | None:
    """Why `cavsync WORDS` is none of the command line; None where it is one, or the beginning of one."""
    command, rest = COMMAND_LINE, list(words)
    while (
        rest and hasattr(command, "commands") and not rest[0].startswith("-") and not is_placeholder(rest[0])
    ):
        if rest[0] not in command.commands:
            return f"there is no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands") or "..." in rest or "…" in rest:
        unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - options_of(command)
        return f"there is no option {', '.join(sorted(unknown))}" if unknown else None
    try:
        command.make_context("cavsync", list(rest))
    except UsageError as error:
        message: str = error.format_message()
        values = [word for word in rest if not word.startswith("--")]
        is_value_open = "Invalid value" in message and any(map(is_placeholder, values))
        # A sentence need not name every argument, nor every value.
        if not is_value_open and "issing " not in message and "requires an argument" not in message:
            return message
    return None


def is_command(words: list[str]) -> bool:
    """Whether words in backticks mean a command without its `cavsync`, such as `eval compare A B`."""
    first, *rest = words or [""]
    command = COMMAND_LINE.commands.get(first)
    if command is None or not rest:
        return False
    return rest[0] in getattr(command, "commands", {}) or any(word.startswith("--") for word in rest)


def faults_of(text: Text) -> Iterator[str]:
    for choices in text.quoted():
        is_whole = choices[0][:1] == ["cavsync"]
        for words in choices if is_whole or any(map(is_command, choices)) else []:
            if (why := fault(words[is_whole:])) is not None:
                yield f"{text.origin}: `{' '.join(words)}`: {why}"
    for words in text.bare():
        if words[0] in COMMAND_LINE.commands:
            command = [word for word in words if word.startswith("--") or words.index(word) < 2]
            if (why := fault([*command, "..."])) is not None:
                yield f"{text.origin}: cavsync {' '.join(words)}: {why}"


def test_every_command_that_a_text_names_is_one_of_the_command_line() -> None:
    assert [why for text in TEXTS for why in faults_of(text)] == []


def test_every_option_that_a_text_names_is_one_of_some_command() -> None:
    known = options_of(COMMAND_LINE) | FOREIGN
    read = [text for text in TEXTS if not text.origin.startswith(("benchmarks", "docker", "Makefile"))]
    unknown = {
        f"{text.origin}: {option}" for text in read for option in text.options(COMMAND_LINE.commands) - known
    }
    assert unknown == set()


def named_benchmarks() -> list[tuple[str, set[str]]]:
    """File and options of each benchmark's command on a page or in a text, blocks included."""
    sources = [(ROOT / page).read_text() for page in PAGES] + [text.content for text in TEXTS]
    return [
        (benchmark_file(name, rest.split()), set(re.findall(r"--[a-z][a-z0-9-]*", rest)))
        for source in sources
        for name, rest in BENCHMARK.findall(source)
    ]


def benchmark_file(name: str, words: list[str]) -> str:
    """The module with its `main`: of a package the one that the first word names, as in `benchmarks.duplicates rate`."""
    names = (name, *(f"{name}/{word}" for word in words[:1]), f"{name}/__main__")
    return next(one for one in names if (ROOT / "benchmarks" / f"{one}.py").is_file())


def options_of_benchmark(name: str) -> set[str]:
    """The parameters of its `main`, of which Typer makes the options; importing all of them would take half a minute."""
    tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text())
    (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    arguments = [*main.args.args, *main.args.kwonlyargs]
    return {f"--{argument.arg.replace('_', '-')}" for argument in arguments}


def test_every_benchmark_that_is_named_has_the_options_that_it_is_given() -> None:
    named = named_benchmarks()
    assert len({name for name, _ in named}) > 10
    assert {(name, *sorted(options - options_of_benchmark(name))) for name, options in named} == {
        (name,) for name, _ in named
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("run `cavsync eval retrieve`", "there is no command 'retrieve'"),
        ("run cavsync eval retrieve, then look", "there is no command 'retrieve'"),
        ("`eval retrieval|segment`", "there is no command 'segment'"),
        ("`cavsync prepare ... --retry`", "there is no option --retry"),
        ("`cavsync train --steep 3`", "there is no option --steep"),
        ("`embed --step-s 1`", "No such option: --step-s"),
        ("(cavsync search AUDIO --in-front image)", "there is no option --in-front"),
        ("`cavsync data status DATA MORE`", "unexpected extra argument"),
        ("`cavsync train pretrain --device abacus`", "Invalid value for '--device'"),
        ("`data stats\\|shows DATA`", "there is no command 'shows'"),
    ],
)
def test_a_wrong_command_in_a_text_would_fail(content: str, reason: str) -> None:
    assert any(reason in why for why in faults_of(Text("page", content)))


def test_shortened_commands_and_prose_are_none() -> None:
    for content in (
        "`cavsync prepare folder`",
        "`cavsync train`",
        "cavsync downloads none",
        "`train --steps N`",
        "`data.keep`",
    ):
        assert list(faults_of(Text("page", content))) == []


def test_model_cards_name_the_command_of_every_kind_of_report() -> None:
    sources = [path.read_text() for path in sorted((ROOT / "train").rglob("*.py"))]
    kinds = {kind for source in sources for kind in re.findall(r'evaluation="([a-z-]+)"', source)}
    assert {"retrieval", "synchrony-video"} <= kinds
    for kind in kinds:
        assert fault(COMMANDS.get(kind, f"eval {kind}").split()) is None, kind


def test_variables_of_style_sheets_are_no_options() -> None:
    text = Text(
        "page",
        "--ink: black; color: var(--ink), but `--steep 3`, and --deep, `hf upload --repo-type dataset`",
    )
    assert text.options(COMMAND_LINE.commands) == {"--steep", "--deep"}


def test_f_strings_are_read_whole() -> None:
    source = 'f"run `cavsync data validate {folder} --fix`: " "it removes them"'
    assert list(literals(source)) == [(1, "run `cavsync data validate FILLED --fix`: it removes them")]


def test_texts_of_every_kind_are_read() -> None:
    named = [text.origin for text in TEXTS if any(choices[0][:1] == ["cavsync"] for choices in text.quoted())]
    for beginning in ("README.md", "CHANGELOG.md", "docs/", "cli/", "train/", "pipeline/", "model/"):
        assert any(origin.startswith(beginning) for origin in named), beginning
    assert len(named) > 100
