"""The documentation site: `make docs` builds it into build/site from the Markdown of the repository."""

from __future__ import annotations

from harness import __version__

project = "itm-harness"
author = "the authors of itm-harness"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]

# The root of the repository is the source, so that boards and measurements are pages too, and links are GitHub's own.
root_doc = "docs/index"
include_patterns = ["docs/**", "reports/reference/**", "reports/measurements/**", "CHANGELOG.md", "CONTRIBUTING.md"]
html_extra_path = ["redirect"]  # index.html of the site, which leads to docs/index.html

html_theme = "furo"
html_title = "itm-harness"
html_show_copyright = False
html_copy_source = False
myst_heading_anchors = 4  # of headings as GitHub names them
suppress_warnings = ["toc.not_included"]  # boards lead to their rows, the index of decisions to decisions
highlight_language = "none"  # of blocks that name no language
copybutton_exclude = ".linenos, .gp"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"  # classes are made by calls, never by their constructors
