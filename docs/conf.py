"""How the documentation is built. Nothing is fetched for it: it builds on a machine alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from ghmirror_tw import __version__  # noqa: E402 - it is found by what stands above

project = "ghmirror"
author = "the ghmirror authors"
project_copyright = author
version = release = __version__

extensions = ["docs.extensions.reference", "docs.extensions.rooms"]
exclude_patterns = ["extensions", "static"]

nitpicky = True
smartquotes = False
highlight_language = "none"

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["reference.css"]
html_title = f"ghmirror {__version__}"
html_copy_source = False
html_show_sphinx = False
