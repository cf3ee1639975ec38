"""Servers for clients: `glmconv serve` of this tree on a free port, and a host of pictures and clips."""
import contextlib
import http.server
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.request
import zlib

from checkpoints import BIN


@contextlib.contextmanager
def serve(folder, *flags, env=()):
    """The base URL of a server, until the block ends. Ctrl-C has to end it with exit code 0."""
    p = subprocess.Popen([str(BIN), "serve", str(folder), "--port", "0", *flags], stderr=subprocess.PIPE, text=True, env={**os.environ, **dict(env)})
    try:
        said = []
        for line in p.stderr:
            said.append(line)
            if found := re.search(r" on (http://\S+)$", line.strip()):
                threading.Thread(target=p.stderr.read, daemon=True).start()
                yield found[1]
                break
        else:
            raise RuntimeError("glmconv serve: " + "".join(said))
    finally:
        p.send_signal(2)
        code = p.wait(30)
    assert code == 0, f"glmconv serve ended with {code}"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def peer(command, url, log, seconds, stop=signal.SIGTERM, env=None):
    """A peer's own server, from when it answers url to the end of the block. Its output goes to log; seconds is what it may take to start."""
    with log.open("w") as out:
        p = subprocess.Popen([str(x) for x in command], stdout=out, stderr=out, env=env)
    start = time.time()
    try:
        while True:
            assert p.poll() is None and time.time() < start + seconds, log.read_text()[-3000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            time.sleep(0.5)
        yield
    finally:
        p.send_signal(stop)
        p.wait(120)


def png(w=64, h=64):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(v for x in range(w) for v in (200, 4 * x % 256, 4 * y % 256)) for y in range(h))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def clip(w=64, h=64, frames=8):
    frame = bytes(128 for _ in range(w * h)) + bytes(128 for _ in range(w * h // 2))
    return b"YUV4MPEG2 W%d H%d F4:1 Ip A1:1 C420jpeg\n" % (w, h) + (b"FRAME\n" + frame) * frames


class Host(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = clip() if self.path.endswith(".mp4") else png()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def media():
    """The address of a host that has a picture, or a clip of YUV4MPEG2, under every path."""
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{s.server_port}"
    finally:
        s.shutdown()
        s.server_close()
