"""docs/cli.md says everything that --help says. ``python tests/cli/test_docs.py`` writes its help texts anew."""

import re
from pathlib import Path

import pytest
import typer

from normexp.cli.app import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def commands(command=None, path="normexp"):
    """Every command by its full name."""
    command = command or typer.main.get_command(app)
    found = {path: command}
    for name, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, f"{path} {name}")
    return found


COMMANDS = commands()


def sections():
    """The page's sections by the command in their heading."""
    parts = re.split(r"^## `(normexp[^`]*)`$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def words(text):
    """The text without line breaks."""
    return " ".join(text.replace("\b", "").split())


def test_every_command_has_its_section_and_every_section_its_command():
    assert sections().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_argument_and_sentence_is_documented(name):
    section, command = words(sections()[name]), COMMANDS[name]
    assert words(command.help) in section
    for parameter in command.params:
        for option in parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]:
            assert option in section, f"{name}: {option} is not in docs/cli.md"
        assert words(parameter.help) in section, f"{name}: docs/cli.md says something else about {parameter.opts}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_shows_an_example(name):
    lines = [line.strip() for line in COMMANDS[name].help.splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("Example"))
    assert "normexp " in lines[start + 1]


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not hasattr(command, "commands")])
def test_every_example_is_a_command_that_exists(name):
    """Its options are parsed as they stand; the files in it need not exist."""
    import shlex

    for line in COMMANDS[name].help.splitlines():
        if line.strip().startswith("normexp "):
            arguments = shlex.split(line)[1:]
            command = COMMANDS["normexp"]
            while hasattr(command, "commands"):
                command = command.commands[arguments.pop(0)]
            command.make_context("normexp", arguments)


def help_text(name):
    """The help of a command, 100 columns wide."""
    names, parent, settings = name.split(), None, COMMANDS["normexp"].context_settings
    for i in range(len(names)):
        command = COMMANDS[" ".join(names[: i + 1])]
        parent = type(command).context_class(command, info_name=names[i], parent=parent, terminal_width=100, **settings)
    return command.get_help(parent).rstrip()


def write_page():
    """Put every help text in its place; what stands around them stays."""
    page = PAGE.read_text(encoding="utf-8")
    for name in COMMANDS:
        block = re.compile(rf"(^## `{name}`\n\n```text\n).*?(\n```$)", flags=re.MULTILINE | re.DOTALL)
        page, count = block.subn(lambda found, name=name: found[1] + help_text(name) + found[2], page)
        if count != 1:
            page += f"\n## `{name}`\n\n```text\n{help_text(name)}\n```\n"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_page()
