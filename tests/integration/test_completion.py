"""Completion of command lines, as the shells ask for it: the printed scripts, sourced by bash, zsh and fish themselves."""
import os
import shlex
import shutil
import subprocess
import time

import pytest

from agent import AGENT
from conftest import BUILD, MUSTER, MUSTERD

SIM = BUILD / "src" / "muster-sim"
SHELLS = ("bash", "zsh", "fish")

# What the shells' own machinery would do with the candidates is left out: each script prints them, one a line.
ASK = {
    "bash": """
        complete() {{ last=("$@"); }}
        source {script}
        [[ ${{last[*]}} == "-F _{name} {name}" ]] || exit 9
        unset -f complete
        COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _{name}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{ [[ "$*" == "_{name} {name}" ]] || exit 9 }}
        _files() {{ print -l -- files${{1-}} }}
        compadd() {{ [[ "$*" == "-l -d shown -a candidates" ]] || exit 9; print -l -- "${{(@)candidates}}" }}
        source {script}
        words=({words}); CURRENT=$#words
        _{name} || true  # nothing to offer
    """,
    "fish": """
        set -gx PATH {directory} $PATH
        source {script}
        complete -C {line}
    """,
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """{(shell, program): its script}"""
    directory = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        for program in (MUSTER, MUSTERD, AGENT, SIM):
            done = subprocess.run([program, "completion", shell], capture_output=True, text=True, check=True)
            (directory / f"{program.name}.{shell}").write_text(done.stdout, encoding="utf-8")
    return directory


def ask(scripts, shell, program, *words, cwd=None, env=None):
    """The candidates for the last of the words."""
    if not shutil.which(shell):
        pytest.fail(f"{shell} is not installed")
    script = ASK[shell].format(script=scripts / f"{program.name}.{shell}", name=program.name, words=" ".join(shlex.quote(w) for w in [str(program), *words]),
                               directory=program.parent, line=shlex.quote(" ".join([program.name, *words])))
    bare = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "--no-config", "-c"]}[shell]
    done = subprocess.run([*bare, script], capture_output=True, text=True, cwd=cwd, timeout=30, check=False,
                          env={**{k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}, "HOME": str(scripts), **(env or {})})
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr)
    return [line.split("\t")[0] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
def test_nouns_verbs_options_and_choices(scripts, shell):
    def of(*words):
        return ask(scripts, shell, MUSTER, *words)

    assert {"account", "key", "root", "device", "token", "audit", "whoami"} <= set(of(""))
    assert of("de") == ["device"]
    assert sorted(of("key", "")) == ["blacklist", "create", "devices", "install", "list", "set", "show"]
    assert of("key", "bl") == ["blacklist"]
    assert "--max-devices" in of("key", "create", "--") and "--account" in of("key", "create", "--") and "--json" in of("key", "create", "--")
    assert of("key", "create", "--max") == ["--max-devices"]
    assert sorted(of("account", "create", "x", "--kind", "")) == ["production", "test"]
    assert of("account", "create", "x", "--json", "--kind", "p") == ["production"]
    assert of("device", "list", "--state", "qu") == ["quarantined"]
    assert of("nothing", "") == [] and of("whoami", "") == []
    assert sorted(of("account", "set", "x", "--approval", "")) == ["no", "yes"]


@pytest.mark.parametrize("shell", SHELLS)
def test_musterd(scripts, shell):
    def of(*words):
        return ask(scripts, shell, MUSTERD, *words)

    assert {"init", "serve", "vault", "token", "clock"} <= set(of(""))
    assert "self-test-confinement" not in of("") and "help-man" not in of("")
    assert sorted(of("vault", "")) == ["export", "rekey", "status"]
    assert "--master-key" in of("init", "--") and "--config" not in of("init", "--")
    assert sorted(of("init", "--master-key", "")) == ["credential", "file", "passphrase"]
    assert sorted(of("completion", "")) == ["bash", "fish", "zsh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_muster_agent(scripts, shell):
    def of(*words):
        return ask(scripts, shell, AGENT, *words)

    assert {"provision", "run", "status", "check", "explain", "exec"} <= set(of("")) and "help-man" not in of("")
    assert of("pro") == ["provision"] and "--device-id-from" in of("provision", "--") and "--stay" not in of("provision", "--") and "--stay" in of("run", "--")
    assert sorted(of("provision", "--device-id-from", "")) == ["mac", "machine-id", "serial"]
    assert sorted(of("completion", "")) == ["bash", "fish", "zsh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_muster_sim(scripts, shell):
    def of(*words):
        return ask(scripts, shell, SIM, *words)

    assert sorted(of("")) == ["enrol", "poll", "renew"] and of("enrol", "po") == ["poll"]
    assert "--misbehave" in of("enrol", "--") and sorted(of("enrol", "--method", "")) == ["devices", "est"]
    assert "storm=" in of("poll", "--misbehave", "st")
    assert sorted(of("completion", "")) == ["bash", "fish", "zsh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_files(scripts, shell, tmp_path):
    (tmp_path / "root of mine.pem").write_text("x", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    found = ask(scripts, shell, MUSTER, "root", "upload", "", cwd=tmp_path)
    directories = ask(scripts, shell, MUSTER, "--data", "", cwd=tmp_path)
    if shell == "zsh":  # _files of its own
        assert found == ["files"] and directories == ["files-/"]
    else:
        assert {f.rstrip("/") for f in found} == {"root of mine.pem", "folder"}
        assert [d.rstrip("/") for d in directories] == ["folder"]


@pytest.mark.parametrize("shell", SHELLS)
def test_an_option_and_its_value_in_one_word(scripts, shell):
    if shell == "bash":  # which takes it apart at "="
        assert ask(scripts, shell, MUSTER, "device", "list", "--state", "=", "qu") == ["quarantined"]
        assert "active" in ask(scripts, shell, MUSTER, "device", "list", "--state", "=")
    else:
        assert ask(scripts, shell, MUSTER, "device", "list", "--state=qu") == ["--state=quarantined"]


@pytest.mark.parametrize("shell", SHELLS)
def test_names_that_the_server_knows(scripts, shell, server):
    if "comp-lete" not in [a["id"] for a in server.muster("account", "list")]:
        server.account("comp-lete")
        server.key("comp-lete", "--name", "spring $(touch pwned) 'sale'")
        server.root("comp-lete")
    data = ["--data", str(server.dir)]
    roots = sorted(r["id"] for r in server.muster("root", "list", "--account", "comp-lete"))
    quoted = {"bash": "spring\\ \\$\\(touch\\ pwned\\)\\ \\'sale\\'"}.get(shell, "spring $(touch pwned) 'sale'")

    def of(*words, **options):
        return ask(scripts, shell, MUSTER, *words, cwd=server.dir.parent, **options)

    assert of(*data, "account", "show", "comp") == ["comp-lete"]
    assert of(*data, "device", "list", "--account", "comp") == ["comp-lete"]
    assert of(*data, "token", "create", "--account", "comp") == ["comp-lete"]
    assert sorted(of(*data, "root", "show", "--account", "comp-lete", "")) == roots
    assert sorted(of("root", "show", "--account", "comp-lete", *data, "")) == roots
    assert of(*data, "key", "show", "--account", "comp-lete", "sp") == [quoted]
    assert not (server.dir.parent / "pwned").exists()
    # A name that is to be made is not one that exists; objects of no account are not guessed.
    assert of(*data, "account", "create", "") == [] and of(*data, "root", "show", "") == []
    env = {"MUSTER_URL": server.admin_url, "MUSTER_TOKEN_FILE": str(server.dir / "admin.token"), "MUSTER_CA": str(server.dir / "server-ca.pem")}
    assert of("account", "show", "comp", env=env) == ["comp-lete"]


def test_a_server_that_does_not_answer_costs_two_seconds_and_says_nothing(scripts, fresh):
    import socket

    s = fresh(start=False)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        (s.dir / "admin.url").write_text(f"https://127.0.0.1:{mute.getsockname()[1]}\n", encoding="utf-8")
        (s.dir / "admin.token").chmod(0o600)
        begin = time.monotonic()
        assert ask(scripts, "bash", MUSTER, "--data", str(s.dir), "account", "show", "") == []
        assert 1 < time.monotonic() - begin < 6
    assert ask(scripts, "bash", MUSTER, "--data", "/nonexistent", "account", "show", "") == []


def test_the_shell_has_to_be_one_of_three():
    for program in (MUSTER, MUSTERD):
        for words in (["completion"], ["completion", "ksh"], ["completion", "bash", "more"]):
            done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (2, "") and "bash|zsh|fish" in done.stderr or "one word too many" in done.stderr, (program, words, done)
