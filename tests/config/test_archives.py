"""Which mirror of Debian counts of those that a user named, and the user's own file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.config import archives, kernels_yaml, user
from bpfmatrix.config.archives import Archives, named, security_beside
from bpfmatrix.config.user import UserConfig
from bpfmatrix.errors import ConfigError, UsageError

HERE, THERE = "http://a.example/debian", "https://b.example/debian/"


@pytest.fixture(autouse=True)
def _nothing_declared() -> Iterator[None]:
    archives.declare(None)
    yield
    archives.declare(None)


def test_the_variable_wins_then_kernels_yaml_then_the_users_file(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert named(environ) is None
    file = user.path(environ)
    user.write(file, UserConfig(archives=Archives(debian=HERE)))
    found = named(environ)
    assert found is not None
    assert (found.archives.debian, found.by) == (HERE, f"{tmp_path}/bpfmatrix/config.yaml")
    archives.declare(Archives.model_validate({"debian": THERE, "debian-security": HERE}))
    found = named(environ)
    assert found is not None
    assert (found.archives.security, found.by) == (HERE, "kernels.yaml")
    found = named({**environ, "BPFMATRIX_DEBIAN_ARCHIVE": "file:///srv/debian"})
    assert found is not None
    assert (found.archives.debian, found.archives.security) == ("file:///srv/debian", None)
    assert found.by == "BPFMATRIX_DEBIAN_ARCHIVE"


@pytest.mark.parametrize("name", ["BPFMATRIX_DEBIAN_ARCHIVE", "BPFMATRIX_DEBIAN_SECURITY_ARCHIVE"])
def test_a_variable_that_is_no_url(name: str) -> None:
    environ = {"BPFMATRIX_DEBIAN_ARCHIVE": HERE, name: "mirror.example.org/debian"}
    with pytest.raises(UsageError, match=f"^{name} is 'mirror.example.org/debian', which is not"):
        named(environ)


def test_a_relative_xdg_config_home_is_ignored() -> None:
    assert user.path({"XDG_CONFIG_HOME": "x"}) == Path.home() / ".config/bpfmatrix/config.yaml"


def test_the_users_file_is_written_as_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "made/config.yaml"
    data = {"debian": HERE, "debian-security": THERE, "check_dates": False}
    settings = UserConfig(archives=Archives.model_validate(data))
    user.write(file, settings)
    assert user.load(file) == settings
    assert user.load(tmp_path / "none.yaml") == UserConfig()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("archives: {debian: x}", "archives.debian: expected a URL"),
        (
            "archives: {debian-security: http://a.example/s}",
            "archives.debian: this key is required",
        ),
        ("archive: {}", 'unknown key (did you mean "archives"?)'),
        ("archives: {debain: x}", 'archives.debain: unknown key (did you mean "debian"?)'),
        ("archives: [", "line 1:"),
    ],
)
def test_a_wrong_file_of_the_user_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        user.load(file)
    assert raised.value.what.startswith(f"{file}: ")
    assert sentence in raised.value.what


def test_kernels_yaml_names_an_archive(tmp_path: Path) -> None:
    file = tmp_path / "kernels.yaml"
    file.write_text(f"archives: {{debian: {HERE}}}\nkernels: {{a: {{source: {{oci: x/y}}}}}}\n")
    assert kernels_yaml.load(file).archives == Archives(debian=HERE)


@pytest.mark.parametrize(
    ("uri", "beside"),
    [
        (HERE, "http://a.example/debian-security/"),
        (THERE, "https://b.example/debian-security/"),
        ("http://a.example/", None),
        ("http://a.example/mydebian/", None),
        ("mirror+file:/etc/apt/mirrors/debian.list", None),
    ],
)
def test_the_security_archive_beside_a_mirror(uri: str, beside: str | None) -> None:
    assert security_beside(uri) == beside
