"""The sandbox of pictures: processor time is the verdict, and it may do nothing but decode."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

from domain.media import ProbeInterrupted
from streams.media import probe as probing
from streams.media.kinds import kind_of
from streams.media.probe import probe
from tests.checkout import ROOT

PNG = io.BytesIO()
Image.new("RGB", (20, 10)).save(PNG, "PNG")


def decoder(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the probe start this code in place of the sandbox."""
    start = asyncio.create_subprocess_exec

    async def start_code(program: str, *_: str, **how: object) -> asyncio.subprocess.Process:
        return await start(program, "-c", textwrap.dedent(code), **how)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_code)


async def test_a_picture_that_uses_up_its_processor_time_takes_too_long(monkeypatch):
    decoder(
        monkeypatch,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
        while True:
            pass
        """,
    )
    assert (await probe(PNG.getvalue(), "a.png")).error == "the file takes too long"


async def test_time_that_passes_decides_nothing(monkeypatch):
    monkeypatch.setattr(probing, "_WALL_S", 0.3)
    decoder(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(ProbeInterrupted):
        await probe(PNG.getvalue(), "a.png")


@pytest.mark.parametrize("code", ["import os; os.kill(os.getpid(), 9)", "raise MemoryError", "import os; os._exit(3)"])
async def test_a_decoder_that_the_machine_ends_has_no_verdict(monkeypatch, code):
    decoder(monkeypatch, code)
    with pytest.raises(ProbeInterrupted):
        await probe(PNG.getvalue(), "a.png")


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "print('{}')",
        """print('{"mediaType": "image/png", "width": 1, "height": 1}')""",
        "print('no json')",
        """print('{"mediaType": "text/html", "width": 1, "height": 1}')""",
        """print('{"mediaType": "image/png", "width": -1, "height": 1}')""",
        "print('x' * 1_000_000)",
        "print('x' * 10_000_000, flush=True); import time; time.sleep(60)",
    ],
)
async def test_a_decoder_that_its_picture_breaks_is_not_believed(monkeypatch, code):
    decoder(monkeypatch, code)
    info = await probe(PNG.getvalue(), "a.png")
    assert info.error == "the file cannot be read within the limits"
    assert (info.clean, info.thumbnail) == (None, None)


def test_what_a_decoder_makes_into_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "clean").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        probing._read(tmp_path / "clean")


@pytest.mark.parametrize("kind", ["PPM", "ICO", "PCX", "TGA", "SGI", "DDS", "ICNS", "EPS", "PDF"])
async def test_no_format_is_opened_but_those_that_are_served(kind, tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, kind)
    (tmp_path / "original").write_bytes(out.getvalue())
    result = await sandbox(tmp_path, "image/png")
    assert '"error": "the picture is damaged or of an unknown kind"' in result


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "MPO"])
async def test_the_formats_that_are_served_are_decoded_in_confinement(kind, tmp_path):
    out = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(out, kind)
    (tmp_path / "original").write_bytes(out.getvalue())
    result = await sandbox(tmp_path, kind_of(out.getvalue()))
    assert '"width": 64, "height": 48' in result
    assert "seccomp" in result


async def sandbox(folder: Path, kind: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams.media.sandbox",
        str(folder),
        str(os.getpid()),
        kind,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return output.decode()


ESCAPES = {
    "the network": "socket.create_connection(('127.0.0.1', PORT))",
    "a socket of any kind": "socket.socket(socket.AF_UNIX)",
    "another program": "subprocess.run(['/bin/true'])",
    "another process": "os.fork()",
    "a signal to its parent": "os.kill(os.getppid(), 0)",
    "a file of the machine": "open('/etc/passwd').read()",
    "the environment of its parent": "open(f'/proc/{os.getppid()}/environ').read()",
    "a file elsewhere": "open(ELSEWHERE, 'w')",
    "a link": "os.symlink('/etc/passwd', FOLDER + '/clean')",
    "a folder": "os.mkdir(FOLDER + '/sub')",
}


@pytest.mark.parametrize("attempt", ESCAPES.values(), ids=ESCAPES)
def test_a_decoder_that_was_taken_over_reaches_nothing(attempt, tmp_path):
    inside, elsewhere = tmp_path / "inside", tmp_path / "elsewhere"
    inside.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
        import os, socket, subprocess, sys
        from pathlib import Path
        from streams.media.confinement import confine
        FOLDER, ELSEWHERE, PORT = {str(inside)!r}, {str(elsewhere)!r}, {server.getsockname()[1]}
        layers = confine([Path(os.__file__).parent], Path(FOLDER))
        open(FOLDER + "/clean", "w").write("this it may")
        try:
            {attempt}
        except OSError as exc:
            print(*layers, "refused", exc.errno)
        """
        run = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    if "landlock" not in done.stdout and any(word in attempt for word in ("open", "symlink", "mkdir")):
        pytest.skip("this kernel has no Landlock")
    assert "refused" in done.stdout, done.stderr
    assert (inside / "clean").read_text() == "this it may"


def test_a_decoder_may_start_threads():
    code = """
    import os, threading
    from pathlib import Path
    from streams.media.confinement import confine
    confine([Path(os.__file__).parent], Path("/tmp"))
    thread = threading.Thread(target=print, args=("it runs",))
    thread.start()
    thread.join()
    """
    run = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "it runs\n"
