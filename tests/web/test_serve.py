"""Where the apps are served, and what it takes."""

import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from sotopia_gym.errors import ConfigError
from sotopia_gym.web.address import Address
from tests.web.people import a_study


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (Address(), True),
        (Address("localhost"), True),
        (Address("127.0.0.2"), True),
        (Address("::1"), True),
        (Address("0.0.0.0"), False),
        (Address("192.168.1.4"), False),
        (Address("study.example.org"), False),
        (Address(url="https://study.example.org"), False),
    ],
)
def test_only_this_machine_goes_without_a_link(address, local):
    assert address.local is local


@pytest.mark.parametrize("url", ["study.example.org", "ftp://x", "https://", "https://x/study"])
def test_the_address_people_open_is_that_of_a_host(url):
    with pytest.raises(ConfigError, match="http"):
        Address(url=url)


@pytest.mark.parametrize(
    ("address", "host", "answered"),
    [
        (Address(), "127.0.0.1:8000", True),
        (Address(), "localhost:8000", True),
        (Address("::1"), "[::1]:8000", True),
        (Address(), "evil.example", False),
        (Address("0.0.0.0"), "anything.example", True),
        (Address(url="https://study.example.org"), "study.example.org", True),
        (Address(url="https://study.example.org"), "evil.example", False),
    ],
)
def test_an_app_answers_under_the_names_of_its_address(tmp_path, address, host, answered):
    _, app = a_study(tmp_path, hosts=address.hosts)
    status = TestClient(app).get("/", headers={"Host": host}).status_code
    assert status == (200 if answered else 400)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_library_and_its_command_line_do_without_the_extra():
    web = "'starlette', 'uvicorn', 'jinja2', 'markupsafe'"
    done = run(
        "import sys, sotopia_gym, sotopia_gym.cli\n"
        f"sys.exit(' '.join({{{web}}} & set(sys.modules)) or 0)"
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("starlette", "'annotate', 'serve', __file__"),
        ("uvicorn", "'play', '--web'"),
        ("jinja2", "'annotate', 'serve', __file__"),
    ],
)
def test_without_the_extra_the_commands_say_what_to_install(missing, command, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.modules[{missing!r}] = None\n"
        f"sys.argv = ['sotopia-gym', {command}]\n"
        "from sotopia_gym.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert missing in done.stderr
    assert "pip install 'sotopia-gym[web]'" in done.stderr


def test_nobody_can_be_the_partner_at_the_terminal_of_a_server():
    done = run(
        "import sys\n"
        "sys.argv = ['sotopia-gym', 'play', '--web', '--partner', 'human']\n"
        "from sotopia_gym.cli import main\nmain()\n"
    )
    assert done.returncode == 2
    assert "played by an agent" in done.stderr
