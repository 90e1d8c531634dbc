"""For the site: what the pages link to outside of docs/ is not on it, and becomes the path in the repository."""

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)\s]*)\)")


def on_page_markdown(markdown: str, *, page: Any, **_others: object) -> str:
    """Called by MkDocs for each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2].partition("#")[0]))
        if path.startswith("docs/"):
            return link[0]
        return (
            link[1] if path.rstrip("/") == link[1].strip("`").rstrip("/") else f"{link[1]} (`{path}` in the repository)"
        )

    return _LINK.sub(replaced, markdown)
