"""How soon the page is of use: python tests/helpers/ready.py build/web/index.html [times]

Prints, for Chromium and Firefox, the least milliseconds from navigation to the enabled button, and
those of the first training of 1,000 steps (d16, batch 1), compilation included.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from browser import Browser

# Runs in each page before its own scripts.
WATCH = """() => {
  const look = () => {
    const button = document.getElementById("start");
    if (button && !button.disabled) window.readyAt = performance.now();
    else setTimeout(look, 1);
  };
  look();
}"""
ROW = "document.querySelector('#rows li[data-row=\"{}/1\"]').innerText"


def measure(browser: Browser, page: Path) -> tuple[float, float]:
    """Milliseconds to the button, and of the first training by the fastest module that runs."""
    browser.open(page)
    browser.wait_until("window.readyAt")
    ready = browser.run("window.readyAt")
    browser.run("document.getElementById('start').click()")
    for kind in ("relaxed", "simd"):
        row = ROW.format(kind)
        browser.wait_until(f"/first training|no relaxed SIMD/.test({row})")
        if match := re.search(r"first training\s+([\d,.]+) ms", browser.run(row)):
            return ready, float(match[1].replace(",", ""))
    raise RuntimeError(f"{browser.name} runs no SIMD module")


def main() -> None:
    page, times = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    for name in ("chromium", "firefox"):
        browser = Browser(name, Path(tempfile.mkdtemp()))
        try:
            browser.call("script.addPreloadScript", functionDeclaration=WATCH)
            found = [measure(browser, page) for _ in range(times)]
        finally:
            browser.close()
        ready, first = (min(column) for column in zip(*found, strict=True))
        print(f"{name}: ready after {ready:.0f} ms, first training {first:.0f} ms")


if __name__ == "__main__":
    main()
