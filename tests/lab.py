"JupyterLab on loopback and one notebook open in it, for tests that need a real browser."

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

KERNEL_IDLE = """() => {
    const context = window.jupyterapp?.shell?.currentWidget?.sessionContext, kernel = context?.isReady && context.session?.kernel;
    return kernel && kernel.connectionStatus === "connected" && kernel.status === "idle"; }"""
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


def chromium() -> str | None:
    "Where chromium is, or None."
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    "A headless chromium."
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=chromium(), headless=True, args=arguments)
        try:
            yield opened
        finally:
            opened.close()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _environment(scratch: Path) -> dict[str, str]:
    "Nothing is read from the user's home, nothing written to it."
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    names += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, **{n: str(scratch / n.lower()) for n in names}, "PATH": here}


def _application(scratch: Path) -> Path:
    "A copy of the shipped application with our settings, which are only read from inside it."
    shipped, app = Path(sys.prefix) / "share" / "jupyter" / "lab", scratch / "app"
    (app / "settings").mkdir(parents=True)
    (app / "settings" / "overrides.json").write_text(json.dumps(SETTINGS))
    for name in ("static", "schemas", "themes"):
        (app / name).symlink_to(shipped / name)
    return app


@contextlib.contextmanager
def server(root: Path, scratch: Path) -> Iterator[str]:
    "A JupyterLab over the folder `root`; gives its address."
    port, log = _free_port(), scratch / "jupyter.log"
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": root,
        "ServerApp.disable_check_xsrf": True,
        "IdentityProvider.token": "",
        "LabApp.app_dir": _application(scratch),
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=_environment(scratch), start_new_session=True)
        try:
            yield _when_up(f"http://127.0.0.1:{port}", process, log)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _when_up(url: str, process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/api/status", timeout=2).close()
            return url
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


class Notebook:
    "A notebook in a page."

    def __init__(self, page: Page, url: str, name: str):
        self.page, self.errors, self.elsewhere = page, [], []
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        local = (url, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(local) else self.elsewhere.append(r.url))
        page.goto(f"{url}/lab/tree/{name}?reset")
        page.wait_for_function(KERNEL_IDLE, timeout=60_000)  # the toolbar says idle before there is a kernel

    def run_all(self) -> None:
        "Start all cells."
        self.page.locator(".lm-MenuBar-item", has_text="Run").first.click()
        self.page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()

    def prompts(self) -> list[str]:
        "What stands before each code cell: `[3]:`, `[*]:` or `[ ]:`."
        return [p.strip() for p in self.page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts()]

    def wait(self, timeout_s: float = 120.0) -> None:
        "Wait until every cell has run."
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            prompts = self.prompts()
            if prompts and not any("*" in p for p in prompts) and any(p.strip("[]:").isdigit() for p in prompts):
                return
            self.page.wait_for_timeout(200)
        raise TimeoutError(f"still busy after {timeout_s} s: {self.prompts()}")

    def failures(self) -> list[str]:
        "The tracebacks in the notebook."
        return self.page.locator(
            '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
        ).all_inner_texts()

    def come_back(self) -> None:
        "Save it, load the page anew and wait for its kernel. A page that is left before all is saved comes back without its outputs."
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function("() => window.jupyterapp.shell.currentWidget.context.model.dirty === false")
        self.page.reload()
        self.page.wait_for_function(KERNEL_IDLE, timeout=60_000)
