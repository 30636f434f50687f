"""`rlkit generate` is killed, stopped and robbed of its replicas; the file is whole in the end, and no process is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlkit.testing.tiny_model import tiny_model

pytestmark = pytest.mark.slow

ROWS = 90

HOLD = """\
import os, time

def hold(prompts):
    # While there is the file, the second half of the rows is not answered: a run is not over before it is looked at.
    while os.path.exists(os.environ["RLKIT_TEST_HOLD"]) and any(prompt.row_id >= 45 for prompt in prompts.prompts):
        time.sleep(0.01)
"""

SLOW_WRITER = """\
# The rows of a batch reach the file a few bytes at a time, so that a kill can fall into the middle of a line.
import io, sys, time
from pathlib import Path

plain_open = Path.open

class Trickle:
    def __init__(self, file):
        self.file = file

    def write(self, data):
        for start in range(0, len(data), 23):
            self.file.write(data[start:start + 23])
            self.file.flush()
            time.sleep(0.0005)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.file.close()

def slow_open(self, mode='r', *arguments, **options):
    file = plain_open(self, mode, *arguments, **options)
    return Trickle(file) if mode == 'ab' else file

Path.open = slow_open
from rlkit.cli.main import main
sys.exit(main())
"""

SLOW_ENGINE = """\
import os, signal, time
from hold import hold
from rlkit.testing.simulated_replicas import Faults, RowEngine

class Slow(RowEngine):
    def __init__(self, model):
        super().__init__(Faults())

    def generate(self, prompts, sampling):
        hold(prompts)
        time.sleep(0.02 * len(prompts))
        return super().generate(prompts, sampling)

class VerySlow(Slow):
    def generate(self, prompts, sampling):
        time.sleep(0.3 * len(prompts))
        return super().generate(prompts, sampling)

class Waits(Slow):
    def generate(self, prompts, sampling):
        while not os.path.exists("go"):
            time.sleep(0.01)
        return super().generate(prompts, sampling)

class Dies(Slow):
    def generate(self, prompts, sampling):
        if len(self.calls) + 1 > 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().generate(prompts, sampling)

class Killer(Slow):
    def generate(self, prompts, sampling):
        if any(prompt.row_id == 13 for prompt in prompts.prompts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(prompts, sampling)
"""


TALK = """\
import os, time
from hold import hold
from rlkit.rollout.tool_calls import ParsedMessage, ToolCall
from rlkit.testing.scripted_engine import ScriptedEngine

class Caller(ScriptedEngine):
    '''Two turns: a # is a call, then the number that was rolled. It writes down which process was asked about what.'''

    def __init__(self, model):
        def script(token_ids):
            seen = model.tokenizer.decode(token_ids, skip_special_tokens=False)
            said = "#" if seen.count("<|user|>") == 1 else seen.rpartition("<|user|>")[2][:1]
            return [*model.tokenizer.encode(said, add_special_tokens=False), model.tokenizer.eos_token_id]
        super().__init__(script)

    def generate(self, prompts, sampling):
        hold(prompts)
        time.sleep(0.01 * len(prompts))
        with open(os.environ["RLKIT_TEST_ASKED"], "a") as file:
            file.writelines(f"{os.getpid()} {name}\\n" for name in prompts.conversations)
        return super().generate(prompts, sampling)

class Hash:
    def parse(self, text):
        return ParsedMessage(text.replace("#", ""), (ToolCall("roll", {}),) if "#" in text else ())

def roll() -> int:
    '''Roll the dice.'''
    time.sleep(0.002)
    return 7
"""

TALK_TEMPLATE = (
    "{% for m in messages %}<|{{ 'user' if m.role == 'tool' else m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass
class Project:
    """A folder with prompts; every process that a command starts carries `mark` in its environment."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def output(self) -> Path:
        return self.folder / "answers.jsonl"

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    def start(self, *arguments: str, slow_writer: bool = False, **options: object) -> subprocess.Popen[str]:
        program = [str(self.folder / "slow_writer.py")] if slow_writer else ["-m", "rlkit"]
        command = [sys.executable, *program, "generate", "generate.toml", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain", "RLKIT_TEST_MARK": self.mark}
        environment["RLKIT_TEST_ASKED"] = str(self.folder / "asked.txt")
        environment["RLKIT_TEST_HOLD"] = str(self.hold)
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )  # type: ignore[call-overload, no-any-return]

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, out + err
        return err

    def rows(self) -> list[str]:
        """The lines, in the order of row_id; a torn one fails."""
        lines = self.output.read_text().splitlines()
        return sorted(lines, key=lambda line: int(json.loads(line)["row_id"]))

    def processes(self) -> list[int]:
        """Ids of running processes with the mark."""
        wanted = f"RLKIT_TEST_MARK={self.mark}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if wanted in environ.read_bytes() and environ.with_name("cmdline").read_bytes():
                    found.append(int(environ.parent.name))
            except OSError:
                continue
        return found

    def replicas(self) -> list[int]:
        return [pid for pid in self.processes() if b"EngineReplica" in _command(pid)]

    def raylet(self) -> int:
        return next(pid for pid in self.processes() if b"raylet/raylet" in _command(pid))

    def wait_until_gone(self) -> None:
        wait_until(lambda: not self.processes(), f"processes are left: {self.processes()}")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until(
    condition: Callable[[], object], complaint: str, *, process: subprocess.Popen[str] | None = None
) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{complaint}: {process.communicate()}")
        assert time.monotonic() < deadline, complaint
        time.sleep(0.002)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    rows = [{"prompt": f"{row}+1=", "answer": str(row + 1)} for row in range(ROWS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "slow_writer.py").write_text(SLOW_WRITER)
    (tmp_path / "engines.py").write_text(SLOW_ENGINE)
    (tmp_path / "hold.py").write_text(HOLD)
    (tmp_path / "generate.toml").write_text(
        f"[model]\npath = '{tiny_model()}'\n[generation]\nprompts = ['prompts.jsonl']\noutput = 'answers.jsonl'\n"
        "max_prompt_tokens = 32\nmax_response_tokens = 8\ntemperature = 1.0\nsamples_per_prompt = 2\nbatch_prompts = 9\n"
    )
    project = Project(tmp_path)
    yield project
    for pid in project.processes():
        os.kill(pid, signal.SIGKILL)


def expected_rows(project: Project, *arguments: str) -> list[str]:
    """Those of a run that nothing happens to."""
    project.run(*arguments)
    rows = project.rows()
    project.output.unlink()
    return rows


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_ten_kills_lose_and_double_no_row(project: Project) -> None:
    expected = expected_rows(project)
    assert len(expected) == ROWS
    chance = random.Random(7)
    whole = sum(len(line) + 1 for line in expected)
    torn = kills = 0
    while kills < 10:
        process = project.start(slow_writer=True)
        before = size(project.output)
        more = chance.uniform(0, 2 * (whole - before) / (10 - kills))
        wait_until(lambda at=before + more, p=process: size(project.output) > at or p.poll() is not None, "no progress")
        time.sleep(chance.uniform(0, 0.01))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        torn += not project.output.read_bytes().endswith(b"\n")
    project.run()
    assert project.rows() == expected
    assert torn, "no kill fell into the middle of a line: the test has lost its point"


def test_a_second_run_on_the_same_file_is_refused_before_the_first_answer(project: Project) -> None:
    """A scheduler that starts a job twice: nothing doubled, no two seeds in one file."""
    command = ("--engine", "engines.py:Waits", "--limit", "18")
    process = project.start(*command)
    lock = project.folder / ".answers.jsonl.lock"
    wait_until(lambda: size(lock), "the file is not locked", process=process)
    assert not project.output.exists()
    err = project.run(*command, "--seed", "7", code=2)
    assert f"another `rlkit generate` (process {process.pid} on " in err
    (project.folder / "go").touch()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert [json.loads(row)["row_id"] for row in project.rows()] == list(range(18))
    assert json.loads((project.folder / "answers.jsonl.origin.json").read_text())["run.seed"] == 0
    assert not lock.exists()


def test_an_engine_that_dies_ends_the_run_and_the_same_command_goes_on(project: Project) -> None:
    err = project.run("--engine", "engines.py:Dies", code=5)
    assert "the rollout engine is broken" in err and "CUDA error" in err
    assert "Traceback" not in err
    rows = [json.loads(line) for line in project.rows()]
    assert [row["row_id"] for row in rows] == list(range(18))
    assert not any("error" in row for row in rows)
    (project.folder / "engines.py").write_text(SLOW_ENGINE.replace("> 2", "> 200"))
    project.run("--engine", "engines.py:Dies")
    assert [json.loads(line)["row_id"] for line in project.rows()] == list(range(ROWS))


def test_a_replica_that_is_killed_costs_no_row(project: Project) -> None:
    engine = ("--engine", "engines.py:Slow")
    expected = expected_rows(project, *engine)
    project.hold.touch()
    process = project.start(*engine, "--replicas", "2")
    wait_until(lambda: size(project.output), "no first batch", process=process)
    victim = project.replicas()[0]
    os.kill(victim, signal.SIGKILL)
    project.hold.unlink()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert f"process {victim}" in err and "starting it anew (restart 1 of at most 5 in 600 s)" in err
    assert project.rows() == expected
    project.wait_until_gone()


def test_a_killed_driver_takes_its_replicas_with_it_and_the_rerun_completes(project: Project) -> None:
    engine = ("--engine", "engines.py:Slow")
    expected = expected_rows(project, *engine)
    project.hold.touch()
    process = project.start(*engine, "--replicas", "2")
    wait_until(lambda: size(project.output), "no first batch", process=process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    project.hold.unlink()
    project.wait_until_gone()
    assert 0 < len(project.rows()) < ROWS
    project.run(*engine, "--replicas", "2")
    assert project.rows() == expected
    project.wait_until_gone()


def test_control_c_in_the_terminal_stops_after_some_batches_and_leaves_no_process(project: Project) -> None:
    """A terminal sends the signal to every process of the command, Ray's too. Batches that are begun are finished."""
    engine = ("--engine", "engines.py:VerySlow")
    project.hold.touch()
    process = project.start(*engine, "--replicas", "2", start_new_session=True)
    wait_until(lambda: size(project.output), "no first batch", process=process)
    os.killpg(process.pid, signal.SIGINT)
    project.hold.unlink()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    project.wait_until_gone()
    assert 0 < len(project.rows()) < ROWS


def test_without_ray_s_node_process_the_run_ends_with_one_line(project: Project) -> None:
    process = project.start("--engine", "engines.py:VerySlow", "--replicas", "2")
    wait_until(lambda: size(project.output), "no first batch", process=process)
    raylet = project.raylet()
    os.kill(raylet, signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 7, err
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"Ray's node process (raylet, process {raylet}) has died" in errors[0]
    assert "Traceback" not in err
    assert not out.strip()
    project.wait_until_gone()
    assert all(json.loads(line) for line in project.rows())


def test_a_prompt_that_kills_replicas_is_a_row_with_an_error_until_it_is_tried_again(project: Project) -> None:
    err = project.run("--engine", "engines.py:Killer", "--replicas", "2", "--set", "cluster.request_attempts=2")
    rows = [json.loads(line) for line in project.rows()]
    assert [row["row_id"] for row in rows] == list(range(ROWS))
    assert {row["row_id"]: row["error"] for row in rows if "error" in row}.keys() == {13}
    assert "row 13 brought down 2 replicas and was given up" in rows[13]["error"]
    assert f"{ROWS - 1} of {ROWS} prompts answered, 1 failed (--retry-failed tries them again)" in err
    assert "is complete" in project.run("--engine", "engines.py:Killer")
    # The file that is the engine is part of what an answer depends on; here its fault is mended.
    (project.folder / "engines.py").write_text(SLOW_ENGINE.replace("== 13", "== -1"))
    project.run("--engine", "engines.py:Killer", "--retry-failed")
    rows = [json.loads(line) for line in project.rows()]
    assert [row["row_id"] for row in rows] == list(range(ROWS))
    assert not any("error" in row for row in rows)


@pytest.fixture
def talking(project: Project) -> Project:
    """The same prompts as messages, by a policy that calls a tool."""
    rows = [{"messages": [{"role": "user", "content": f"{row}+1="}]} for row in range(ROWS)]
    (project.folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (project.folder / "talk.py").write_text(TALK)
    (project.folder / "talk.jinja").write_text(TALK_TEMPLATE)
    (project.folder / "generate.toml").write_text(
        f"[model]\npath = '{tiny_model()}'\nchat_template = 'talk.jinja'\n[generation]\nprompts = ['prompts.jsonl']\n"
        "output = 'answers.jsonl'\nengine = 'talk.py:Caller'\ntools = ['talk.py:roll']\ntool_format = 'talk.py:Hash'\n"
        "max_prompt_tokens = 32\nmax_response_tokens = 40\nsamples_per_prompt = 2\nbatch_prompts = 9\nlog_probs = true\n"
    )
    return project


def test_kills_in_the_middle_of_conversations_lose_and_double_no_row(talking: Project) -> None:
    expected = expected_rows(talking)
    assert len(expected) == ROWS
    assert all("conversation" in answer for line in expected for answer in json.loads(line)["completions"])
    chance = random.Random(3)
    whole = sum(len(line) + 1 for line in expected)
    for kills in range(5):
        process = talking.start(slow_writer=True)
        before = size(talking.output)
        more = chance.uniform(0, 2 * (whole - before) / (5 - kills))
        wait_until(lambda at=before + more, p=process: size(talking.output) > at or p.poll() is not None, "no progress")
        time.sleep(chance.uniform(0, 0.3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    talking.run()
    assert talking.rows() == expected


def test_the_turns_of_a_conversation_stay_with_their_replica(talking: Project) -> None:
    expected = expected_rows(talking)
    asked = talking.folder / "asked.txt"
    asked.unlink()
    talking.run("--replicas", "2")
    assert talking.rows() == expected
    places: dict[str, list[str]] = {}
    for line in asked.read_text().splitlines():
        process, _, name = line.partition(" ")
        places.setdefault(name, []).append(process)
    assert len(places) == ROWS
    # Once for both samples together, then each for itself.
    assert all(len(found) == 3 and len(set(found)) == 1 for found in places.values())
    assert len({process for found in places.values() for process in found}) == 2
    talking.wait_until_gone()


def test_a_replica_that_is_killed_costs_no_conversation(talking: Project) -> None:
    """Several samples of a prompt are one conversation each, but all of them begin with one replica."""
    samples = ("--samples", "4")
    expected = expected_rows(talking, *samples)
    talking.hold.touch()
    process = talking.start(*samples, "--replicas", "3")
    wait_until(lambda: size(talking.output), "no first batch", process=process)
    os.kill(talking.replicas()[0], signal.SIGKILL)
    talking.hold.unlink()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "starting it anew (restart 1 of at most 5 in 600 s)" in err
    assert talking.rows() == expected
    talking.wait_until_gone()


def test_a_run_without_replicas_never_imports_ray(project: Project) -> None:
    watch = (
        "import sys\nfrom rlkit.cli.main import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' in sys.modules\nassert 'ray' not in sys.modules, 'ray was imported'\n"
    )
    command = [sys.executable, "-c", watch, "generate", "generate.toml", "--limit", "2"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
