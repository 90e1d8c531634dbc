"""For the site: pictures of the dashboard, where `make screenshots` has taken them. The repository holds none.

A page says where one belongs, as `<!-- picture: NAME: what is seen on it -->`.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

TAKEN = "build/screenshots"
"""Beside the folder of the documents."""
FOLDER = "pictures"
_PLACE = re.compile(r"<!-- picture: ([\w-]+): (.+?) -->")


def on_files(files: Files, *, config: Any) -> Files:
    """Called by MkDocs once: the pictures become files of the site."""
    for taken in sorted((Path(config.docs_dir).parent / TAKEN).glob("*.png")):
        files.append(File.generated(config, f"{FOLDER}/{taken.name}", abs_src_path=str(taken)))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_others: object) -> str:
    """Called by MkDocs for each page: where a picture was taken, it is shown."""

    def shown(place: re.Match[str]) -> str:
        path = f"{FOLDER}/{place[1]}.png"
        if files.get_file_from_path(path) is None:
            return ""
        return f"![{place[2]}]({posixpath.relpath(path, posixpath.dirname(page.file.src_uri))})"

    return _PLACE.sub(shown, markdown)
