"""The manual pages: well-formed, and complete: every command, option, setting and variable of the environment stands in its page."""
import pathlib
import re
import subprocess

import pytest

from agent import AGENT
from conftest import BUILD, MUSTER, MUSTERD

PAGES = ("muster.1", "muster-agent.1", "muster-sim.1", "libmuster-agent.3", "musterd.8", "musterd.conf.5")
SOURCE = pathlib.Path(__file__).parents[2] / "src"


def run(*words):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)


def text(page):
    done = run("mandoc", "-T", "utf8", "-O", "width=500", BUILD / "doc" / "man" / page)
    return re.sub(r".\x08", "", done.stdout)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_no_fault(page):
    """But for empty paragraphs and long lines, which scdoc writes everywhere."""
    said = run("mandoc", "-T", "lint", "-W", "warning", BUILD / "doc" / "man" / page).stdout
    assert [line for line in said.splitlines() if "skipping paragraph macro" not in line] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_the_sections_of_a_manual(page):
    found = re.findall(r"^(\S.*\S)$", text(page), re.M)
    wanted = {"muster.1": ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"],
              "muster-agent.1": ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "CONFIGURATION", "FILES", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"],
              "muster-sim.1": ["NAME", "SYNOPSIS", "DESCRIPTION", "STEPS", "OPTIONS", "MISBEHAVIOUR", "REPORT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"],
              "libmuster-agent.3": ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE", "EXAMPLES", "SEE ALSO"],
              "musterd.8": ["NAME", "DESCRIPTION", "COMMANDS", "OPTIONS", "SIGNALS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"],
              "musterd.conf.5": ["NAME", "DESCRIPTION", "KEYS", "SEE ALSO"]}[page]
    assert [s for s in wanted if s not in found] == []


@pytest.mark.parametrize("program, page", [(MUSTER, "muster.1"), (MUSTERD, "musterd.8"), (AGENT, "muster-agent.1")])
def test_every_command_and_option_stands_in_it(program, page):
    manual, helped = text(page), run(program, "--help").stdout
    commands = re.findall(r"^  ([a-z][a-z-]*) +([a-z-]+(?: [a-z-]+)?(?=  ))? *\S", helped, re.M)
    assert len(commands) >= 5
    for noun, verb in commands:
        words = [noun, verb] if verb and run(program, noun, *verb.split(), "--help").stdout.startswith(f"{program.name} {noun} {verb}") else [noun]
        shown = run(program, *words, "--help").stdout
        assert shown.startswith(f"{program.name} {' '.join(words)}"), words
        assert re.search(rf"^ +(musterd )?{' '.join(words)}\b", manual, re.M), words
        for option in re.findall(r"^  (--[a-z-]+)", shown, re.M):
            assert option in manual, (words, option)


def test_every_step_and_option_of_the_simulation_stands_in_it():
    manual, helped = text("muster-sim.1"), run(BUILD / "src" / "muster-sim", "--help").stdout
    words = re.findall(r"^  (--[a-z-]+|[a-z-]+) ", helped + " ", re.M) + re.findall(r"^  (--[a-z-]+)$", helped, re.M)
    assert len(words) > 25 and [w for w in words if w not in manual] == []


def test_every_setting_stands_in_it(tmp_path):
    manual = text("musterd.conf.5")
    assert run(MUSTERD, "init", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0").returncode == 0
    keys = re.findall(r"^#? ?([a-z_]+)(?:\.\d+)? =", (tmp_path / "data" / "musterd.conf").read_text(encoding="utf-8"), re.M)
    assert len(set(keys)) >= 10
    for key in set(keys):
        assert re.search(rf"^ +{key}\b", manual, re.M), key


@pytest.mark.parametrize("folder, page", [("muster", "muster.1"), ("musterd", "musterd.8")])
def test_every_variable_of_the_environment_stands_in_it(folder, page):
    manual = text(page)
    names = {name for file in (SOURCE / folder).glob("*.c") for name in re.findall(r'getenv\("([A-Z_]+)"', file.read_text(encoding="utf-8"))}
    assert names and [n for n in names if n not in manual] == []
