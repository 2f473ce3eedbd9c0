"""The HTML report: one file that needs no network, with the matrix, outputs, logs and statistics.

What failed is HTML that the template writes (`front`), so that it is there at once, without a
script, and on paper. All other data is JSON, compressed with gzip and written as base64, so that
nothing in a result can be read as HTML. The page's script (`page/main.js` and its imports) unpacks
it with the browser's DecompressionStream, and shows it as text only. The matrix is one block of
data. Outputs and logs are in further blocks, which are unpacked when the user opens a cell. The
page's Content-Security-Policy allows only the page's own script.
"""

import base64
import functools
import gzip
import json
import re
from datetime import UTC, datetime
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
from markupsafe import Markup

from bpfmatrix import __version__
from bpfmatrix.host.checksum import sha256
from bpfmatrix.report.failure_items import code_text
from bpfmatrix.report.front import front
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.origin import ReportOrigin
from bpfmatrix.report.page_data import TextTable, page_data

__all__ = ["render"]

_UNKNOWN = ReportOrigin()
# The longest text that is kept whole. The page takes the first limit at which all texts fit.
_TEXT_LIMITS_CHARACTERS = (100_000, 20_000, 5_000, 1_000, 200)
_ALL_TEXTS_BYTES = 1_200_000


def render(matrix: Matrix, origin: ReportOrigin = _UNKNOWN) -> str:
    """Return the page. The more text there is, the shorter is the excerpt of each long text."""
    for limit in _TEXT_LIMITS_CHARACTERS:
        texts = TextTable(limit)
        data = page_data(matrix, texts, origin.declared)
        starts, blocks = texts.blocks()
        packed_blocks = [_packed(block) for block in blocks]
        if sum(map(len, packed_blocks)) <= _ALL_TEXTS_BYTES:
            break
    data["blocks"] = starts
    page = resources.files("bpfmatrix.report") / "page"
    script = _script(page)
    style = (page / "report.css").read_text(encoding="utf-8")
    return _template().render(
        **front(matrix, origin),
        code_text=code_text,
        generated=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        data=_packed(data),
        blocks=packed_blocks,
        # Files of this package: they have nothing from a result.
        script=Markup(script),  # noqa: S704
        style=Markup(style),  # noqa: S704
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = resources.files("bpfmatrix.report") / "page/report.html.j2"
    return environment.from_string(page.read_text(encoding="utf-8"))


# The only forms in which the page's modules import and export, as Biome formats them.
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async function |const |function )", re.MULTILINE)


def _script(page: Traversable) -> str:
    """Return the modules of the page as one script.

    A browser does not import modules into a page that it opens as a file. So this joins them, each
    after the modules that it imports, and removes `import` and `export`. All top-level names are
    then names of one script. Two rules follow: a module imports only in the form
    `import { name } from "./module.js"`, and no two modules have the same top-level name.
    """
    modules: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in modules:
            text = (page / name).read_text(encoding="utf-8")
            for imported in _IMPORT.findall(text):
                add(imported)
            modules[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add("main.js")
    return "\n".join(modules.values())


def _packed(data: Any) -> str:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _hash(text: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256(text))).decode()
