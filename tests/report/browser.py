"""Pages measured by Chromium itself, in a frame as narrow as a phone: a headless window is never below 500 pixels."""

import os
import shutil
import subprocess

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=4000 --dump-dom"
)
# What a browser makes of a page only a browser can tell; `.ci/run` installs one, so that nothing is skipped there.
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium on this machine; `apt install chromium` brings it"
)


def told_in_frame(page, script, folder, *, width):
    """The document once ``script``, run at the end of the page in a frame of this width, has posted its message."""
    scripted = page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    scripted = scripted.replace("</body>", f"<script>{script}</script></body>")
    (folder / "page.html").write_text(scripted, encoding="utf-8")
    (folder / "frame.html").write_text(
        f"<!doctype html><body><iframe src=page.html width={width} height=900 style='border:0'></iframe>"
        "<script>onmessage = e => document.body.append(e.data)</script></body>",
        encoding="utf-8",
    )
    return subprocess.run(
        [CHROMIUM, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", (folder / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"HOME": str(folder)},
    ).stdout
